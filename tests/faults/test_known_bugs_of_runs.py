"""Bugs that users of other tools suffered from, in training, resume, checkpoints, processes and numbers.

`BUGS` has the number of each in the project's list of them, and the test that imgkit does not have it: one of this
file, or one elsewhere that already goes through it for seconds or minutes.
"""

import gc
import itertools
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checkpoints import same, sample
from oracle import fingerprint, short_run
from pictures import square

import imgkit
from imgkit import checkpoint, run
from imgkit.data import worker_process, workers
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import eval_batches, train_batches, train_places
from imgkit.data.index import Index, PathTable
from imgkit.data.preprocessing import Preprocessing
from imgkit.recipe.augment import AugmentSettings
from imgkit.run import RunFolder

BUGS = {
    2: "tests/faults/test_kill.py::test_kills_at_random_instants",
    3: "tests/faults/test_full_disk.py::test_a_real_disk_that_is_full",
    4: "test_a_cut_or_empty_checkpoint_is_one_line_and_the_one_before_is_used",
    5: "test_a_newer_folder_that_is_incomplete_is_passed_over",
    6: "test_two_writers_of_one_step_leave_it_whole",
    7: "tests/faults/test_purity.py::test_resume_from_every_step",
    8: "test_a_resume_in_a_later_epoch_has_that_epochs_order",
    9: "test_a_resumed_epoch_is_trained_to_its_end_and_saved",
    10: "test_no_image_is_repeated_or_lost_over_a_resume",
    11: "test_each_resume_goes_on_with_another_order_than_the_first",
    12: "test_later_epochs_are_as_long_after_a_resume",
    13: "tests/test_oracle.py::test_same_bits_with_workers_and_after_a_resume",
    14: "tests/test_experiment.py::test_sigterm_saves_and_resume_ends_with_the_same_bits",
    15: "tests/test_experiment.py::test_a_signal_is_heard_between_two_batches_of_any_stage",
    16: "test_nothing_of_another_run_is_removed_and_the_best_is_remembered",
    17: "test_the_rate_goes_on_after_a_resume",
    18: "tests/faults/test_numbers.py::test_what_is_not_finite_stops_the_training",
    19: "test_every_image_is_scored_once_whatever_their_number",
    20: "test_no_two_uses_of_a_picture_are_augmented_alike",
    25: "test_runs_of_one_instant_have_folders_of_their_own",
    26: "test_a_checkpoint_is_written_over_while_its_tensors_are_in_use",
    29: "test_paths_take_no_objects_of_their_own",
    30: "test_a_bus_error_is_told_with_the_shared_memory_and_what_to_type",
}
N = 13


def index_of(root: Path, n: int) -> Index:
    names, zeros = [f"{row}.png" for row in range(n)], np.zeros(n, dtype=np.int64)
    hashes = np.zeros((n, 32), dtype=np.uint8)
    return Index(root, PathTable.of(names), ("a",), zeros, np.arange(n + 1), zeros.astype(np.int8), None, zeros, hashes)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    root = tmp_path_factory.mktemp("pictures")
    for row in range(N):
        square(row).save(root / f"{row}.png")
    return index_of(root, N)


