"""`imgkit predict --format competition` and `multihot`: on real runs, read back; and options that do nothing."""

from pathlib import Path
from zipfile import ZipFile

import pytest
from cli_run import Run
from multilabel_data import write_patches
from oracle import short_run
from sample_runs import write_run

import imgkit as api

pytest_plugins = ["cli_fixture"]


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def _sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs without a model, of either task: what is refused is refused before a model is asked for."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs", "one")
    write_run(tmp_path / "runs", "sets", task="multilabel")
    write_run(tmp_path / "runs", "spaced", classes=["tabby cat", "dog"])
    (tmp_path / "more.txt").write_text("cat\ndog\neel\nnewt\n")


@pytest.mark.usefixtures("_sample")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("one a.jpg --classes-as name", "--classes-as is not used: it is for --format competition."),
        ("one a.jpg --index-base 1", "--index-base is not used: it is for --format competition."),
        ("one a.jpg --class-order c.txt", "--class-order is not used: it is for --format competition or multihot."),
        (
            "sets a.jpg --format multihot --top-k 2",
            "--top-k is not used: it is for --format csv or jsonl or competition.",
        ),
        (
            "sets a.jpg --format multihot --classes-as index",
            "--classes-as is not used: it is for --format competition.",
        ),
        ("one a.jpg --format competition --reject-at 0.9", "--reject-at is not used: it is for --format csv or jsonl."),
        ("one a.jpg --format competition --conformal 0.9", "--conformal is not used: it is for --format csv or jsonl."),
        ("sets a.jpg --format multihot --index-base 0", "--index-base is not used: it is for --format competition."),
        ("one a.jpg --format csv --fill 0", "--fill is not used: it is for a template, and for --format competition"),
        ("one a.jpg --format competition --classes-as name --index-base 1", "--classes-as name writes no indices."),
        ("one a.jpg --format competition --classes-as name --class-order c.txt", "names are in no order."),
        ("one a.jpg --format multihot", "one answers one label for each image, which multihot is not for."),
        ("sets a.jpg --format competition", "sets answers any number of labels for each image, which competition"),
        ("one a.jpg --format competition --fill ''", "--fill '' is not one word"),
        ("spaced a.jpg --format competition --classes-as name", "cannot be told apart in a line of names: tabby cat."),
        ("sets a.jpg --format multihot --class-order more.txt", "does not know, so nothing is known of newt."),
        (
            "one a.jpg --format competition --class-order more.txt --out ./more.txt",
            "--out more.txt is one of the inputs.",
        ),
        ("one a.jpg --vote majority", "--vote is not used: one run decides alone. Name the others: --with NAME"),
    ],
)
def test_what_does_nothing_or_does_not_fit_is_refused(line: str, message: str, imgkit: Run) -> None:
    code, out, err = imgkit("predict", *(word.strip("'") for word in line.split(" ")))
    assert (code, out) == (2, "")
    assert message in flat(err)


def test_the_lines_of_a_competition_read_back(imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = short_run(tmp_path, "phases.all.epochs=1", data="synthetic:7x16")
    about = run.folder.read_json("run.json")
    classes = (run.folder.path / "data" / "classes.txt").read_text().splitlines()
    pictures = Path(about["data"]["root"])
    monkeypatch.chdir(tmp_path)
    expected = [[label for label, _ in answer.top] for answer in run.predict([pictures], top_k=5, precision="float32")]
    assert all(len(set(labels)) == 5 for labels in expected)

    def answered(*options: str) -> tuple[list[list[str]], str]:
        exact = ("--precision", "float32")
        code, out, err = imgkit("predict", "run", str(pictures), "--format", "competition", *exact, *options)
        assert code == 0, err
        return [line.split(" ") for line in out.splitlines()], err

    lines, err = answered()
    assert [[classes[int(word)] for word in line] for line in lines] == expected
    assert flat(err).endswith(f"note: indices count the lines of runs/run/data/classes.txt from 0: {classes[0]} is 0")
    lines, err = answered("--index-base", "1", "--top-k", "2")
    assert [[classes[int(word) - 1] for word in line] for line in lines] == [labels[:2] for labels in expected]
    assert flat(err) == f"note: indices count the lines of runs/run/data/classes.txt from 1: {classes[0]} is 1"
    assert answered("--classes-as", "name") == (expected, "")
    lines, err = answered("--top-k", "9")
    assert {len(line) for line in lines} == {7}
    assert "note: --top-k 9: the model knows 7 classes, and all of them are told" in flat(err)

    order = ["newt", *classes[::-1]]
    Path("order.txt").write_text("\n".join(order))
    lines, err = answered("--class-order", "order.txt")
    assert [[order[int(word)] for word in line] for line in lines] == expected
    assert "order.txt has 1 class that run does not know and never answers: newt" in flat(err)

    Path("bad.jpg").write_bytes(b"no picture")
    args = ("predict", "run", str(pictures), "bad.jpg", "--format", "competition", "--out", "guesses.zip")
    code, _, err = imgkit(*args)
    assert (code, Path("guesses.zip").exists()) == (3, False)
    assert "1 image cannot be read: bad.jpg: " in flat(err)
    code, _, err = imgkit(*args, "--fill", "-1")
    assert code == 0
    assert "1 of 113 files could not be read and got '-1'" in flat(err)
    with ZipFile("guesses.zip") as archive:
        assert archive.namelist() == ["guesses.txt"]
        assert archive.read("guesses.txt").decode().splitlines()[-1] == "-1 -1 -1 -1 -1"


def test_a_competition_of_few_classes_gets_all_of_them(
    imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = short_run(tmp_path, "phases.all.epochs=1")
    pictures = sorted(Path(run.folder.read_json("run.json")["data"]["root"]).rglob("*.png"))[:3]
    monkeypatch.chdir(tmp_path)
    code, out, err = imgkit("predict", "run", *map(str, pictures), "--format", "competition")
    assert code == 0
    assert [sorted(line.split()) for line in out.splitlines()] == [["0", "1", "2"]] * 3
    assert "note: --format competition takes 5 classes: the model knows 3 classes, and all of them are told" in flat(
        err
    )


def test_rows_of_labels_read_back(imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_patches(tmp_path / "patches", n=40)
    run = short_run(tmp_path, "data.label_delimiter=;", "phases.all.epochs=1", data=str(data))
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(8, 13):
        (tmp_path / "patches" / f"{number:03d}.png").rename(photos / f"im{number}.png")
    classes = run.folder.read_json("run.json")["classes"]
    answers = {Path(one.path).stem: one.labels for one in run.predict([photos])}
    code, out, err = imgkit("predict", "run", "photos", "--format", "multihot")
    assert code == 0
    read = [
        tuple(name for name, word in zip(classes, line.split(), strict=True) if word == "1")
        for line in out.splitlines()
    ]
    assert [set(labels) for labels in read] == [set(answers[f"im{number}"]) for number in range(8, 13)]
    assert "columns are in the order of runs/run/data/classes.txt, lines in the numeric order of the names" in flat(err)
    assert set(out) == {"0", "1", " ", "\n"}

    code, out_, err = imgkit("predict", "run", "photos", "--format", "competition")
    refused = "error: run answers any number of labels for each image, which competition is not for."
    assert (code, out_, flat(err)) == (2, "", f"{refused} Write --format multihot")

    Path("order.txt").write_text("\n".join(reversed(classes)))
    code, mirrored, _ = imgkit("predict", "run", "photos", "--format", "multihot", "--class-order", "order.txt")
    assert (code, mirrored.splitlines()) == (0, [line[::-1] for line in out.splitlines()])
    assert isinstance(run, api.Run)
