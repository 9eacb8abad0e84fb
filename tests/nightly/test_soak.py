"""T-M: a long run takes no more memory, open files or threads at its end than it took when it had warmed up."""

import os
import statistics
import sys
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from oracle import write_recipe
from tally import Tally

from imgkit import finetune
from imgkit.data.index import SPLITS, Index
from imgkit.experiment import Experiment

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
FAMILY = "T-M"
WORKERS, EVERY, WARM_STEPS = 4, 10, 300
STEPS, MINUTES = 10_000, 30  # that many steps, where there is so much time; else a few hundred
GROWTH_MIB, BYTES = 20.0, 150
PATHS = 1_000_000
LONG = """
schema = 1
name = "long"

[model]
weights = "none"
image_size = 32

[train]
batch_size = 4
ema = 0.9
batch_norm = "train"
precision = "float32"

[augment]
mixup = 0.4
policy = "randaugment"

[save]
every_steps = 50

[[phases]]
name = "all"
train = "all"
epochs = 100000
lr = 1e-4
"""


@dataclass
class Watch:
    """What a process and its workers hold, every few steps."""

    rss_mib: list[float] = field(default_factory=list)
    worker_mib: list[float] = field(default_factory=list)  # of the largest loader process
    files: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)

    def look(self) -> None:
        me = os.getpid()
        children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
        self.rss_mib.append(resident_mib(me))
        self.worker_mib.append(max([resident_mib(int(child)) for child in children], default=0.0))
        self.files.append(float(sum(1 for _ in Path("/proc/self/fd").iterdir())))
        self.threads.append(float(sum(1 for _ in Path("/proc/self/task").iterdir())))


def resident_mib(process: int) -> float:
    """Resident memory; 0 of one that has just ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(values: list[float]) -> float:
    """From the first quarter to the last one; the middle values, so that what comes and goes counts for nothing."""
    quarter = len(values) // 4
    return statistics.median(values[-quarter:]) - statistics.median(values[:quarter])


@pytest.mark.timeout(0)
def test_a_long_run_does_not_grow(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, nightly_minutes: float
) -> None:
    watch, count = Watch(), Experiment._count

    def counted(experiment: Experiment, *arguments: Any) -> None:  # noqa: ANN401
        count(experiment, *arguments)
        step = experiment.progress.step
        if step > WARM_STEPS and step % EVERY == 0:
            watch.look()

    monkeypatch.setattr(Experiment, "_count", counted)
    run = finetune(
        "test_resnet",
        recipe=write_recipe(tmp_path, LONG),
        data="synthetic:4x125",
        out=tmp_path / "runs",
        sets=[f"run.workers={WORKERS}", f"time_limit={60 * nightly_minutes:.0f}s"],
    )
    steps = run.folder.read_json("status.json")["step"]
    grown = {name: round(growth(values), 2) for name, values in vars(watch).items()}
    print(f"{steps} steps: {grown}")
    assert steps >= (STEPS if nightly_minutes >= MINUTES else 2 * WARM_STEPS)
    assert max(grown["rss_mib"], grown["worker_mib"]) <= GROWTH_MIB
    assert (grown["files"], grown["threads"]) == (0, 0)
    tally.count(FAMILY, steps=steps)
    tally.most(FAMILY, **{f"grown_{name}": value for name, value in grown.items()})


def test_what_grows_is_seen() -> None:
    """The check itself: a leak of a file or of 100 KiB a look is seen, what comes and goes is not."""
    assert growth([5.0, 9.0, 5.0, 5.0] * 50) == 0
    assert growth([7.0] * 150 + [8.0] * 50) == 1
    assert growth([0.1 * look for look in range(300)]) > GROWTH_MIB


@pytest.mark.timeout(600)
def test_a_million_paths(tmp_path: Path, tally: Tally) -> None:
    """The index of a run that has so many pictures, read back as `imgkit resume` does."""
    with (tmp_path / "index.csv").open("w", newline="") as stream:
        stream.write("path,label,split,group,size,sha256\r\n")
        for row in range(PATHS):
            path = f"class-{row % 1000:04d}/photograph-{row:08d}.jpg"
            stream.write(f"{path},class-{row % 1000:04d},{SPLITS[row % 3]},{row % 77},{row},{row:064x}\r\n")
    classes = [f"class-{code:04d}" for code in range(1000)]
    tracemalloc.start()
    index = Index.read_csv(tmp_path / "index.csv", tmp_path, classes, "single")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index) == PATHS
    assert index.path(PATHS - 1).name == f"photograph-{PATHS - 1:08d}.jpg"
    print(f"{held / PATHS:.1f} bytes a path")
    assert held / PATHS <= BYTES
    tally.most(FAMILY, bytes_a_path=round(held / PATHS, 1))
