from pathlib import Path

import pytest
from cli_run import Run

pytest_plugins = ["cli_fixture"]

WORDS = ["--data", "synthetic:3x20", "--weights", "none", "--workers", "0"]


@pytest.mark.parametrize(
    "names",
    [
        ["test_resnet", "test_efficientnet"],
        ["test_resnet,test_efficientnet"],
        ["--models", "test_resnet, test_efficientnet"],
    ],
)
def test_a_table_and_what_to_type_next(imgkit: Run, tmp_path: Path, names: list[str]) -> None:
    words = ["--image-size", "32", "--set", "data.val=0.3", "--out", str(tmp_path / "probe")]
    code, out, err = imgkit("probe", *names, *WORDS, *words)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["network", "M", "macro", "F1,", "95", "%", "top-1", "minus", "the", "first"]
    assert lines[1].split()[0] == "1"
    assert all(len(line) <= 80 for line in lines if not line.startswith("imgkit finetune"))
    assert "Judged  60 images by 5-fold cross-validation" in out
    best = lines[1].split()[1]
    assert f"imgkit finetune {best}" in out
    typed = "--data synthetic:3x20 --image-size 32 --weights none --workers 0 --set data.val=0.3"
    assert " ".join(out.split("imgkit finetune ")[1].split()[1:]) == typed
    assert f"Wrote   {tmp_path}/probe/" in " ".join(err.split("\n"))
    assert sorted(file.name for file in (tmp_path / "probe").iterdir()) == ["held-out.csv", "probe.csv"]


def test_no_network(imgkit: Run) -> None:
    code, _, err = imgkit("probe", "--data", "synthetic:3x20")
    assert code == 2
    assert "No network is named." in err
    assert "imgkit probe resnet50 resnet18" in err


def test_without_the_cache(imgkit: Run, tmp_path: Path) -> None:
    for _ in range(2):
        words = [
            "probe",
            "test_resnet",
            *WORDS,
            "--image-size",
            "32",
            "--no-feature-cache",
            "--out",
            str(tmp_path / "probe"),
        ]
        code, out, err = imgkit(*words)
        assert code == 0, err
        assert "kept by earlier runs" not in out
        assert out.rstrip().endswith("--no-feature-cache")


@pytest.mark.parametrize("flag", ["--lr", "--epochs", "--name", "--max-size"])
def test_it_has_no_options_of_a_training(imgkit: Run, flag: str) -> None:
    code, _, err = imgkit("probe", "resnet50", flag, "1")
    assert code == 2
    assert f"No such option: {flag}" in err


def test_an_output_among_the_pictures_is_refused(imgkit: Run, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    code, _, err = imgkit(
        "probe", "resnet18", "--data", str(tmp_path / "pictures"), "--out", str(tmp_path / "pictures/x")
    )
    assert code == 2
    assert "pictures" in err
