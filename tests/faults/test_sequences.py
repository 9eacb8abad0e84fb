"""T-Z: whatever happens to a run, in whatever order: once it ends, it ends with the bits of one that nothing befell."""

import errno
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sklearn.linear_model  # noqa: F401  (imported here so that no forked life has to)
from disk_faults import short_file
from forked import begin, ended
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from oracle import fingerprint, write_recipe
from tally import Tally, share

from imgkit import Run, checkpoint, finetune, open_run, resume
from imgkit.checkpoint import Checkpoint
from imgkit.errors import DiskError, UsageError
from imgkit.experiment import Experiment
from imgkit.trainer import Trainer

FAMILY = "T-Z"
SEQUENCES, QUICK = 65, 5  # in a part: in the campaign, in `make test`
RULES = 4  # in a sequence, besides its end
PARTS = ("0", "1", "2", "3", "4", "5")
FILES = ("model.safetensors", "train.safetensors", "state.json", "MANIFEST.json")
POINTS = (
    *(f"write {name}" for name in FILES),
    "before mkdir",
    "before rename",
    "after rename",
    "before prune",
    "prune",
)
STOPPED, FULL, NONE_YET = 128 + signal.SIGTERM, DiskError("").exit_code, UsageError("").exit_code
TINY = """
schema = 1
name = "tiny"
seed = 3

[model]
weights = "none"
image_size = 32

[train]
batch_size = 8
micro_batch = 4
ema = 0.9
batch_norm = "train"
precision = "float32"

[augment]
mixup = 0.4
jitter = [0.2, 0.2, 0.2, 0.1]

[save]
every_steps = 1

[[phases]]
name = "all"
train = "all"
epochs = 3
lr = 1e-3
"""
STEPS = 6

workers = st.sampled_from([0, 0, 1, 2])
updates = st.integers(1, STEPS)


def start_or_resume(folder: Path, workers: int) -> None:
    """Begin the run, or go on with it."""
    if (folder / "runs" / "run" / "run.json").exists():
        resume("run", out=folder / "runs", workers=workers)
        return
    folder.mkdir(exist_ok=True)
    options = {"out": folder / "runs", "name": "run", "sets": [f"run.workers={workers}"]}
    finetune("test_resnet", recipe=write_recipe(folder, TINY), data="synthetic:2x12", **options)


def train_loss(run: Run) -> float:
    """What the run's model loses on its training images, which no training has scored."""
    return float(run.evaluate(split="train", images=False)["loss"])


def signal_after(updates: int, number: int) -> None:
    """In this life, which has a process group of its own: send it a signal after so many updates."""
    count = Experiment._count
    left = updates

    def counted(*arguments: Any) -> None:  # noqa: ANN401
        nonlocal left
        count(*arguments)
        left -= 1
        if left == 0:
            os.killpg(0, number) if number == signal.SIGKILL else os.kill(os.getpid(), number)

    Experiment._count = counted  # type: ignore[method-assign]


def kill_at(point: str, nth: int) -> None:
    """In this life: die at the n-th passing of a point of the save protocol."""
    left = nth

    def reached(name: str) -> None:
        nonlocal left
        left -= name == point
        if left == 0:
            os.killpg(0, signal.SIGKILL)

    checkpoint.reached = reached


def fill(name: str, room: int, saves: int) -> None:
    """In this life: the first saves find no room for a file beyond so many bytes."""
    save, left = checkpoint.save, saves

    def full(folder: Path, found: Checkpoint, **options: Any) -> Path:  # noqa: ANN401
        nonlocal left
        left -= 1
        with short_file(name, room, errno.ENOSPC) if left >= 0 else nullcontext():
            return save(folder, found, **options)

    checkpoint.save = full


