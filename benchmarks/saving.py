"""What a checkpoint costs a training: ResNet-50 with AdamW and averages at 224, saved beside it, and waited for.

    python benchmarks/saving.py [--repeats 5] [--json FILE]

A run on drawn pictures saves after every few updates, by turns so that training waits until the checkpoint is on the
disk, and so that it goes on after the copy. Of each: the stall, which is how long the next update has to wait; the
write, from the copy to the end; and the updates until the next save, which the writer slows down where it shares the
cores. Takes about two minutes on two cores, and 2 GB of disk for so long below `--out`.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

from imgkit import finetune
from imgkit.experiment import Experiment
from imgkit.recipe.plan import PhasePlan
from imgkit.saving import Saver
from imgkit.trainer import Update

UPDATES = 6  # between two saves: longer than a checkpoint takes
RECIPE = """
schema = 1
name = "saving"
[model]
weights = "none"
image_size = 224
[train]
batch_size = 4
ema = 0.999
precision = "float32"
batch_norm = "train"
[run]
workers = 0
[save]
every_minutes = 1000.0
[[phases]]
name = "all"
train = "all"
lr = 1e-4
steps = {steps}
"""


class DoneError(Exception):
    """All is measured."""


class Turns:
    """Saves by turns; the seconds of each. The first of each kind warms up.

    Args:
        repeats: of each kind.
    """

    def __init__(self, repeats: int) -> None:
        self._repeats = repeats
        self.stalls: dict[str, list[float]] = {"waiting": [], "beside": []}
        self.writes: dict[str, list[float]] = {"waiting": [], "beside": []}
        self.updates: dict[str, list[float]] = {"waiting": [], "beside": []}
        self._began = 0.0
        self._turn = "waiting"

    def begin(self, saver: Saver, *given: object, **more: object) -> None:
        """In place of `Saver.begin`."""
        self._turn = "beside" if self._turn == "waiting" else "waiting"
        began = time.perf_counter()
        self._really(saver, *given, **more)
        if self._turn == "waiting":
            saver.settle()
        self._began = time.perf_counter()
        self.stalls[self._turn].append(self._began - began)

    def count(self, experiment: Experiment, update: Update, phase: PhasePlan) -> None:
        """In place of `Experiment._count`."""
        self._count(experiment, update, phase)
        experiment._request.save = update.step % UPDATES == 0
        if update.step % UPDATES == 0 and self._began:
            self.updates[self._turn].append(time.perf_counter() - self._began)
            experiment._saver.settle()
            self.writes[self._turn].append(experiment._saver.seconds)
            if min(map(len, self.writes.values())) > self._repeats:
                raise DoneError

    def __enter__(self) -> "Turns":
        self._really, self._count = Saver.begin, Experiment._count

        def begin(saver: Saver, *given: object, **more: object) -> None:
            self.begin(saver, *given, **more)

        def count(experiment: Experiment, update: Update, phase: PhasePlan) -> None:
            self.count(experiment, update, phase)

        self._patches = [patch.object(Saver, "begin", begin), patch.object(Experiment, "_count", count)]
        for one in self._patches:
            one.start()
        return self

    def __exit__(self, *error: object) -> None:
        for one in self._patches:
            one.stop()


def figures(turns: Turns) -> Iterator[tuple[str, float | list[float]]]:
    """Name and value."""
    for name, values in (("stall_s", turns.stalls), ("write_s", turns.writes), ("updates_s", turns.updates)):
        for turn in ("waiting", "beside"):
            kept = values[turn][1:]
            yield f"{turn}_{name}", [round(one, 3) for one in kept]
            yield f"{turn}_{name}_median", round(statistics.median(kept), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="saves of each kind")
    parser.add_argument("--out", type=Path, default=Path(), help="where a folder for the run is made, and removed")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=given.out))
    try:
        recipe = place / "saving.toml"
        recipe.write_text(RECIPE.format(steps=UPDATES * (2 * given.repeats + 4)))
        with Turns(given.repeats) as turns, suppress(DoneError):
            finetune("resnet50", recipe=str(recipe), data="synthetic:3x200", out=place)
    finally:
        shutil.rmtree(place)
    found = dict(figures(turns))
    share = found["beside_stall_s_median"] / found["waiting_stall_s_median"]  # type: ignore[operator]
    slowdown = found["beside_updates_s_median"] - found["waiting_updates_s_median"]  # type: ignore[operator]
    found |= {"share": round(share, 4), "slowdown_s": round(slowdown, 3)}
    for name, value in found.items():
        print(f"{name:<24}  {value}")
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
