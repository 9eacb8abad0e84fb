"""The table of what a page takes says what its figures say, and these keep what was promised."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "benchmarks" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_written_from_the_figures(pages: ModuleType) -> None:
    found, text = json.loads(pages.FIGURES.read_text()), pages.PAGE.read_text(encoding="utf-8")
    assert pages.with_table(text, found) == text
    assert pages.table(found) in text
    other = json.loads(pages.FIGURES.read_text())
    other["figures"]["size"]["median"] += 100_000
    assert pages.with_table(text, other) != text


def test_the_figures_keep_what_was_promised(pages: ModuleType) -> None:
    found = json.loads(pages.FIGURES.read_text())
    assert pages.problems(found) == []
    assert found["repeats"] >= 5
    for one in found["figures"].values():
        assert one["low"] <= one["median"] <= one["high"]
    found["figures"]["report 100"]["median"] = 2.01
    found["figures"]["size"]["median"] = 1_100_000
    assert pages.problems(found) == ["report 100: 2.01 > 2", "size: 1.1e+06 > 1e+06"]


def test_a_figure_is_the_median_of_its_repeats(pages: ModuleType) -> None:
    assert pages.figure([3.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.0, "high": 3.0, "values": [3.0, 1.0, 2.0]}
    done: list[int] = []
    assert len(pages.timed(lambda: done.append(1), 3)["values"]) == 3
    assert len(done) == 4