class Lives(RuleBasedStateMachine):
    """A run, and what may happen to it."""

    place: ClassVar[Path]
    expected: ClassVar[list[str]]  # hashes of the run that nothing befell: with which epoch was best, and without
    loss: ClassVar[float]  # its loss on what it was trained on
    seen: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self._new_run()

    def _new_run(self) -> None:
        self.folder, self.filled = self.place / f"lives-{self.seen['runs']}", False
        self.checkpoints = self.folder / "runs" / "run" / "checkpoints"
        self.whole: list[int] = []  # the steps whose checkpoints are not damaged
        self.seen["runs"] += 1

    def _live(self, workers: int, prepare: Callable[[], None] | None, *codes: int) -> None:
        """A life that ends by itself, or as it is expected to; a run that is at its end is compared."""

        def work() -> None:
            if prepare is not None:
                prepare()
            start_or_resume(self.folder, workers)

        code = ended(begin(work))
        assert code in (0, *codes), f"a life ended with {code}"
        self.seen += Counter(lives=1, kills=code == -signal.SIGKILL, workers=workers)
        if code == 0:
            self.seen += Counter(ends=1)
            run = open_run("run", self.folder / "runs")
            assert fingerprint(run, best=not self.filled) == self.expected[self.filled]
            self.seen += Counter(alike=1)
            loss = train_loss(run)
            assert self.filled or loss == self.loss
            assert fingerprint(run, best=not self.filled) == self.expected[self.filled], "scored and not changed"
            self.seen += Counter(evaluations=1)
            shutil.rmtree(self.folder)
            self._new_run()
        found = checkpoint.steps(self.checkpoints)
        self.whole = [step for step in found if checkpoint._whole(self.checkpoints, step)]

    @rule(updates=updates, workers=workers)
    def train(self, updates: int, workers: int) -> None:
        self._live(workers, lambda: signal_after(updates, signal.SIGTERM), STOPPED)

    @rule(updates=updates, workers=workers)
    def kill(self, updates: int, workers: int) -> None:
        self._live(workers, lambda: signal_after(updates, signal.SIGKILL), -signal.SIGKILL)

    @rule(point=st.sampled_from(POINTS), nth=st.integers(1, 4), workers=workers)
    def kill_inside_a_save(self, point: str, nth: int, workers: int) -> None:
        self._live(workers, lambda: kill_at(point, nth), -signal.SIGKILL)

    @rule(name=st.sampled_from(FILES), room=st.integers(0, 400), saves=st.integers(1, 3), updates=updates)
    def fill_the_disk(self, name: str, room: int, saves: int, updates: int) -> None:
        def prepare() -> None:
            fill(name, room, saves)
            signal_after(updates, signal.SIGTERM)

        self.filled = True
        self.seen += Counter(fills=1)
        self._live(0, prepare, STOPPED, FULL)

    @precondition(lambda self: len(self.whole) > 1)
    @rule(name=st.sampled_from(FILES), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def flip_a_bit(self, name: str, where: float, bit: int) -> None:
        """Of the newest checkpoint that is whole."""
        file = self.checkpoints / f"step-{self.whole.pop():08d}" / name
        content = bytearray(file.read_bytes())
        content[int(where * len(content))] ^= 1 << bit
        file.write_bytes(content)
        self.seen += Counter(flips=1)

    @precondition(lambda self: len(self.whole) > 1 or len(checkpoint.steps(self.checkpoints)) == 1)
    @rule()
    def delete_the_newest(self) -> None:
        newest = checkpoint.steps(self.checkpoints)[-1]
        shutil.rmtree(self.checkpoints / f"step-{newest:08d}")
        self.whole = [step for step in self.whole if step < newest]
        self.seen += Counter(deletions=1)

    @precondition(lambda self: self.whole != [])
    @rule()
    def evaluate_too_soon(self) -> None:
        code = ended(begin(lambda: train_loss(open_run("run", self.folder / "runs"))))
        assert code == NONE_YET, "a run has a model when it has ended"
        self.seen += Counter(refusals=1)

    def teardown(self) -> None:
        """The run goes on to its end."""
        ends = self.seen["ends"]
        self._live(0, None)
        assert self.seen["ends"] == ends + 1
        self.seen += Counter(sequences=1)


@contextmanager
def machine(place: Path) -> Iterator[type[Lives]]:
    """The machine of a folder."""

    class Here(Lives):
        """With a place and figures of its own."""

    Here.place, Here.seen = place, Counter()
    assert ended(begin(partial(start_or_resume, place / "oracle", 0))) == 0
    oracle = open_run("run", place / "oracle" / "runs")
    assert oracle.folder.read_json("status.json")["step"] == STEPS
    Here.expected = [fingerprint(oracle, best=best) for best in (True, False)]
    Here.loss = train_loss(oracle)
    yield Here


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", share(PARTS, ["0"]))
def test_any_sequence_ends_with_the_same_bits(tmp_path: Path, tally: Tally, whole: bool, part: str) -> None:
    with machine(tmp_path) as here:
        run_state_machine_as_test(
            seed(int(part))(here),
            settings=settings(
                max_examples=SEQUENCES if whole else QUICK,
                stateful_step_count=RULES,
                deadline=None,
                database=None,
                phases=[Phase.generate],  # a sequence takes a second, so none is made shorter
                suppress_health_check=list(HealthCheck),
            ),
        )
    assert here.seen["sequences"] >= (SEQUENCES if whole else QUICK)
    tally.count(FAMILY, **here.seen, mismatches=here.seen["ends"] - here.seen["alike"])


# What protects, taken away: the machine must notice.


@pytest.mark.parametrize("what", ["hash of files", "moments of the optimizer"])
def test_the_machine_notices_what_is_missing(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with machine(tmp_path) as here:
        lives = here()
        lives.train(3, 0)
        if what == "hash of files":
            monkeypatch.setattr(checkpoint, "_checked", lambda file, size, sha256: file.read_bytes())
            lives.flip_a_bit("model.safetensors", 0.9, 5)
        else:
            restore = Trainer.restore
            monkeypatch.setattr(
                Trainer,
                "restore",
                lambda self, model, train, *rest: restore(
                    self, model, {name: value for name, value in train.items() if "exp_avg" not in name}, *rest
                ),
            )
        with pytest.raises(AssertionError):
            lives.teardown()
    tally.count("mutants", caught=1, escaped=0)
