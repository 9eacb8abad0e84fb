from pathlib import Path

import pytest
from cli_run import Run

from imgkit import api
from imgkit.range_test import LrCurve

pytest_plugins = ["cli_fixture"]

CURVE = LrCurve("all", (1e-4, 1e-3, 1e-2, 1e-1), (1.0, 0.8, 0.6, 9.0), (1.0,) * 4, (1.0, 0.8, 0.6, 9.0))


def test_the_curve_is_a_table_and_the_next_command_can_be_typed(
    imgkit: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    def lr_find(model: str, **options: object) -> LrCurve:
        calls.append((model, options))
        return CURVE

    monkeypatch.setattr(api, "lr_find", lr_find)
    line = [
        "resnet50",
        "--data",
        "a b",
        "--data",
        "c",
        "--label-col",
        "x",
        "--label-col",
        "y",
        "--batch-size",
        "8",
        "--set",
        "train.optimizer=sgd",
        "--out",
        str(tmp_path),
    ]
    code, out, err = imgkit("lr-find", *line, "--steps", "50", "--max-lr", "10")
    assert code == 0
    ((model, options),) = calls
    assert (model, options["recipe"], options["steps"], options["max_lr"]) == ("resnet50", "finetune", 50, 10.0)
    assert options["out"] == tmp_path
    assert "1.0e-02" in out
    assert "Rate    1.0e-03" in out
    command = "imgkit finetune resnet50 --data 'a b' --data c --label-col x --label-col y --batch-size 8 "
    command += "--set train.optimizer=sgd --set phases.all.lr=1.0e-03"
    assert command in " ".join(out.split())
    assert str(tmp_path) in err


@pytest.mark.parametrize("flag", ["--lr", "--epochs", "--name"])
def test_it_has_no_options_of_a_run(imgkit: Run, flag: str) -> None:
    code, _, err = imgkit("lr-find", "resnet50", flag, "1")
    assert code == 2
    assert f"No such option: {flag}" in err