def rows_of(start: int, stop: int) -> list[list[int]]:
    """The rows of each step, four of them to an epoch of thirteen images."""
    places = train_places(np.arange(N), seed=3, first_epoch=0, batch_size=4, steps_per_epoch=4, start=start, stop=stop)
    return [[row for _, row, _ in step] for step in places]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[imgkit.Run, imgkit.Run]]:
    """A run, and the same one cut inside an epoch of each phase and resumed; its batches come in parts."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("IMGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        whole = short_run(tmp_path_factory.mktemp("whole"))
        place, saved = tmp_path_factory.mktemp("cut"), set[int]()

        def cut(name: str) -> None:
            if name == "before prune":
                step = checkpoint.steps(place / "runs" / "run" / "checkpoints")[-1]
                if step in (4, 8) and step not in saved:
                    saved.add(step)
                    raise KeyboardInterrupt

        patch.setattr(checkpoint, "reached", cut)
        with pytest.raises(KeyboardInterrupt):
            short_run(place)
        with pytest.raises(KeyboardInterrupt):
            imgkit.resume("run", out=place / "runs")
        yield whole, imgkit.resume("run", out=place / "runs")
        assert saved == {4, 8}


@pytest.mark.parametrize("length", [0, 1, -1])
@pytest.mark.parametrize("name", ["model.safetensors", "train.safetensors", "state.json", "MANIFEST.json"])
def test_a_cut_or_empty_checkpoint_is_one_line_and_the_one_before_is_used(
    tmp_path: Path, name: str, length: int
) -> None:
    """4."""
    checkpoint.save(tmp_path, sample(1), keep=2, best=1)
    file = checkpoint.save(tmp_path, sample(2), keep=2, best=1) / name
    file.write_bytes(file.read_bytes()[:length])
    said: list[str] = []
    found = checkpoint.load(tmp_path, said.append)
    assert found is not None
    assert same(found, sample(1))
    assert len(said) == 1
    assert "step-00000002" in said[0]
    assert "\n" not in said[0]


def test_a_newer_folder_that_is_incomplete_is_passed_over(tmp_path: Path) -> None:
    """5."""
    checkpoint.save(tmp_path, sample(1), keep=2, best=1)
    (tmp_path / "step-00000009").mkdir()
    (tmp_path / ".step-00000010.tmp-1f-00aa").mkdir()
    for _ in range(2):
        found = checkpoint.load(tmp_path, lambda text: None)
        assert found is not None
        assert found.step == 1


def test_two_writers_of_one_step_leave_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """6: imgkit has one process that writes; two that came past the lock would not break a checkpoint either."""
    inside = False

    def other(name: str) -> None:
        nonlocal inside
        if name == "before rename" and not inside:
            inside = True
            checkpoint.save(tmp_path, sample(2), keep=2, best=1)

    checkpoint.save(tmp_path, sample(1), keep=2, best=1)
    monkeypatch.setattr(checkpoint, "reached", other)
    checkpoint.save(tmp_path, sample(2), keep=2, best=1)
    assert same(checkpoint.read(tmp_path, 2), sample(2))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["best.json", "step-00000001", "step-00000002"]


@pytest.mark.parametrize("cut", range(13))
def test_a_resume_in_a_later_epoch_has_that_epochs_order(cut: int) -> None:
    """8."""
    assert rows_of(0, cut) + rows_of(cut, 12) == rows_of(0, 12)


def test_a_resumed_epoch_is_trained_to_its_end_and_saved(pair: tuple[imgkit.Run, imgkit.Run]) -> None:
    """9."""
    whole, cut = pair
    total = whole.folder.read_json("status.json")["total_steps"]
    for one in pair:
        assert one.folder.history()[-1]["step"] == total
        assert checkpoint.steps(one.folder.path / "checkpoints")[-1] == total
    assert fingerprint(cut) == fingerprint(whole)


@pytest.mark.parametrize("cut", range(5))
def test_no_image_is_repeated_or_lost_over_a_resume(cut: int) -> None:
    """10."""
    seen = Counter(itertools.chain(*rows_of(0, cut), *rows_of(cut, 4)))
    assert seen == Counter(range(N))


def test_each_resume_goes_on_with_another_order_than_the_first() -> None:
    """11."""
    epochs = [tuple(itertools.chain(*rows_of(start, start + 4))) for start in range(0, 400, 4)]
    assert len(set(epochs)) == 100


def test_later_epochs_are_as_long_after_a_resume(pair: tuple[imgkit.Run, imgkit.Run]) -> None:
    """12."""
    whole, cut = ([row["step"] for row in one.folder.history()] for one in pair)
    assert cut == whole
    assert len({later - before for before, later in itertools.pairwise(whole[2:])}) == 1


def test_nothing_of_another_run_is_removed_and_the_best_is_remembered(
    tmp_path: Path, pair: tuple[imgkit.Run, imgkit.Run]
) -> None:
    """16."""
    other = checkpoint.save(tmp_path / "other", sample(1), keep=1, best=1)
    own = tmp_path / "own"
    kept = [own / "step-1", own / "epoch-00000001", own / "mine.safetensors"]
    for place in kept:
        place.mkdir(parents=True)
    (own / "step-00000007").symlink_to(other)
    for step in (8, 9, 10):
        checkpoint.save(own, sample(step), keep=1, best=10)
    assert checkpoint.steps(own) == [10]
    assert same(checkpoint.read(other.parent, 1), sample(1)), "of a link, the link alone is removed"
    assert all(place.is_dir() for place in kept)
    best = [one.folder.read_json("checkpoints/best.json") for one in pair]
    assert best[0] == best[1]
    assert [row["best"] for row in pair[0].folder.history()] == [row["best"] for row in pair[1].folder.history()]


def test_the_rate_goes_on_after_a_resume(pair: tuple[imgkit.Run, imgkit.Run]) -> None:
    """17."""
    rates = [[(row["step"], row["lr"]) for row in one.folder.rows("steps.jsonl")] for one in pair]
    rates += [[(row["step"], row["lr"]) for row in one.folder.history()] for one in pair]
    assert rates[0] == rates[1]
    assert rates[2] == rates[3]


@pytest.mark.parametrize("n", [1, 7, 13])
@pytest.mark.parametrize("count", [0, 2])
def test_every_image_is_scored_once_whatever_their_number(index: Index, n: int, count: int) -> None:
    """19."""
    rule = Preprocessing((8, 8), 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    found = eval_batches(
        index, np.arange(n), preprocessing=rule, batch_size=4, workers=count, max_pixels=10_000, warn=pytest.fail
    )
    assert torch.cat([batch.ids for batch in found]).tolist() == list(range(n))


@pytest.mark.parametrize("count", [0, 2])
def test_no_two_uses_of_a_picture_are_augmented_alike(index: Index, count: int) -> None:
    """20: in no epoch and in no process, although one picture is shown as thirteen."""
    one = Index(index.root, PathTable.of(["0.png"] * N), *(getattr(index, name) for name in list(vars(index))[2:]))
    rule = Preprocessing((8, 8), 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    found = train_batches(
        one,
        np.arange(N),
        transform=TrainTransform(rule, AugmentSettings(jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=1.0)),
        seed=1,
        first_epoch=0,
        batch_size=4,
        steps_per_epoch=4,
        start=0,
        stop=12,
        workers=count,
        max_pixels=10_000,
    )
    pixels = [image.numpy().tobytes() for batch in found for image in batch.images]
    assert len(set(pixels)) == len(pixels) == 3 * N


def test_runs_of_one_instant_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """25."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    monkeypatch.setattr(run, "datetime", SimpleNamespace(now=lambda zone: noon))
    monkeypatch.setattr(run, "sync", lambda place: None)
    names = set[str]()
    for _ in range(100):
        with RunFolder.create(tmp_path, verb="finetune", model="resnet18", data="cells") as folder:
            folder.write_text("recipe.toml", "")
        names.add(folder.name)
    assert len(names) == 100 == sum(entry.is_dir() for entry in tmp_path.iterdir())


