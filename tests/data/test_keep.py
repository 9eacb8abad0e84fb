"""The pass that fills the store, and trainings with it and without: the same batches."""

import os
import shutil
import signal
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from jpegs import write_jpegs
from PIL import Image

from imgkit.cache import LIMIT
from imgkit.data import batches, keep, picture_store
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import Batch, eval_batches, train_batches
from imgkit.data.index import Index
from imgkit.data.keep import Kept, keep_pictures
from imgkit.data.picture_store import PictureStore
from imgkit.data.prepared import Rule, about
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import BadImage
from imgkit.recipe.augment import AugmentSettings

N = 30
SIDE = 40
RULE = Preprocessing((24, 24), 0.875, "bicubic", (0.5,) * 3, (0.5,) * 3)
TRANSFORM = TrainTransform(RULE, AugmentSettings(crop=(0.5, 1.0)), prepared=SIDE)
ROWS = np.arange(N, dtype=np.int64)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return write_jpegs(tmp_path_factory.mktemp("jpegs"), N)


def ignored(done: int, total: int) -> None:
    """Progress that nobody looks at."""


def kept(index: Index, rule: Rule = SIDE, *, workers: int = 0, progress: Callable[[int, int], None] = ignored) -> Kept:
    return keep_pictures(index, ROWS, rule, workers=workers, max_pixels=10**6, progress=progress)


def stream_of(index: Index, workers: int = 0) -> Generator[Batch, None, None]:
    return train_batches(
        index,
        ROWS,
        transform=TRANSFORM,
        seed=1,
        first_epoch=0,
        batch_size=8,
        steps_per_epoch=4,
        start=0,
        stop=8,
        workers=workers,
        max_pixels=10**6,
    )


def trained(index: Index, workers: int = 0) -> list[Batch]:
    with closing(stream_of(index, workers)) as found:
        return list(found)


def evaluated(index: Index, workers: int = 0) -> list[Batch]:
    return list(eval_batches(index, ROWS, preprocessing=RULE, batch_size=8, workers=workers, max_pixels=10**6))


def same(found: list[Batch], expected: list[Batch]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all((a == b).all().item() for one, other in pairs for a, b in zip(one, other, strict=True))


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(batches, "prepare", refuse)
    monkeypatch.setattr(batches, "load_image", refuse)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_with_the_store_and_without(
    pictures: Index, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_store, "SHARD_BYTES", 30_000)
    direct = trained(pictures), evaluated(pictures)
    assert kept(pictures, workers=workers) == Kept(N, "")
    assert kept(pictures, RULE, workers=workers) == Kept(N, "")
    no_decoding(monkeypatch)
    assert same(trained(pictures, workers), direct[0])
    assert same(evaluated(pictures, workers), direct[1])


def test_there_are_several_shards_and_nothing_else(pictures: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "SHARD_BYTES", 30_000)
    kept(pictures)
    files = list(PictureStore(about(SIDE)).folder.iterdir())
    assert len(files) > 1
    assert {file.suffix for file in files} == {".safetensors"}


def test_what_is_there_is_not_made_again(pictures: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(pictures)
    monkeypatch.setattr(keep, "prepare", lambda *_: pytest.fail("decoded again"))
    assert kept(pictures) == Kept(N, "")


def test_copies_of_a_picture_are_kept_once(tmp_path: Path) -> None:
    index = write_jpegs(tmp_path, N)
    twins = index.select(np.zeros(N, dtype=np.int64))
    assert kept(twins) == Kept(N, "")
    assert len(PictureStore(about(SIDE))) == 1


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_kill_costs_what_was_not_written_yet(pictures: Index, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "SHARD_BYTES", 30_000)
    direct = trained(pictures)
    child = os.fork()
    if child == 0:
        calls = iter(range(100))

        def kill(done: int, total: int) -> None:
            if next(calls) == after:
                os.kill(os.getpid(), signal.SIGKILL)

        kept(pictures, progress=kill)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    store = PictureStore(about(SIDE))
    assert len(store) < N
    assert same(trained(pictures), direct)  # with a part of the store
    assert kept(pictures) == Kept(N, "")
    assert same(trained(pictures), direct)


def test_a_stop_keeps_what_is_at_hand(pictures: Index) -> None:
    def stop(done: int, total: int) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(pictures, progress=stop)
    assert len(PictureStore(about(SIDE))) == 16


@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_that_goes_or_breaks_under_a_training_changes_nothing(
    pictures: Index, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keep, "SHARD_BYTES", 30_000)
    direct = trained(pictures)
    kept(pictures)
    folder = PictureStore(about(SIDE)).folder
    first, *_ = sorted(folder.iterdir())
    content = bytearray(first.read_bytes())
    content[-100:] = bytes(100)
    first.write_bytes(content)
    assert same(trained(pictures, workers), direct)
    assert not first.exists()
    assert kept(pictures) == Kept(N, "")  # the damaged shard is made again
    with closing(stream_of(pictures, workers)) as stream:
        found = [next(stream)]
        shutil.rmtree(folder)
        found += stream
    assert same(found, direct)


def test_a_picture_that_changed_after_the_scan_is_not_kept(tmp_path: Path) -> None:
    index = write_jpegs(tmp_path, N)
    Image.new("RGB", (50, 50), (9, 9, 9)).save(index.path(3))
    assert kept(index) == Kept(N - 1, "")
    assert PictureStore(about(SIDE)).get(index.hashes[3]) is None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, workers: int) -> None:
    index = write_jpegs(tmp_path, N)
    index.path(17).write_bytes(b"<html>")
    with pytest.raises(BadImage) as caught:
        kept(index, workers=workers)
    assert caught.value.path == str(index.path(17))


def test_a_limit_that_is_too_small_for_all_keeps_none(pictures: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "50kB")
    found = kept(pictures)
    assert found.pictures == 0
    assert f"would exceed {LIMIT} (49 KiB" in found.unkept
    assert not PictureStore(about(SIDE)).folder.exists()


def test_a_disk_that_fills_up_ends_the_pass(pictures: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "SHARD_BYTES", 30_000)
    written: list[Path] = []

    def full_after_one(file: Path, content: bytes) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(file)
        file.write_bytes(content)

    monkeypatch.setattr(picture_store, "replace_bytes", full_after_one)
    direct, found = trained(pictures), kept(pictures)
    assert 0 < found.pictures < N
    assert found.unkept.endswith("No space left on device")
    assert same(trained(pictures), direct)


def test_two_passes_at_once_harm_nothing(pictures: Index) -> None:
    def other(done: int, total: int) -> None:
        if done == 8:
            assert kept(pictures) == Kept(N, "")

    assert kept(pictures, progress=other) == Kept(N, "")
    assert len(list(PictureStore(about(SIDE)).folder.iterdir())) == 1  # the same shard of both


def test_how_much_all_take_is_told_by_some(pictures: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them = keep.bytes_of(pictures, ROWS, SIDE, 10**6)
    kept(pictures)
    (file,) = PictureStore(about(SIDE)).folder.iterdir()
    assert all_of_them == pytest.approx(file.stat().st_size, rel=0.1)
    monkeypatch.setattr(keep, "_SAMPLE", 5)
    assert keep.bytes_of(pictures, ROWS, SIDE, 10**6) == pytest.approx(all_of_them, rel=0.5)
