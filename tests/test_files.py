"""Files that are old or new but never half."""

import os
from pathlib import Path

import pytest

from imgkit import files
from imgkit.files import replace_bytes, sync, whole_file


def test_the_new_text_is_there_at_the_end_only(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("old")
    (tmp_path / "link.csv").symlink_to("p.csv")
    for place in (file, tmp_path / "link.csv"):
        with whole_file(place, newline="") as stream:
            stream.write("new\n\udcff")
            stream.flush()
            assert file.read_bytes() in (b"old", b"new\n\xff")
        assert file.read_bytes() == b"new\n\xff"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.csv", "p.csv"]
    assert (tmp_path / "link.csv").is_symlink()


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_at_an_error_the_old_file_stays(tmp_path: Path, error: type[BaseException]) -> None:
    file = tmp_path / "p.csv"
    file.write_text("old")

    def write() -> None:
        with whole_file(file) as stream:
            stream.write("half")
            raise error

    with pytest.raises(error):
        write()
    assert file.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.csv"]


def test_a_device_is_written_and_not_replaced() -> None:
    with whole_file(Path(os.devnull)) as stream:
        stream.write("gone")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize(("windows", "synced"), [(False, 2), (True, 1)])
def test_the_names_in_a_folder_are_synced_where_the_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, windows: bool, synced: int
) -> None:
    calls: list[int] = []
    (tmp_path / "a").touch()
    monkeypatch.setattr(files, "_WINDOWS", windows)
    monkeypatch.setattr(os, "fsync", calls.append)
    for place in (tmp_path / "a", tmp_path):
        sync(place)
    assert len(calls) == synced


def test_bytes_take_the_place_of_a_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "p.png"
    (tmp_path / "link.png").symlink_to("p.png")
    replace_bytes(file, b"old")
    replace_bytes(tmp_path / "link.png", b"new")
    assert file.read_bytes() == b"new"
    assert (tmp_path / "link.png").is_symlink()
    replace_bytes(Path(os.devnull), b"gone")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_bytes(file, b"half")
    assert file.read_bytes() == b"new"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.png", "p.png"]
