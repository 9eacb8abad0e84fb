"""Trackers: other tools that are told what a run writes down, each behind one small interface.

The rows of a run stay the truth. After a kill every row up to the checkpoint is told again, so a tracker that lost
some, or could not be reached, has them all in the end; and one that has them must not have them twice.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from imgkit.errors import UsageError, brief
from imgkit.registry import Registry


class Tracker(Protocol):
    """What a run tells of itself. Whatever a method raises switches the tracker off, and the run goes on."""

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Begin, or go on with what was begun for the same `config["id"]`.

        Args:
            run_dir: the run's folder, absolute; files of a tracker belong below it.
            config: "id" and "name" of the run, then its recipe's values by key: "train.batch_size".
        """

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Numbers after `step` updates, by name: "step/loss", "epoch/val/top1".

        An epoch's may come after those of a few later steps: its checkpoint is written meanwhile.
        """

    def image(self, step: int, name: str, path: Path) -> None:
        """A picture of the run's end, an image file: "val/0000"."""

    def finish(self, status: str) -> None:
        """Nothing follows in this life of the run: "finished", "stopped" (it may go on) or "failed"."""


TRACKERS: Registry[Callable[[], Tracker]] = Registry("tracker")
"""Makers by name; plugins add theirs."""


class Tracking:
    """The trackers of a run, all told the same. One that fails is told of once and switched off.

    Args:
        names: of the trackers.
        warn: told of a failure.
    """

    def __init__(self, names: Iterable[str], warn: Callable[[str], None]) -> None:
        self._on = {name: TRACKERS[name] for name in names}
        self._started: dict[str, Tracker] = {}
        self._warn = warn

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Begin with each."""
        for name, make in self._on.items():
            self._try(name, lambda make=make, name=name: self._begin(name, make, run_dir, config))  # type: ignore[misc]

    def row(self, group: str, row: Mapping[str, Any]) -> None:
        """Each finite number of a row but its step, as GROUP/KEY."""
        numbers = {
            f"{group}/{name}": float(value) for name, value in row.items() if name != "step" and _is_finite(value)
        }
        self._each(lambda tracker: tracker.log(row["step"], numbers))

    def image(self, step: int, name: str, path: Path) -> None:
        """A picture, to each."""
        self._each(lambda tracker: tracker.image(step, name, path))

    def finish(self, status: str) -> None:
        """End each that began and did not fail; nothing the second time."""
        self._each(lambda tracker: tracker.finish(status))
        self._started = {}

    def _begin(self, name: str, make: Callable[[], Tracker], run_dir: Path, config: Mapping[str, Any]) -> None:
        tracker = make()
        tracker.start(run_dir, config)
        self._started[name] = tracker

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._started.items()):
            self._try(name, lambda tracker=tracker: tell(tracker))  # type: ignore[misc]

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # of any library, on any network: none of it is worth a training
            self._started.pop(name, None)
            self._warn(
                f"the tracker {name} failed and is off from here on ({type(error).__name__}: {brief(error)}); the "
                "run goes on, and a resume tells it everything again"
            )


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@TRACKERS.register("tensorboard")
class TensorBoard:
    """Event files in `tensorboard/`."""

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Open a new file; older ones stay, and TensorBoard leaves out what is told again."""
        from torch.utils.tensorboard import SummaryWriter

        place = run_dir / "tensorboard"
        self._writer = SummaryWriter(str(place), purge_step=0 if place.is_dir() else None)
        self._writer.add_text("config", f"```json\n{json.dumps(dict(config), indent=1)}\n```")

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write each number."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, path: Path) -> None:
        """Write the picture, encoded anew."""
        import numpy as np

        from imgkit.data.decode import load_image

        self._writer.add_image(name, np.asarray(load_image(path)), step, dataformats="HWC")

    def finish(self, status: str) -> None:
        """Write what is still in memory."""
        self._writer.close()


