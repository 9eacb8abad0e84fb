"""Bytes and status of pictures inside larger files, against slices of these."""

import os
import pickle
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tars import png, tar

from imgkit.data.byte_range import ByteRange, check_regular, holder, opened, parse, status, url_of
from imgkit.data.decode import load_image
from imgkit.data.range_paths import RangePaths
from imgkit.data.scan import digests, scan
from imgkit.errors import BadImage

NAME = st.text(min_size=1, max_size=8).filter(lambda text: "\n" not in text)


@given(st.integers(0, 10**12 - 1), st.integers(0, 10**9), NAME)
def test_a_path_says_what_it_means(offset: int, size: int, name: str) -> None:
    assert parse(f"/a/b.tar#{offset:012d}+{size}/{name}") == ByteRange("/a/b.tar", offset, size, name)
    assert parse(f"s3:/bucket/b.tar#{offset:012d}+{size}/{name}") == ByteRange("s3://bucket/b.tar", offset, size, name)


def test_a_windows_path_has_its_slashes_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgkit.data.byte_range.os.sep", "\\")
    found = parse(r"C:\data\s.tar#000000000512+70\cat\x.png")
    assert found == ByteRange("C:/data/s.tar", 512, 70, "cat/x.png")
    assert url_of(r"s3:\bucket\s.tar") == "s3://bucket/s.tar"


@pytest.mark.parametrize(
    "text", ["/a/b.jpg", "/a#b.jpg", "/a/b.tar#1+2/c.jpg", "/a/b.zip#000000000001+2/c", "", "C:/a"]
)
def test_other_paths_are_files(text: str) -> None:
    assert parse(text) is None
    assert holder(text) == text


def test_urls_survive_being_paths() -> None:
    for url in ("s3://bucket/a/b.tar", "https://host:8000/b.tar", "memory://a/b.tar", "file:///a/b.tar"):
        assert url_of(Path(url)) == url_of(url) == url
    assert [url_of(text) for text in ("/a/b", "a/b", "C:/a", r"C:\a")] == ["", "", "", ""]


@given(st.integers(0, 120), st.integers(0, 120))
def test_bytes_are_the_slice(tmp_path_factory: pytest.TempPathFactory, offset: int, size: int) -> None:
    file, content = tmp_path_factory.getbasetemp() / "slices.tar", bytes(range(100))
    file.write_bytes(content)
    path = f"{file}#{offset:012d}+{size}/a.png"
    if offset + size > len(content):
        for ask in (opened, status):
            with pytest.raises(OSError, match="its shard ends within it"):
                ask(path)
        return
    with opened(path) as stream:
        assert stream.read() == content[offset : offset + size]
    assert status(path) == (size, file.stat().st_mtime_ns)


def inside(tmp_path: Path) -> tuple[Path, bytes]:
    content = png("inside")
    file = tar(tmp_path / "s.tar", [("a.png", content)])
    return Path(f"{file}#{512:012d}+{len(content)}/a.png"), content


def test_the_decoder_and_the_scan_read_them(tmp_path: Path) -> None:
    path, content = inside(tmp_path)
    (tmp_path / "a.png").write_bytes(content)
    assert load_image(path).tobytes() == load_image(tmp_path / "a.png").tobytes()
    files = [str(path), str(tmp_path / "a.png")]
    for _ in range(2):  # the second time as remembered
        report = scan(files, max_pixels=10_000)
        assert report.facts[0] == report.facts[1]
    one, other = digests(files)
    assert one == other
    os.utime(tmp_path / "s.tar", ns=(1, 1))
    assert status(path).mtime_ns == 1


def test_what_is_wrong_is_told_of_the_picture(tmp_path: Path) -> None:
    path, _ = inside(tmp_path)
    start = str(path).rpartition("#")[0]
    for part, words in (
        ("+0/a.png", "empty"),
        ("+99999/a.png", "its shard ends within it"),
        ("+30/a.png", "not a JPEG"),
    ):
        with pytest.raises(BadImage, match=words):
            load_image(Path(f"{start}#{0:012d}{part}"))
    with pytest.raises(BadImage, match="No such file"):
        load_image(Path(f"{tmp_path}/none.tar#{0:012d}+5/a.png"))
    (tmp_path / "folder.tar").mkdir()
    assert check_regular(f"{tmp_path}/folder.tar#{0:012d}+5/a.png") == "a folder"


def test_errors_of_remote_places_are_told_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages of fsspec have errors that are no OSError."""

    def hung_up(*_: object, **__: object) -> None:
        raise EOFError("the server hung up")

    for name in ("cat_file", "info"):
        monkeypatch.setattr(type(fsspec.filesystem("memory")), name, hung_up)
    path = f"memory://bucket/gone.tar#{0:012d}+5/a.png"
    with pytest.raises(BadImage, match="the server hung up"):
        load_image(Path(path))
    for read in (opened, status, lambda one: next(digests([one]))):
        with pytest.raises(OSError, match="the server hung up"):
            read(path)
    (bad,) = scan([path], max_pixels=100).bad
    assert "the server hung up" in str(bad)


ROW = st.tuples(st.integers(0, 2), st.integers(0, 10**10), st.integers(0, 10**7), NAME)


@given(st.lists(ROW, max_size=12), st.data())
def test_paths_as_numbers_are_those_as_text(rows: list[tuple[int, int, int, str]], data: st.DataObject) -> None:
    import numpy as np

    files, names = (
        [b"a.tar", b"b/c.tar", "é.tar".encode()],
        [name.encode("utf-8", "surrogateescape") for *_, name in rows],
    )
    lengths = np.array([len(name) for name in names], dtype=np.int32)
    paths = RangePaths(
        files,
        np.array([file for file, *_ in rows], dtype=np.int32),
        np.array([offset for _, offset, _, _ in rows], dtype=np.int64),
        np.array([size for _, _, size, _ in rows], dtype=np.int64),
        np.frombuffer(b"".join(names), dtype=np.uint8),
        np.cumsum(lengths, dtype=np.int64) - lengths,
        lengths,
    )
    text = [f"{files[file].decode()}#{offset:012d}+{size}/{name}" for file, offset, size, name in rows]
    assert list(paths) == text
    assert [paths[row] for row in range(len(paths))] == text
    assert list(paths.text()) == text
    assert list(pickle.loads(pickle.dumps(paths))) == text  # noqa: S301  # as it goes to a loader process
    start = data.draw(st.integers(0, len(rows)))
    assert list(paths.part(start, len(rows))) == text[start:]
    chosen = data.draw(st.lists(st.integers(0, max(0, len(rows) - 1)), max_size=5)) if rows else []
    assert list(paths.select(chosen)) == [text[row] for row in chosen]
    with pytest.raises(IndexError):
        paths[len(rows)]