def test_a_checkpoint_is_written_over_while_its_tensors_are_in_use(tmp_path: Path) -> None:
    """26."""
    checkpoint.save(tmp_path, sample(2), keep=2, best=None)
    found = checkpoint.read(tmp_path, 2)
    checkpoint.save(tmp_path, found, keep=2, best=None)
    assert same(found, sample(2))
    assert same(checkpoint.read(tmp_path, 2), sample(2))


def test_paths_take_no_objects_of_their_own() -> None:
    """29: what has no count of its users is not copied into each process as it is read."""
    names = [f"class-{row % 10}/{row:07d}.jpg" for row in range(100_000)]
    gc.collect()
    before = len(gc.get_objects())
    table = PathTable.of(names)
    assert len(gc.get_objects()) - before < 100
    size = sum(
        value.nbytes if isinstance(value, np.ndarray) else sys.getsizeof(value) for value in vars(table).values()
    )
    assert size <= 150 * len(names)
    assert all(table[row] == names[row] for row in random.Random(0).sample(range(len(names)), 100))


def test_a_bus_error_is_told_with_the_shared_memory_and_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """30."""
    monkeypatch.setattr(worker_process, "_SHARED", Path("/"))  # a mount, whatever the machine
    watch = workers.Watch(2, "fork")
    error = workers._worker_died(watch, -signal.SIGBUS, 5, lambda row: Path("cells") / f"{row}.png")
    assert "one of the 2 loader processes was killed (SIGBUS) while it read cells/5.png" in error.message
    assert "shared memory (/ has " in error.message
    assert "MiB free)" in error.message
    assert "--workers 0" in error.hint
    assert "--shm-size" in error.hint
    assert json.dumps(error.message).count("\\n") == 0
