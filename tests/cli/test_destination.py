"""Files, archives and stdout."""

from pathlib import Path
from zipfile import ZipFile

import pytest

from imgkit.cli.destination import destination
from imgkit.errors import DiskError


def test_a_file_an_archive_and_stdout(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    text = "größer\r\n\udcff.jpg\n"
    for out in (tmp_path / "a.csv", tmp_path / "b.ZIP", None):
        with destination(out, ".txt") as stream:
            stream.write(text)
    expected = text.encode("utf-8", "surrogateescape")
    assert (tmp_path / "a.csv").read_bytes() == expected
    with ZipFile(tmp_path / "b.ZIP") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["b.txt"]
        assert archive.read("b.txt") == expected
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
    assert capfdbinary.readouterr().out == expected
    print("still open")


@pytest.mark.parametrize("name", ["a.csv", "a.zip"])
def test_the_old_file_stays_where_writing_fails(name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    out.write_text("old")

    def fail() -> None:
        with destination(out, ".csv") as stream:
            stream.write("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert out.read_text() == "old"
    with pytest.raises(DiskError, match=r"Cannot write .*gone/x: No such file"), destination(tmp_path / "gone/x", ""):
        pass
