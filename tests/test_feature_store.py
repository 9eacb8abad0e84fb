import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from imgkit import feature_store
from imgkit.cache import LIMIT
from imgkit.data.builtin import cache_folder
from imgkit.errors import UsageError
from imgkit.feature_store import FeatureStore, Rows, name_of

WIDTH = 3
NAMES = [name_of(bytes([n])) for n in range(100)]


def row_of(name: bytes) -> Rows:
    return np.frombuffer(name[:12], np.uint8)[:WIDTH].astype(np.float32)


class Computer:
    """Computes rows some at a time, and remembers which."""

    def __init__(self, names: Sequence[bytes], stop_after: int = 10**9) -> None:
        self.names, self.stop_after = names, stop_after
        self.asked: list[int] = []
        self.closed = False

    def __call__(self, places: Sequence[int]) -> Iterator[Rows]:
        try:
            for start in range(0, len(places), 7):
                taken = places[start : start + 7]
                self.asked += taken
                if len(self.asked) > self.stop_after:
                    raise KeyboardInterrupt
                yield np.stack([row_of(self.names[place]) for place in taken])
        finally:
            self.closed = True


def through(store: FeatureStore, names: Sequence[bytes], computer: Computer) -> Rows:
    return np.concatenate(list(store.rows(names, computer, WIDTH)))


def expected(names: Sequence[bytes]) -> Rows:
    return np.stack([row_of(name) for name in names])


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path / "cache"))


def test_rows_are_computed_once_and_come_in_the_order_of_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "_TOGETHER", 10)
    first = Computer(NAMES[:50])
    assert np.array_equal(through(FeatureStore({"a": 1}), NAMES[:50], first), expected(NAMES[:50]))
    assert first.asked == list(range(50))
    mixed = [NAMES[n] for n in np.random.default_rng(0).permutation(100)]
    second = Computer(mixed)
    assert np.array_equal(through(FeatureStore({"a": 1}), mixed, second), expected(mixed))
    assert sorted(mixed[place] for place in second.asked) == sorted(NAMES[50:])
    third = Computer(mixed)
    assert np.array_equal(through(FeatureStore({"a": 1}), mixed, third), expected(mixed))
    assert third.asked == []


def test_other_facts_are_another_store() -> None:
    through(FeatureStore({"a": 1}), NAMES, Computer(NAMES))
    other = Computer(NAMES)
    through(FeatureStore({"a": 2}), NAMES, other)
    assert len(other.asked) == len(NAMES)


def test_a_picture_that_is_there_twice_is_kept_once() -> None:
    names = [NAMES[0], NAMES[1], NAMES[0]]
    store = FeatureStore({})
    assert np.array_equal(through(store, names, Computer(names)), expected(names))
    (file,) = store.folder.iterdir()
    assert len(feature_store._names_of(file)) == 2


@pytest.mark.parametrize("stop_after", [0, 7, 21, 50])
def test_what_was_computed_before_a_stop_is_kept(stop_after: int) -> None:
    stopped = Computer(NAMES, stop_after)
    with pytest.raises(KeyboardInterrupt):
        through(FeatureStore({}), NAMES, stopped)
    assert stopped.closed
    again = Computer(NAMES)
    assert np.array_equal(through(FeatureStore({}), NAMES, again), expected(NAMES))
    assert len(again.asked) == len(NAMES) - stop_after // 7 * 7


def test_a_reader_that_leaves_ends_the_computing() -> None:
    computer = Computer(NAMES)
    rows = FeatureStore({}).rows(NAMES, computer, WIDTH)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert computer.closed


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other", "gone"])
def test_a_file_that_is_not_what_its_name_says_is_computed_again(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "_TOGETHER", 25)
    store = FeatureStore({})
    through(store, NAMES, Computer(NAMES))
    file, other, *_ = sorted(store.folder.iterdir())
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    {
        "flip": lambda: file.write_bytes(content),
        "cut": lambda: file.write_bytes(content[:-1]),
        "empty": lambda: file.write_bytes(b""),
        "other": lambda: shutil.copy(other, file),
        "gone": file.unlink,
    }[damage]()
    again = Computer(NAMES)
    assert np.array_equal(through(FeatureStore({}), NAMES, again), expected(NAMES))
    assert len(again.asked) == 25


