"""The scan: facts, duplicates, cache."""

import hashlib
import os
import sqlite3
from pathlib import Path

import corpus
import numpy as np
import pytest
from PIL import Image

from imgkit.data import scan as scan_file
from imgkit.data.builtin import cache_folder
from imgkit.data.scan import digests, scan
from imgkit.errors import BadImage


def run(*paths: Path, max_pixels: int = 10**7) -> scan_file.ScanReport:
    return scan([str(path) for path in paths], max_pixels=max_pixels)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were really read."""
    names: list[str] = []
    read = scan_file.read_image

    def noting(path: Path, **options: int) -> object:
        names.append(path.name)
        return read(path, **options)

    monkeypatch.setattr(scan_file, "read_image", noting)
    return names


def test_facts(tmp_path: Path) -> None:
    corpus.colours().save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(corpus.exif_jpeg(6, (100, 60)))
    Image.new("L", (10, 10)).save(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes(b"x")
    Image.fromarray(np.zeros((10, 30), dtype=np.uint16)).save(tmp_path / "e.png")
    report = run(*sorted(tmp_path.iterdir()))
    assert [fact and (fact.width, fact.height) for fact in report.facts] == [
        (48, 40),
        (60, 100),
        (10, 10),
        None,
        (30, 10),
    ]
    assert [fact.size for fact in report.good] == [
        (tmp_path / name).stat().st_size for name in ("a.png", "b.jpg", "c.png", "e.png")
    ]
    assert [Path(error.path).name for error in report.bad] == ["d.png"]
    assert report.formats == {"PNG": 3, "JPEG": 1}
    assert (report.rotated, report.gray) == (1, 2)
    assert report.largest == (60, 100)
    assert report.median_size == (39, 25)


def test_empty() -> None:
    report = run()
    assert (report.facts, report.bad, report.largest, report.median_size, report.duplicates) == ((), (), None, None, ())


def test_progress(tmp_path: Path) -> None:
    corpus.colours().save(tmp_path / "a.png")
    seen: list[tuple[int, int]] = []
    scan([str(tmp_path / "a.png")] * 150, max_pixels=10**6, progress=lambda done, total: seen.append((done, total)))
    assert [total for _, total in seen] == [150] * len(seen)
    done = [count for count, _ in seen]
    assert done == sorted(done)
    assert done[-1] == 150


def test_good_files_are_read_once(tmp_path: Path, decoded: list[str]) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    corpus.colours().save(good)
    bad.write_bytes(b"x")
    first = run(good, bad)
    assert sorted(decoded) == ["bad.png", "good.png"]
    decoded.clear()
    second = run(good, bad)
    assert decoded == ["bad.png"]
    assert second.facts == first.facts
    assert isinstance(second.facts[0].rotated, bool)
    assert [error.reason for error in second.bad] == [error.reason for error in first.bad]


def test_a_changed_file_is_read_again(tmp_path: Path, decoded: list[str]) -> None:
    path = tmp_path / "a.png"
    corpus.colours().save(path)
    run(path)
    os.utime(path, ns=(0, 1))  # only the time
    run(path)
    run(path, max_pixels=10**6)  # another limit
    assert len(decoded) == 3
    time_ns = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes() + b"more")  # only the size
    os.utime(path, ns=(0, time_ns))
    run(path)
    assert len(decoded) == 4
    report = run(path, max_pixels=10)
    assert "1,920 pixels, over the limit of 10" in report.bad[0].reason


@pytest.mark.parametrize("damage", ["file", "garbage", "locked"])
def test_a_bad_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    corpus.colours().save(tmp_path / "a.png")
    if damage == "file":
        (tmp_path / "cache").write_text("")
        monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path / "cache" / "below"))
    elif damage == "garbage":
        (cache_folder() / "scan.sqlite").write_bytes(b"garbage" * 1000)
    else:
        monkeypatch.setattr(scan_file, "_TIMEOUT_S", 0.05)
        run(tmp_path / "a.png")
        other = sqlite3.connect(cache_folder() / "scan.sqlite", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
    report = run(tmp_path / "a.png")
    if damage == "locked":
        other.close()
    assert report.good[0].format == "PNG"


def test_digests_are_of_the_bytes_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / f"{number}.png" for number in range(70)]
    for number, file in enumerate(files):
        corpus.colours().save(file) if number == 3 else file.write_bytes(b"%d" % number)
    run(files[3])
    read: list[str] = []

    def noting(file: str) -> object:
        read.append(Path(file).name)
        return original(file)

    original = scan_file._hash
    monkeypatch.setattr(scan_file, "_hash", noting)

    def answers() -> list[str]:
        return list(digests(str(file) for file in files))

    expected = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert answers() == expected
    assert sorted(read) == sorted(file.name for file in files if file != files[3]), "the scan knows one"
    read.clear()
    assert answers() == expected
    assert read == []
    before = files[5].stat()
    files[5].write_bytes(b"x")  # as long as it was
    os.utime(files[5], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert answers() == [*expected[:5], hashlib.sha256(b"x").hexdigest(), *expected[6:]]
    assert read == ["5.png"]


def test_digests_name_the_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(FileNotFoundError) as caught:
        list(digests([str(tmp_path / "a.png"), str(tmp_path / "gone.png")]))
    assert caught.value.filename == str(tmp_path / "gone.png")

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("hashlib.file_digest", broken)
    os.utime(tmp_path / "a.png", ns=(0, 0))
    with pytest.raises(OSError, match="Input/output error") as odd:
        list(digests([str(tmp_path / "a.png")]))
    assert odd.value.filename == str(tmp_path / "a.png")


@pytest.mark.parametrize("damage", ["file", "garbage"])
def test_digests_need_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    if damage == "file":
        (tmp_path / "cache").write_text("")
        monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path / "cache" / "below"))
    else:
        (cache_folder() / "scan.sqlite").write_bytes(b"garbage" * 1000)
    assert list(digests([str(tmp_path / "a.png")])) == [hashlib.sha256(b"x").hexdigest()]


def test_a_name_that_is_not_utf8(tmp_path: Path, decoded: list[str]) -> None:
    path = tmp_path / os.fsdecode(b"\xff.png")
    corpus.colours().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(path)
    assert run(path).facts == run(path).facts
    assert len(decoded) == 1


def test_file_that_vanishes_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    corpus.colours().save(path)
    read = scan_file.read_image

    def then_delete(path: Path, **options: int) -> object:
        found = read(path, **options)
        path.unlink()
        return found

    monkeypatch.setattr(scan_file, "read_image", then_delete)
    report = run(path)
    assert isinstance(report.bad[0], BadImage)
    assert report.bad[0].reason == "No such file or directory"


def test_what_is_written_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new content has the old one's size, and the scan's chunk ends only after it was written."""
    file = tmp_path / "a.bmp"
    for color, mtime in (("red", 1), ("blue", 2)):
        Image.new("RGB", (8, 8), color).save(tmp_path / f"{color}.bmp")
        os.utime(tmp_path / f"{color}.bmp", (mtime, mtime))
    (tmp_path / "red.bmp").rename(file)
    red, blue = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (file, tmp_path / "blue.bmp"))
    original = scan_file.examine

    def examine(path: str, max_pixels: int) -> object:
        found = original(path, max_pixels)
        (tmp_path / "blue.bmp").rename(file)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(scan_file, "examine", examine)
        (fact,) = run(file).good
    assert fact.sha256 == red, "as it was read"
    assert [found.sha256 for found in run(file).good] == [blue]
    assert list(digests([str(file)])) == [blue]
