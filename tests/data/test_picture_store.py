"""Prepared pictures on disk: found by content, never wrong, never more than there is room for."""

import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from imgkit.cache import LIMIT, make_room, store_folder
from imgkit.data import picture_store
from imgkit.data.picture_store import PictureStore
from imgkit.data.prepared import MAX_BYTES, Prepared
from imgkit.errors import UsageError

ABOUT = {"rule": 1}


def picture(number: int) -> tuple[bytes, Prepared]:
    """The SHA-256 of a file, and its picture of some size."""
    random = np.random.default_rng(number)
    shape = (5 + number % 7, 4 + number % 3, 3)
    return random.bytes(32), Prepared(random.integers(0, 256, shape, dtype=np.uint8), (100 + number, 50))


PICTURES = [picture(number) for number in range(40)]
HASHES = np.stack([np.frombuffer(digest, np.uint8) for digest, _ in PICTURES])


def filled(*parts: slice) -> PictureStore:
    """A store with a shard of each part of the pictures, opened again."""
    store = PictureStore(ABOUT)
    for part in parts:
        store.keep(PICTURES[part])
        assert not store.unkept
    return PictureStore(ABOUT)


def found(store: PictureStore) -> list[int]:
    """The numbers of the pictures that a store has; each of them is the one that was kept."""
    numbers = []
    for number, (_, kept) in enumerate(PICTURES):
        if (read := store.get(HASHES[number])) is not None:
            assert np.array_equal(read.pixels, kept.pixels)
            assert read.size == kept.size
            numbers.append(number)
    return numbers


@pytest.mark.parametrize("again", [False, True])
def test_pictures_come_back_by_the_hash_of_their_file(again: bool) -> None:
    store = filled(slice(0, 10), slice(10, 25))
    store = pickle.loads(pickle.dumps(store)) if again else store  # noqa: S301  as a process that is not forked gets it
    assert found(store) == list(range(25))
    assert store.holds(HASHES).tolist() == [True] * 25 + [False] * 15
    assert len(store) == 25


def test_an_empty_store_has_nothing() -> None:
    assert found(PictureStore(ABOUT)) == []
    assert not PictureStore(ABOUT).holds(HASHES).any()
    assert not PictureStore(ABOUT).folder.exists()  # looking makes no folder


def test_another_rule_is_another_store() -> None:
    filled(slice(0, 10))
    assert len(PictureStore({"rule": 2})) == 0


def test_hashes_that_begin_alike_are_told_apart() -> None:
    alike = [bytes(8) + bytes([number] * 24) for number in range(3)]
    store = PictureStore(ABOUT)
    store.keep([(digest, PICTURES[number][1]) for number, digest in enumerate(alike)])
    store = PictureStore(ABOUT)
    for number, digest in enumerate(alike):
        read = store.get(np.frombuffer(digest, np.uint8))
        assert read is not None
        assert np.array_equal(read.pixels, PICTURES[number][1].pixels)
    assert store.get(np.frombuffer(bytes(8) + bytes([9] * 24), np.uint8)) is None


def test_a_picture_that_is_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_store, "MAX_BYTES", 100)
    assert MAX_BYTES > 100
    store = filled(slice(0, 40))
    assert found(store) == [number for number, (_, kept) in enumerate(PICTURES) if kept.pixels.nbytes <= 100]


def positions(content: bytes) -> dict[str, int]:
    """Bytes of a shard to change: in its header, its table, and its pixels."""
    header = int.from_bytes(content[:8], "little")
    return {"length": 0, "header": 12, "table": 8 + header + 3, "pixels": len(content) - 3}


@pytest.mark.parametrize("damage", ["length", "header", "table", "pixels", "cut", "empty", "other"])
def test_a_damaged_shard_is_not_used_and_goes(damage: str) -> None:
    folder = filled(slice(0, 20)).folder
    (first,) = folder.iterdir()
    filled(slice(20, 40))
    content = bytearray(first.read_bytes())
    if damage in positions(content):
        content[positions(content)[damage]] ^= 1
    (other,) = set(folder.iterdir()) - {first}
    new = {"cut": bytes(content[:-5]), "empty": b"", "other": other.read_bytes()}.get(damage, bytes(content))
    first.unlink()
    first.write_bytes(new)
    store = PictureStore(ABOUT)
    kept = found(store)
    assert set(range(20, 40)) <= set(kept)
    assert len(kept) < 40
    assert not first.exists()
    assert found(filled(slice(0, 20))) == list(range(40))  # what is made again is read again, although its name is old


def test_damage_after_a_picture_was_read_by_this_process_is_found_by_the_next() -> None:
    store = filled(slice(0, 20))
    (file,) = store.folder.iterdir()
    assert found(store) == list(range(20))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    file.write_bytes(content)
    assert found(PictureStore(ABOUT)) == list(range(19))  # from the damaged one on, the shard is gone
    assert found(store) == list(range(20))  # it still has the file that it mapped


def test_a_store_that_is_removed_while_it_is_open_is_one_without_pictures() -> None:
    store = filled(slice(0, 20))
    shutil.rmtree(store.folder)
    assert found(store) == []


def test_a_full_disk_keeps_nothing_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(picture_store, "replace_bytes", refuse)
    store = PictureStore(ABOUT)
    store.keep(PICTURES[:5])
    assert store.unkept == f"{store.folder}: No space left on device"
    assert found(PictureStore(ABOUT)) == []


def test_half_of_what_is_free_is_left_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(Path.cwd())._replace(free=3_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    store = PictureStore(ABOUT)
    assert store.has_room(1_000)
    assert not store.has_room(1_500)
    assert "too little room" in store.unkept


def test_the_limit_holds_for_features_and_pictures_together(monkeypatch: pytest.MonkeyPatch) -> None:
    features = store_folder("features", {"n": 1})
    features.mkdir(parents=True)
    (features / "rows").write_bytes(bytes(5_000))
    monkeypatch.setenv(LIMIT, "6kB")
    store = PictureStore(ABOUT)
    assert not store.has_room(2_000)
    assert f"would exceed {LIMIT}" in store.unkept
    old = time.time() - 2 * 86_400
    os.utime(features, (old, old))
    assert PictureStore(ABOUT).has_room(2_000)  # what nobody used for a day goes for it
    assert not features.exists()


def test_a_cache_that_cannot_be_written_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    filled(slice(0, 10))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    store = PictureStore(ABOUT)
    assert found(store) == list(range(10))
    store.keep(PICTURES[10:])
    assert store.unkept.endswith("Permission denied")
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("IMGKIT_CACHE", str(blocked))
    assert found(PictureStore(ABOUT)) == []


def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "lots")
    assert found(PictureStore(ABOUT)) == []  # reading asks for no limit
    with pytest.raises(UsageError, match="is not a size"):
        PictureStore(ABOUT).has_room(1)


def test_room_is_made_in_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert make_room(tmp_path / "new" / "pictures" / "rule", 10, 1_000) == ""


def test_a_store_that_is_read_for_days_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would count as unused, and make room for another one, while a phase still reads it."""
    store = filled(slice(0, 3))
    os.utime(store.folder, (1, 1))
    assert store.get(HASHES[0]) is not None
    assert store.folder.stat().st_mtime == 1, "not at every picture"
    monkeypatch.setattr(picture_store, "_TELL_S", -1)
    assert store.get(HASHES[0]) is not None
    assert time.time() - store.folder.stat().st_mtime < 60
