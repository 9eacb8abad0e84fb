import sys
from pathlib import Path
from typing import Any

import pytest
from cli_run import Run

pytest_plugins = ["cli_fixture"]


def test_demo(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("imgkit.demo.run", lambda **options: seen.update(options))
    assert imgkit("demo", "--out", "o", "--smoke")[0] == 0
    assert (seen["out"], seen["smoke"]) == (Path("o"), True)


def test_preview_takes_the_options_of_pictures_and_recipe(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[tuple[object, ...], dict[str, Any]]] = []
    monkeypatch.setattr("imgkit.api.preview", lambda *args, **options: asked.append((args, options)))
    line = "resnet50 --data d --val 0.3 --augment light --fit squash --set augment.erase=1 --rows 3 --out a.png"
    assert imgkit("data", "preview", *line.split())[0] == 0
    ((args, options),) = asked
    assert args == ("resnet50",)
    assert {key: flag.value for key, flag in options["flags"].items()} == {
        "data.path": "d",
        "data.val": 0.3,
        "model.fit": "squash",
        "augment.preset": "light",
    }
    assert (options["recipe"], options["rows"], options["sets"]) == ("finetune", 3, ["augment.erase=1"])
    assert options["out"] == Path("a.png")


def test_data_alone_shows_its_help(imgkit: Run) -> None:
    code, out, _ = imgkit("data")
    assert code == 2
    assert "check" in out


def test_packing_asks_for_pyarrow_before_it_reads(imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("imgkit.data.pack.pack", lambda *_: pytest.fail("it went on"))
    code, out, err = imgkit("data", "pack", "digits", "--out", str(tmp_path / "shards"))
    assert (code, out) == (2, "")
    assert "imgkit data pack needs pyarrow, which is not installed." in err
    assert not (tmp_path / "shards").exists()