def test_a_disk_that_says_no_ends_the_keeping_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_store, "replace_bytes", refuse)
    store = FeatureStore({})
    assert np.array_equal(through(store, NAMES, Computer(NAMES)), expected(NAMES))
    assert store.unkept.endswith("No space left on device")


def test_a_cache_that_is_a_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    store = FeatureStore({})
    assert np.array_equal(through(store, NAMES, Computer(NAMES)), expected(NAMES))
    assert "Not a directory" in store.unkept


def test_half_of_what_is_free_is_left_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    free = 3 * len(NAMES) * (4 * WIDTH + 16) // 2
    usage = shutil.disk_usage(Path.cwd())._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    store = FeatureStore({})
    through(store, NAMES, Computer(NAMES))
    assert "too little room" in store.unkept
    assert not store.folder.exists()


def test_the_limit_removes_what_was_not_used_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = [FeatureStore({"n": n}) for n in range(4)]
    for store in stores:
        through(store, NAMES, Computer(NAMES))
    size = sum(file.stat().st_size for file in stores[0].folder.iterdir())
    now = time.time()
    for store, days in zip(stores, (3, 5, 0.5, 4), strict=True):
        os.utime(store.folder, (now - days * 86_400,) * 2)
    monkeypatch.setenv(LIMIT, f"{3.5 * size / 1000}kB")
    fifth = FeatureStore({"n": 4})
    through(fifth, NAMES, Computer(NAMES))
    assert not fifth.unkept
    assert [store.folder.exists() for store in (*stores, fifth)] == [True, False, True, False, True]


def test_what_is_in_use_is_never_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = FeatureStore({"n": 0})
    through(first, NAMES, Computer(NAMES))
    monkeypatch.setenv(LIMIT, "3kB")
    second = FeatureStore({"n": 1})
    through(second, NAMES, Computer(NAMES))
    assert f"would exceed {LIMIT} (3 KiB" in second.unkept
    assert first.folder.exists()
    assert not second.folder.exists()


@pytest.mark.parametrize(("text", "told"), [("lots", "is not a size"), ("3", "has no unit"), ("0GB", "not above 0")])
def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, told: str) -> None:
    monkeypatch.setenv(LIMIT, text)
    with pytest.raises(UsageError, match=told) as caught:
        FeatureStore({})
    assert LIMIT in caught.value.hint


def test_two_that_write_at_once_harm_nothing() -> None:
    one, other = FeatureStore({}), FeatureStore({})
    first = one.rows(NAMES, Computer(NAMES), WIDTH)
    next(first)
    assert np.array_equal(through(other, NAMES, Computer(NAMES)), expected(NAMES))
    assert len(np.concatenate(list(first))) == len(NAMES) - 32
    third = Computer(NAMES)
    assert np.array_equal(through(FeatureStore({}), NAMES, third), expected(NAMES))
    assert third.asked == []


def test_what_a_killed_write_left_goes_after_a_day() -> None:
    store = FeatureStore({})
    through(store, NAMES, Computer(NAMES))
    for name, days in ((".a.safetensors.tmp-1f-0a1b2c3d", 2), (".b.safetensors.tmp-1f-0a1b2c3d", 0)):
        (store.folder / name).write_bytes(b"half")
        os.utime(store.folder / name, (time.time() - days * 86_400,) * 2)
    again = Computer(NAMES)
    through(FeatureStore({}), NAMES, again)
    assert again.asked == []
    assert [file.name[:3] for file in store.folder.iterdir() if file.name.startswith(".")] == [".b."]


def test_nothing_but_whole_files_lies_in_the_cache() -> None:
    store = FeatureStore({})
    through(store, NAMES, Computer(NAMES))
    assert store.folder.parent == cache_folder() / "features"
    assert {file.suffix for file in store.folder.iterdir()} == {".safetensors"}
