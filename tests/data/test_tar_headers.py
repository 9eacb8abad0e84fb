"""Members of tar files against Python's tarfile, and what is refused."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tars import tar

from imgkit.data import tar_headers
from imgkit.data.tar_headers import Member, members
from imgkit.errors import DataError

NAME = st.text(st.sampled_from("ab.é中_-"), min_size=1, max_size=90).filter(lambda name: name.strip("."))
NAMES = st.lists(st.lists(NAME, min_size=1, max_size=4).map("/".join), max_size=5)
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def read(content: bytes) -> list[Member]:
    return list(members(io.BytesIO(content), len(content), "x.tar"))


def archive(names: list[str], kind: int = tarfile.GNU_FORMAT, **about: object) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as written:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = number * 300
            for key, value in about.items():
                setattr(info, key, value)
            written.addfile(info, io.BytesIO(bytes([number]) * info.size))
    return stream.getvalue()


@given(NAMES, st.sampled_from(FORMATS[1:]))
def test_members_are_those_of_tarfile(names: list[str], kind: int) -> None:
    content = archive(names, kind)
    with tarfile.open(fileobj=io.BytesIO(content)) as known:
        expected = [Member(one.name, one.offset_data, one.size) for one in known if one.isreg()]
    assert read(content) == expected


@pytest.mark.parametrize("kind", FORMATS)
def test_folders_and_leading_dots_are_passed_over(tmp_path: Path, kind: int) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=kind) as written:
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "1.jpg").write_bytes(b"one")
        written.add(tmp_path / "sub", "./sub")
    content = (tmp_path / "a.tar").read_bytes()
    (found,) = read(content)
    assert (found.name, content[found.offset : found.offset + found.size]) == ("sub/1.jpg", b"one")


@given(st.integers(0, 6000))
def test_a_cut_is_always_told(at: int) -> None:
    content = archive(["a.jpg", "b/" + "c" * 120 + ".jpg", "d.jpg"])
    end = len(content.rstrip(b"\0"))
    at = min(at, end)
    with pytest.raises(DataError, match=r"x\.tar, byte [\d,]+: it (ends|is no tar)"):
        read(content[:at])


@given(st.binary(max_size=2000))
def test_noise_is_no_tar_file(noise: bytes) -> None:
    if noise.count(0) < len(noise):
        with pytest.raises(DataError, match=r"x\.tar, byte"):
            read(noise)


@given(st.integers(0, 511), st.integers(1, 255))
def test_a_changed_header_is_never_believed(at: int, by: int) -> None:
    content = bytearray(archive(["a.jpg", "b.jpg"]))
    content[at] = (content[at] + by) % 256
    with pytest.raises(DataError, match=r"x\.tar, byte 0: "):
        read(bytes(content))


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a link": (lambda: archive(["a"], type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0), "a is a link"),
    "a hard link": (lambda: archive(["a"], type=tarfile.LNKTYPE, linkname="b", size=0), "a is a link"),
    "a device": (lambda: archive(["a"], type=tarfile.BLKTYPE, size=0), "a is a device"),
    "a FIFO": (lambda: archive(["a"], type=tarfile.FIFOTYPE, size=0), "a is a FIFO"),
    "an absolute name": (lambda: archive(["/etc/x.jpg"]), "'/etc/x.jpg', which leads out"),
    "a way up": (lambda: archive(["a/../../x.jpg"]), "leads out of the shard"),
    "a way up in pax": (lambda: archive(["é/../x.jpg"], tarfile.PAX_FORMAT), "leads out of the shard"),
    "a sparse file": (lambda: archive(["a"], type=tarfile.GNUTYPE_SPARSE), "a sparse file"),
    "an unknown kind": (lambda: archive(["a"], type=b"Z", size=0), "unknown kind 'Z'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str) -> None:
    make, words = REFUSED[what]
    with pytest.raises(DataError, match=words) as caught:
        read(make())
    assert caught.value.message.startswith("x.tar, byte ")
    assert "imgkit data pack" in caught.value.hint


def test_a_huge_header_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = archive(["a" * 3000])
    monkeypatch.setattr(tar_headers, "_MOST_HEADER", 2000)
    with pytest.raises(DataError, match=r"an extended header of 3,001 bytes, and 2,000 are the most"):
        read(content)


@pytest.mark.parametrize("record", [b"99 path=a\n", b"x", b"9 path=a", b"0 path=a\n", b"-1 path=a\n", b"12 size=1e3\n"])
def test_damaged_extended_headers(record: bytes) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    content = info.tobuf() + record.ljust(512, b"\0") + archive(["a"])
    with pytest.raises(DataError, match="extended header"):
        read(content)


def test_contents_are_not_read(tmp_path: Path) -> None:
    file = tar(tmp_path / "a.tar", [("a.jpg", bytes(1 << 20)), ("b.jpg", bytes(1 << 20))])

    class Counted(io.FileIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            found = super().read(-1 if size is None else size)
            Counted.taken += len(found)
            return found

    with Counted(str(file)) as stream:
        assert len(list(members(stream, file.stat().st_size, "a.tar"))) == 2
    assert Counted.taken <= 4 * 512
