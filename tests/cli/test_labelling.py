import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cli_run import Run
from pictures import TreeHash, square
from sample_runs import write_run
from sittings import Client

pytest_plugins = ["cli_fixture"]

Person = Callable[[Client], object]
"""What is done with the page before Ctrl-C."""
ROOT = Path(__file__).parents[2]


def photos(place: Path, names: Sequence[str]) -> Path:
    """Pictures of these names in `place`/photos, of a colour each by their first letter."""
    for number, name in enumerate(names):
        file = place / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        square(number, code="cd".find(file.name[0])).save(file)
    return place / "photos"


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def sit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Person], None]:
    """What a person does at the next `imgkit label`, in a browser that opens by itself."""
    opened: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open", opened.append)

    def plan(person: Person) -> None:
        def sleep(seconds: float) -> None:
            person(Client(opened.pop()))
            raise KeyboardInterrupt

        monkeypatch.setattr("imgkit.cli.labelling.sleep", sleep)

    return plan


def by_name(*, most: int = 100) -> Person:
    """Answers, with 0 or 1, what the first letter of a file says."""

    def person(client: Client) -> None:
        number = 0
        for _ in range(most):
            item = client.get(f"item/{number}")
            number = client.answer(number, "cd".index(Path(item["name"]).name[0]))["next"]
            if number is None:
                return

    return person