@TRACKERS.register("mlflow")
class MLflow:
    """A run of MLflow in `mlflow.db` of the run's folder, or where MLFLOW_TRACKING_URI says."""

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Find the run by its id, and what it holds; or make it, with the recipe as its parameters."""
        for name, value in _MLFLOW.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Param

        own = f"sqlite:///{run_dir / 'mlflow.db'}"
        self._client = client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or own)
        name, place = os.environ.get("MLFLOW_EXPERIMENT_NAME", "imgkit"), (run_dir / "mlflow").as_uri()
        known = client.get_experiment_by_name(name)
        artifacts = None if os.environ.get("MLFLOW_TRACKING_URI") else place
        experiment = known.experiment_id if known else client.create_experiment(name, artifact_location=artifacts)
        found = client.search_runs([experiment], f"tags.`imgkit.id` = '{config['id']}'")
        made = found or [client.create_run(experiment, tags={"imgkit.id": config["id"]}, run_name=config["name"])]
        self._run, self._there = made[0].info.run_id, set[tuple[str, int]]()
        for key in found[0].data.metrics if found else ():
            self._there |= {(key, point.step) for point in client.get_metric_history(self._run, key)}
        params = [] if found else [Param(key, str(value)[:6000]) for key, value in config.items()]
        for first in range(0, len(params), 100):  # MLflow's most
            client.log_batch(self._run, params=params[first : first + 100])
        client.update_run(self._run, status="RUNNING")

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add the numbers that are not there yet."""
        from mlflow.entities import Metric

        now, new = int(1000 * time.time()), {key for key in scalars if (key, step) not in self._there}
        self._client.log_batch(self._run, [Metric(key, scalars[key], now, step) for key in scalars if key in new])
        self._there |= {(key, step) for key in new}

    def image(self, step: int, name: str, path: Path) -> None:
        """Keep the file as an artifact."""
        self._client.log_artifact(self._run, str(path), f"images/{Path(name).parent}")

    def finish(self, status: str) -> None:
        """Say how the run ended, in MLflow's words."""
        self._client.set_terminated(self._run, {"finished": "FINISHED", "stopped": "KILLED"}.get(status, "FAILED"))


@TRACKERS.register("wandb")
class WandB:
    """Files for `wandb sync` in `wandb/`, without a network; WANDB_MODE=online sends them at once."""

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Begin the run of this id anew: what an earlier life wrote here comes again, all of it."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        for old in (run_dir / "wandb").glob(f"offline-run-*-{config['id']}"):
            shutil.rmtree(old)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "imgkit"),
            id=config["id"],
            name=config["name"],
            config={key: value for key, value in config.items() if key not in ("id", "name")},
            dir=str(run_dir),
            mode=mode,
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
        )
        self._run.define_metric("*", step_metric="updates")  # wandb's own step has to rise
        self._sent = self._run.summary.get("updates", -1) if self._run.resumed else -1

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add numbers, but those that a server has."""
        if step > self._sent:
            self._run.log({"updates": step, **scalars})

    def image(self, step: int, name: str, path: Path) -> None:
        """Add the picture."""
        import wandb

        self._run.log({"updates": step, name: wandb.Image(str(path))})

    def finish(self, status: str) -> None:
        """Close the files."""
        self._run.finish(exit_code=0 if status == "finished" else 1)


PACKAGED = ("tensorboard", "mlflow", "wandb")
"""imgkit's own, each called as its package and its extra."""
_MLFLOW = {  # unless the environment says otherwise: no word to its makers, and no hour of waiting for a dead server
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def check_trackers(names: Iterable[str]) -> None:
    """See that there is each of these trackers.

    Raises:
        UsageError: if one is not known, or its package is missing.
    """
    for name in names:
        TRACKERS[name]
        if name in PACKAGED and find_spec(name) is None:
            raise UsageError(
                f"run.track names {name}, but the package {name} is not installed.",
                f'pip install "imgkit-timm[{name}]", or leave it out: history.jsonl and steps.jsonl hold the same.',
            )
