"""`imgkit predict --grid`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from cli_run import Run
from PIL import Image
from sample_runs import write_run

from imgkit import sheet
from imgkit.cli import grid
from imgkit.predict import Prediction
from imgkit.sheet import Sheet, draw_sheet

pytest_plugins = ["cli_fixture"]


@pytest.fixture(autouse=True)
def _run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run that calls everything a cat, or nothing where it is bad."""

    def answers(_: object, inputs: Iterable[str], **options: object) -> Iterator[Prediction]:
        for path in inputs:
            if "open" in path:
                yield Prediction(path, "", 0.5, (("cat", 0.5),), rejected="unsure")
            elif "bad" in path:
                yield Prediction(path, "", 0.0, (), "is cut short")
            else:
                told = Prediction(
                    path, "cat", 0.9127, (("cat", 0.9127),), labels=("cat", "eel"), probs=(0.9127, 0.1, 0.75)
                )
                yield (
                    told if "none" not in path else Prediction(path, "cat", 0.2, (("cat", 0.2),), probs=(0.2, 0.1, 0.1))
                )

    monkeypatch.setattr("imgkit.api.Run.predict", answers)
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a", "b", "none")):
        Image.new("RGB", (10, 20), (number, 0, 0)).save(f"{name}.png")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Sheet]:
    sheets: list[Sheet] = []
    monkeypatch.setattr(sheet, "draw_sheet", lambda given: sheets.append(given) or draw_sheet(given))
    return sheets


def test_each_picture_has_its_answer(imgkit: Run, shown: list[Sheet]) -> None:
    write_run(Path("runs"), "one")
    args = ["predict", "one", "b.png", "bad.png", "a.png", "gone.png"]
    code, out, err = imgkit(*args, "--grid", "g.png")
    assert (code, out) == (0, imgkit(*args)[1]), "the answers are the same"
    assert err == "Wrote g.png (4 pictures)\nwarning: 1 of 4 files could not be read\n"
    tiles = [tile for row in shown[0].rows for tile in row]
    assert [tile.caption for tile in tiles] == [
        ("cat 0.913", "b.png"),
        ("cannot be read", "bad.png"),
        ("cat 0.913", "a.png"),
        ("cat 0.913", "gone.png"),
    ]
    assert [tile.picture and tile.picture.getpixel((0, 0)) for tile in tiles] == [(1, 0, 0), None, (0, 0, 0), None]
    assert Path("g.png").is_file()


def test_an_answer_that_is_left_open_is_no_answer(imgkit: Run, shown: list[Sheet]) -> None:
    write_run(Path("runs"), "one")
    assert imgkit("predict", "one", "open.png", "--grid", "g.png", "--reject-at", "0.9")[0] == 0
    assert shown[0].rows[0][0].caption == ("left open: cat 0.500", "open.png")


def test_lines_for_people_have_a_grid_too(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(Path("runs"), "one")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    code, _, err = imgkit("predict", "one", "a.png", "--grid", "g.png")
    assert (code, err) == (0, "Wrote g.png (1 picture)\n")


def test_several_labels(imgkit: Run, shown: list[Sheet]) -> None:
    write_run(Path("runs"), "one", task="multilabel")
    assert imgkit("predict", "one", "a.png", "none.png", "--grid", "g.png")[0] == 0
    assert [tile.caption[0] for tile in shown[0].rows[0]] == ["cat 0.91 · eel 0.75", "no label"]


def test_the_first_pictures_are_shown_and_that_is_said(
    imgkit: Run, shown: list[Sheet], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(Path("runs"), "one")
    monkeypatch.setattr(grid, "MOST", 2)
    code, out, err = imgkit("predict", "one", "b.png", "a.png", "a.png", "--grid", "g.png")
    assert (code, len(out.splitlines()), err) == (0, 4, "Wrote g.png (the first 2 of 3 pictures)\n")
    assert [tile.caption[1] for row in shown[0].rows for tile in row] == ["b.png", "a.png"]


def test_the_file_that_was_read_is_shown_not_the_cell_of_the_table(
    imgkit: Run, shown: list[Sheet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(Path("runs"), "one")
    (tmp_path / "far").mkdir()
    Image.new("RGB", (4, 4), "blue").save("far/x.png")
    monkeypatch.setattr(
        "imgkit.api.Run.predict",
        lambda *_, **__: iter([Prediction("x.png", "cat", 0.9, (("cat", 0.9),), file="far/x.png")]),
    )
    assert imgkit("predict", "one", "a.csv", "--grid", "g.png")[0] == 0
    (tile,) = shown[0].rows[0]
    assert tile.picture is not None
    assert tile.picture.getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["a.png", "--grid", "g.jpg"], "--grid g.jpg is no PNG."),
        (["a.png", "--grid", "g.png", "--out", "./g.png", "--format", "csv"], "--grid and --out are both g.png."),
        (["a.png", "--grid", "a.png"], "--grid a.png is one of the inputs."),
        ([".", "--grid", "g.png"], "--grid g.png lies inside ., which is never written to."),
        (["a.png", "--grid", "g.png", "--template", "t.csv", "--out", "o.csv"], "--grid is not used"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_read(imgkit: Run, args: list[str], message: str) -> None:
    write_run(Path("runs"), "one")
    code, _, err = imgkit("predict", "one", *args)
    assert code == 2
    assert message in " ".join(err.split())


def test_a_grid_that_cannot_be_written_loses_no_answer(imgkit: Run) -> None:
    write_run(Path("runs"), "one")
    Path("g.png").mkdir()
    code, _, err = imgkit("predict", "one", "a.png", "--out", "p.csv", "--grid", "g.png")
    assert (code, err.splitlines()[-2:]) == (
        7,
        ["error: Cannot write g.png: Is a directory.", "  It is a folder: name a file in it."],
    )
    assert len(Path("p.csv").read_text().splitlines()) == 2


def test_without_its_folder_nothing_is_answered(imgkit: Run) -> None:
    write_run(Path("runs"), "one")
    code, out, err = imgkit("predict", "one", "a.png", "--grid", "no/g.png")
    told = "error: Cannot write no/g.png: No such file or directory.\n  Make its folder first:  mkdir -p no\n"
    assert (code, out, err) == (7, "", told)
