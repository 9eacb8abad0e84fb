"""`imgkit predict --template`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from cli_run import Run
from sample_runs import write_run

from imgkit.predict import Prediction

pytest_plugins = ["cli_fixture"]


@pytest.fixture(autouse=True)
def _run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run whose model takes the first letter of a file's name for its class."""

    def answers(_: object, inputs: Iterable[str], *, top_k: int = 1, **options: object) -> Iterator[Prediction]:
        for path in inputs:
            label = {"c": "cat", "d": "dog"}.get(Path(path).name[0])
            if label is None:
                yield Prediction(path, "", 0.0, (), "is cut short")
            else:
                top = ((label, 0.75), ("dog" if label == "cat" else "cat", 0.25))
                yield Prediction(path, label, 0.75, top[:top_k], labels=(label,))

    monkeypatch.setattr("imgkit.api.Run.predict", answers)
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs", "one")
    (tmp_path / "photos").mkdir()
    for name in ("d1", "c1", "c2"):
        (tmp_path / "photos" / f"{name}.jpg").touch()


def test_a_template_is_filled(imgkit: Run) -> None:
    Path("answers.csv").write_text("id,label\r\nc2,?\r\nd1,?\r\nc1,?\r\n", newline="")
    code, out, err = imgkit("predict", "one", "photos", "--template", "answers.csv", "--out", "filled.csv")
    assert (code, out, err) == (0, "", "Wrote filled.csv (3 rows)\n")
    assert Path("filled.csv").read_bytes() == b"id,label\r\nc2,cat\r\nd1,dog\r\nc1,cat\r\n"


def test_an_archive_holds_the_table(imgkit: Run) -> None:
    Path("answers.csv").write_text("id,label\nc2,\nd1,\nc1,\n")
    args = ["predict", "one", "photos", "--template", "answers.csv", "--out"]
    assert imgkit(*args, "prediction.zip") == (0, "", "Wrote prediction.zip (3 rows)\n")
    with ZipFile("prediction.zip") as archive:
        assert archive.namelist() == ["prediction.csv"]
        assert archive.read("prediction.csv") == b"id,label\nc2,cat\nd1,dog\nc1,cat\n"
    before = Path("prediction.zip").read_bytes()
    assert imgkit(*args, "again.zip")[0] == imgkit(*args, "prediction.zip")[0] == 0
    assert Path("prediction.zip").read_bytes() == before, "no time in it"
    Path("photos/c1.jpg").unlink()
    code, _, err = imgkit(*args, "prediction.zip")
    assert (code, "1 row of answers.csv without an image: c1." in " ".join(err.split())) == (3, True)
    assert Path("prediction.zip").read_bytes() == before


def test_missing_and_surplus_images(imgkit: Run) -> None:
    Path("answers.csv").write_text("id,label\nc2,\nx9,\n")
    args = ["predict", "one", "photos", "--template", "answers.csv", "--out", "filled.csv"]
    code, _, err = imgkit(*args)
    words = " ".join(err.split())
    assert code == 3
    assert "1 row of answers.csv without an image: x9." in words
    assert "2 images without a row in answers.csv: photos/c1.jpg, photos/d1.jpg." in words
    assert "--fill VALUE" in words
    assert not Path("filled.csv").exists()
    code, _, err = imgkit(*args, "--fill", "none")
    assert code == 0
    assert Path("filled.csv").read_text() == "id,label\nc2,cat\nx9,none\n"
    assert "1 row without a readable image got 'none'" in err
    assert "2 images without a row left out" in err


def test_an_unreadable_image(imgkit: Run) -> None:
    Path("photos/x9.jpg").touch()
    Path("answers.csv").write_text("id,label\nc2,\nx9,\nc1,\nd1,\n")
    args = ["predict", "one", "photos", "--template", "answers.csv", "--out", "filled.csv"]
    code, _, err = imgkit(*args)
    assert (code, "photos/x9.jpg: is cut short" in err) == (3, True)
    assert imgkit(*args, "--fill", "")[0] == 0
    assert Path("filled.csv").read_text() == "id,label\nc2,cat\nx9,\nc1,cat\nd1,dog\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--fill", "x"], "--fill is not used: it is for a template, and for --format competition or multihot."),
        (["--label-col", "x"], "--label-col is not used"),
        (["--template", "answers.csv"], "A filled template is written to a file."),
        (["--template", "answers.csv", "--out", "o.csv", "--top-k", "3"], "--top-k is not used"),
        (["--template", "answers.csv", "--out", "o.csv", "--format", "jsonl"], "--format is not used"),
        (["--template", "answers.csv", "--out", "o.csv", "--classes-as", "name"], "--classes-as is not used"),
        (["--template", "answers.csv", "--out", "o.csv", "--index-base", "1"], "--index-base is not used"),
        (["--template", "answers.csv", "--out", "o.csv", "--class-order", "c.txt"], "--class-order is not used"),
    ],
)
def test_options_that_nothing_would_read(args: list[str], message: str, imgkit: Run) -> None:
    Path("answers.csv").write_text("id,label\nc2,\n")
    code, _, err = imgkit("predict", "one", "photos", *args)
    assert code == 2
    assert message in " ".join(err.split())


def test_neither_the_template_nor_the_pictures_are_written_over(imgkit: Run) -> None:
    Path("answers.csv").write_text("id,label\nc2,\nd1,\nc1,\n")
    before = Path("answers.csv").read_bytes()
    code, _, err = imgkit("predict", "one", "photos", "--template", "answers.csv", "--out", "answers.csv")
    assert (code, "--out is the template itself" in err) == (2, True)
    assert Path("answers.csv").read_bytes() == before
    for more in (["--template", "answers.csv"], []):
        code, _, err = imgkit("predict", "one", "photos", "--out", "photos/in/filled.csv", *more)
        assert (code, "lies inside photos, which is never written to" in " ".join(err.split())) == (2, True)
        assert "--out filled.csv" in err


@pytest.mark.parametrize("out", ["answers.csv", "photos/../answers.csv", "link.csv"])
def test_a_template_or_an_input_is_never_written_over(imgkit: Run, out: str) -> None:
    table = "id,label\nc2,?\nd1,?\nc1,?\n"
    Path("answers.csv").write_text(table)
    Path("link.csv").symlink_to("answers.csv")
    code, _, err = imgkit("predict", "one", "photos", "--template", "answers.csv", "--out", out)
    assert (code, Path("answers.csv").read_text()) == (2, table)
    assert "--out is the template itself." in err
    Path("list.csv").write_text("path\nphotos/c1.jpg\n")
    code, _, err = imgkit("predict", "one", "list.csv", "--template", "answers.csv", "--out", "photos/../list.csv")
    assert (code, Path("list.csv").read_text()) == (2, "path\nphotos/c1.jpg\n")
    assert "is one of the inputs" in " ".join(err.split())
