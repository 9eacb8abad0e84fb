"""trials.json: what is known of a sweep's trials, as text in its folder, for reports; made from the storage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from imgkit.errors import DiskError, printable
from imgkit.recipe.fields import Task
from imgkit.recipe.monitors import Way, is_better, way
from imgkit.run import RunFolder
from imgkit.sweeps.schema import Choices, Domain, Range

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from imgkit.sweeps.plan import Aim, Asked

FILE = "trials.json"
SCHEMA = 1


@dataclass(frozen=True)
class Row:
    """One trial.

    Args:
        number: from 0 on.
        run: the name of its run.
        state: "finished", "pruned", "failed", "running" or "waiting".
        params: key -> value, as Optuna keeps it.
        value: the monitor at the best epoch; None unless finished.
        epochs: the monitor after each evaluation.
        reason: why it was pruned, or failed.
        host: where it was trained.
        seconds: from its draw to its end; None before that.
        data: fingerprint of its images; "" where it is not known.
    """

    number: int
    run: str
    state: str
    params: Mapping[str, float | int | str | bool]
    value: float | None
    epochs: Sequence[float]
    reason: str
    host: str
    seconds: float | None
    data: str


@dataclass(frozen=True)
class Record:
    """A sweep's trials.

    Args:
        name: of the sweep.
        monitor: what they are compared by.
        task: one label an image, or any number.
        asked: how many trials were asked for.
        sampler: "tpe" or "random".
        pruner: "median" or "none".
        space: key -> what it may be.
        rows: by number.
    """

    name: str
    monitor: str
    task: Task
    asked: int
    sampler: str
    pruner: str
    space: Mapping[str, Domain]
    rows: Sequence[Row]

    @property
    def way(self) -> Way:
        """Whether a greater or a smaller value is better."""
        return way(self.monitor, self.task)

    @property
    def finished(self) -> list[Row]:
        """Those with a value, by number."""
        return [row for row in self.rows if row.value is not None]

    @property
    def best(self) -> Row | None:
        """The first of those than which none is better; None where none is finished."""
        best: Row | None = None
        for row in self.finished:
            if best is None or is_better(cast(float, row.value), cast(float, best.value), self.monitor, self.task):
                best = row
        return best

    def count(self, state: str) -> int:
        """How many trials are in a state."""
        return sum(row.state == state for row in self.rows)


_STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


def record_of(asked: "Asked", aim: "Aim", trials: "Sequence[FrozenTrial]") -> Record:
    """The record of what a storage has."""
    sweep = asked.sweep
    rows = [_row(one) for one in trials]
    return Record(sweep.name, aim.monitor, aim.task, sweep.trials, sweep.sampler, sweep.pruner, dict(sweep.space), rows)


def _row(trial: "FrozenTrial") -> Row:
    attrs = trial.user_attrs
    return Row(
        number=trial.number,
        run=str(attrs.get("run", "")),
        state=_STATES[trial.state.name],
        params=dict(trial.params),
        value=trial.value if trial.state.name == "COMPLETE" else None,
        epochs=[trial.intermediate_values[step] for step in sorted(trial.intermediate_values)],
        reason=str(attrs.get("reason", "")),
        host=str(attrs.get("host", "")),
        seconds=_seconds(trial.datetime_start, trial.datetime_complete),
        data=str(attrs.get("data", "")),
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()


def write_record(out: Path, record: Record) -> None:
    """Put it into the sweep's folder.

    Raises:
        DiskError: if it cannot be written.
    """
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "name": record.name,
        "monitor": record.monitor,
        "task": record.task,
        "asked": record.asked,
        "sampler": record.sampler,
        "pruner": record.pruner,
        "space": {key: _told(domain) for key, domain in record.space.items()},
        "trials": [dict(vars(row)) for row in record.rows],
    }
    RunFolder(out).write_json(FILE, content)


def _told(domain: Domain) -> dict[str, Any]:
    return {"choices": [*domain.values]} if isinstance(domain, Choices) else dict(vars(domain))


def read_record(out: Path) -> Record | None:
    """What is in a folder; None where it is not a sweep's.

    Raises:
        DiskError: if it is damaged.
    """
    if not (out / FILE).is_file():
        return None
    content = RunFolder(out).read_json(FILE)
    try:
        rows = [Row(**row) for row in content["trials"]]
        if content["schema"] != SCHEMA or any(Path(row.run).name != row.run for row in rows):
            raise ValueError
        return Record(
            name=str(content["name"]),
            monitor=str(content["monitor"]),
            task="multilabel" if content["task"] == "multilabel" else "single",
            asked=int(content["asked"]),
            sampler=str(content["sampler"]),
            pruner=str(content["pruner"]),
            space={key: _domain(one) for key, one in content["space"].items()},
            rows=rows,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DiskError(
            f"{printable(str(out / FILE))} is not as a sweep writes it.",
            "Remove it: the next  imgkit sweep  makes it anew from the storage.",
        ) from None


def _domain(told: Mapping[str, Any]) -> Domain:
    if "choices" in told:
        return Choices(tuple(tuple(one) if isinstance(one, list) else one for one in told["choices"]))
    return Range(**told)