def test_label_train_label_again(
    imgkit: Run, sit: Callable[[Person], None], tmp_path: Path, tree_hash: TreeHash, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgkit.weight_packages.installed_networks", lambda: [])
    names = [f"{letter}{number}.png" for number in range(10) for letter in "cd"]
    before = tree_hash(photos(tmp_path, names))
    sit(by_name(most=14))
    code, out, err = imgkit("label", "photos", "--classes", "cat,dog")
    assert (code, out) == (0, "")
    assert "Images  20, 0 of them answered in labels.csv\n" in err
    assert re.search(r"Open    http://127\.0\.0\.1:\d+/[\w-]{32}/  \(Ctrl-C ends\)\n", err)
    assert "Wrote   labels.csv (14 answers, 6 left)\n" in err
    assert err.endswith("Next    imgkit finetune resnet50 --data labels.csv --root photos\n")

    network = ("test_resnet", "--image-size", "32", "--epochs", "2", "--workers", "0", "--name", "first")
    code, _, err = imgkit("scratch", *network, "--data", "labels.csv", "--root", "photos")
    assert code == 0, err

    suggested: list[list[float]] = []

    def second(client: Client) -> None:
        suggested.extend([prob for _, prob in client.get(f"item/{number}")["top"]] for number in range(6))
        by_name()(client)

    sit(second)
    code, _, err = imgkit("label", "photos", "--run", "first")
    assert code == 0, err
    assert "Images  20, 14 of them answered in labels.csv\n" in err
    margins = [first - second for first, second in suggested]
    assert margins == sorted(margins)
    found = rows(tmp_path / "labels.csv")
    assert {row["path"]: row["label"] for row in found} == {name: {"c": "cat", "d": "dog"}[name[0]] for name in names}
    assert [row["run"] for row in found] == [""] * 14 + ["first"] * 6
    assert [float(row["prob"]) for row in found[14:]] == pytest.approx([first for first, _ in suggested], abs=1e-6)
    assert all(row["suggested"] in {"cat", "dog"} for row in found[14:])

    (tmp_path / "own.py").touch()
    code, _, err = imgkit("label", "photos", "--run", "first", "--plugin", "own.py")
    assert (code, "Done    all 20 images have an answer in labels.csv\n" in err) == (0, True)
    assert "Next    imgkit finetune test_resnet.r160_in1k --data labels.csv --root photos --plugin own.py\n" in err
    code, out, _ = imgkit("data", "check", "labels.csv", "--root", "photos")
    assert (code, "20 images · 2 classes" in out) == (0, True)
    assert tree_hash(tmp_path / "photos") == before, "the pictures are never written to"


def test_a_kill_between_answers_loses_none_of_them(tmp_path: Path) -> None:
    photos(tmp_path, [f"c{number}.png" for number in range(5)])
    command = [sys.executable, "-m", "imgkit", "label", "photos", "--classes", "cat,dog", "--no-open"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    for sitting in range(2):
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            told = iter(process.stderr.readline, "")
            address = next(found[0] for line in told if (found := re.search(r"http://\S+/", line)))
            client = Client(address)
            client.answer(0, 0)
            client.answer(1, 1)
            os.kill(process.pid, signal.SIGKILL)
        found = [(row["path"], row["label"]) for row in rows(tmp_path / "labels.csv")]
        assert found == [("c0.png", "cat"), ("c1.png", "dog"), ("c2.png", "cat"), ("c3.png", "dog")][: 2 * sitting + 2]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["labels.csv", "photos"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["photos"], "There are no classes to choose from.\n  Name them:  --classes cat,dog   or a run:  --run latest"),
        (["photos", "--classes", "cat"], "--classes names one class, cat, and there is nothing to choose."),
        (["photos", "--classes", "cat,,dog"], "--classes: name 2 is empty."),
        (["photos", "--classes", "cat,dog,cat"], "--classes: 'cat' is there twice."),
        (["photos", "--classes", "cat,d\x07g"], "--classes: name 2 has characters that cannot be seen."),
        (
            ["photos", "--classes", "cat,dog", "--order", "entropy"],
            "--order is not used: it is about the model of a run",
        ),
        (["photos", "--classes", "cat,dog", "--device", "cpu"], "--device is not used"),
        (["photos", "--classes", "cat,dog", "--out", "x.txt"], "--out x.txt does not end in .csv."),
        (["photos", "--classes", "cat,dog", "--out", "dir.csv"], "--out dir.csv is a folder."),
        (["photos", "--classes", "cat,dog", "--out", "other.csv"], "is another table, which is not written over"),
        ([".", "--classes", "cat,dog"], "labels.csv would lie among the images of"),
        (["photos", "--run", "none"], "none"),
        (["photos", "--run", "sets"], "sets gives an image any number of labels; imgkit label gives it one."),
        (["photos", "--run", "one", "--order", "size"], "--order"),
    ],
)
def test_what_cannot_be_is_told(
    imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    photos(tmp_path, ["c.png"])
    (tmp_path / "dir.csv").mkdir()
    (tmp_path / "other.csv").write_text("path,label\n")
    write_run(tmp_path / "runs", "one")
    write_run(tmp_path / "runs", "sets", task="multilabel")
    code, out, err = imgkit("label", *args)
    assert (code, out) == (2, "")
    assert told in err
    assert (tmp_path / "other.csv").read_text() == "path,label\n"
    assert not (tmp_path / "labels.csv").exists()


def test_a_folder_without_images_and_none_at_all(imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, _, err = imgkit("label", "empty", "--classes", "cat,dog")
    assert (code, "There is no image to label in" in err) == (3, True)
    code, _, err = imgkit("label", "nowhere", "--classes", "cat,dog")
    assert (code, "There is no folder" in err) == (3, True)
    code, _, err = imgkit("label", "empty", "--classes", "cat,dog", "--out", "no/labels.csv")
    assert (code, "Make its folder first" in err) == (7, True)


def test_among_the_images_only_where_that_is_asked_for(
    imgkit: Run, sit: Callable[[Person], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path, ["c.png"])
    monkeypatch.chdir(tmp_path / "photos")
    (tmp_path / "linked").symlink_to(tmp_path / "photos")
    assert imgkit("label", "../linked", "--classes", "cat,dog")[0] == 2
    sit(by_name())
    monkeypatch.chdir(tmp_path / "photos")
    assert imgkit("label", ".", "--classes", "cat,dog", "--out", "labels.csv")[0] == 0
    assert [row["path"] for row in rows(tmp_path / "photos" / "labels.csv")] == ["c.png"]


def test_images_that_no_table_can_name_are_left_out(imgkit: Run, sit: Callable[[Person], None], tmp_path: Path) -> None:
    folder = photos(tmp_path, ["c.png", "sub/d, ü.png"])
    os.rename(os.fsencode(folder / "c.png"), os.fsencode(folder) + b"/c\xff.png")  # noqa: PTH104 - bytes
    square(3).save(tmp_path / "outside.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    sit(by_name())
    code, _, err = imgkit("label", "photos", "--classes", "cat,dog")
    assert code == 0
    text = " ".join(err.split())
    assert r"1 image left out, of a name that is not UTF-8, as a CSV has to be: c\udcff.png" in text
    assert "1 image left out, since links lead out of the folder: link.png" in text
    assert [(row["path"], row["label"]) for row in rows(tmp_path / "labels.csv")] == [("sub/d, ü.png", "dog")]


def test_no_browser_where_there_is_no_screen_or_none_is_wanted(
    imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(address: str) -> None:
        raise AssertionError(address)

    def end(seconds: float) -> None:
        raise KeyboardInterrupt

    photos(tmp_path, ["c.png"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", never)
    monkeypatch.setattr("imgkit.cli.labelling.sleep", end)
    monkeypatch.setenv("DISPLAY", ":0")
    assert imgkit("label", "photos", "--classes", "cat,dog", "--no-open")[0] == 0
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    code, _, err = imgkit("label", "photos", "--classes", "cat,dog")
    assert (code, err.endswith("Nothing was answered; 1 image is left.\n")) == (0, True)
    assert not (tmp_path / "labels.csv").exists()
