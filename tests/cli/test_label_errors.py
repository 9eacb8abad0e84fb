import shlex
from pathlib import Path

import pytest
from cli_run import Run
from multilabel_data import write_patches
from pictures import square

from imgkit.cli import label_errors

pytest_plugins = ["cli_fixture"]

WORDS = ["--model", "test_resnet", "--weights", "none", "--workers", "0", "--image-size", "32"]


def test_what_is_typed_next_trains_on_the_edited_table(imgkit: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ["--data", "synthetic:3x20", *WORDS, "--set", "data.val=0.3", "--classes", "3", "--out", str(out)]
    code, shown, err = imgkit("data", "label-errors", *asked)
    assert code == 0, err
    assert "Judged  60 labels, each without its image, those of test too" in shown
    assert "note: The number is an estimate." in shown
    assert max(len(line) for line in shown.splitlines() if str(out) not in line) <= 80
    command = shlex.split(shown[shown.index("imgkit finetune") :])
    assert command[:5] == ["imgkit", "finetune", "test_resnet", "--data", str(out / "labels.csv")]
    assert command[5] == "--root"
    assert command[7:] == ["--classes", "3", "--image-size", "32", "--weights", "none", "--workers", "0"]
    table = (out / "labels.csv").read_text().splitlines()
    path, label, *rest = table[1].split(",")
    other = next(line.split(",")[1] for line in table[1:] if line.split(",")[1] != label)
    (out / "labels.csv").write_text("\n".join([table[0], ",".join([path, other, *rest]), *table[2:]]) + "\n")
    code, _, err = imgkit(*command[1:], "--recipe", "probe", "--out", str(tmp_path / "runs"))
    assert code == 0, err
    assert "train 42 · val 18 images" in err, "the splits are those of the first command"
    index = next((tmp_path / "runs").glob("*/data/index.csv")).read_text()
    assert any(line.startswith(f"{path},{other},") for line in index.splitlines())


def test_suspects_are_shown_as_many_as_asked_for(imgkit: Run, tmp_path: Path) -> None:
    lines = ["path,label"]
    for number in range(40):
        square(number, code=number % 2, side_px=16).save(tmp_path / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{'ab'[(number + (number in {7, 20, 33})) % 2]}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    asked = ["--data", str(tmp_path / "table.csv"), *WORDS, "--top", "2", "--out", str(tmp_path / "out")]
    code, shown, err = imgkit("data", "label-errors", *asked)
    assert code == 0, err
    head, first, second, *rest = shown.splitlines()
    assert head.split() == ["image", "label", "%", "suggested", "%"]
    for rank, line in enumerate((first, second), start=1):
        place, image, label, _, suggested, _ = line.split()
        assert (int(place), image in {"07.png", "20.png", "33.png"}) == (rank, True)
        assert {label, suggested} == {"a", "b"}
    assert rest[0] == "", "two of the three"
    assert "Wrong   about 3 of 40 labels (7.5 %); 3 suspects" in rest
    assert "        a: about 2 of 21 (9.5 %), most of them taken for b" in rest


def test_it_is_not_run_twice_over_the_same_table(imgkit: Run, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\n")
    code, _, err = imgkit("data", "label-errors", "--data", "synthetic:3x20", *WORDS, "--out", str(tmp_path))
    assert code == 2
    assert "it is not written over" in " ".join(err.split())
    assert f"--out {tmp_path}-2" in err
    assert (tmp_path / "labels.csv").read_text() == "path,label\n"


@pytest.mark.parametrize("command", ["label-errors", "learning-curve"])
def test_sets_of_labels_are_refused(imgkit: Run, tmp_path: Path, command: str) -> None:
    data = write_patches(tmp_path / "patches", n=20)
    words = ["--data", str(data), "--label-delimiter", ";", *WORDS[:-2], "--out", str(tmp_path / "out")]
    code, _, err = imgkit("data", command, *words)
    assert code == 2
    assert f"error: {command} " in err
    assert "--label-col COLUMN --task single" in err


@pytest.mark.parametrize("command", ["label-errors", "learning-curve"])
def test_no_network_is_named_and_none_is_installed(imgkit: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(label_errors, "installed_networks", list)
    code, _, err = imgkit("data", command, "--data", "synthetic:3x20")
    assert code == 2
    assert "--model resnet50" in err


@pytest.mark.parametrize("flag", ["--epochs", "--weight-col", "--name"])
def test_it_has_no_options_of_a_training(imgkit: Run, flag: str) -> None:
    code, _, err = imgkit("data", "label-errors", flag, "1")
    assert code == 2
    assert f"No such option: {flag}" in " ".join(err.split())


def test_how_many_are_shown(imgkit: Run) -> None:
    code, _, err = imgkit("data", "label-errors", "--top", "0")
    assert code == 2
    assert "--top 0: at least one suspect is shown." in err
