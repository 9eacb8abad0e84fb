"""The page of the campaign says what its figures say, and these reach the bars."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reliability() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reliability", ROOT / "benchmarks" / "reliability.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_written_from_the_figures(reliability: ModuleType) -> None:
    found = json.loads(reliability.FIGURES.read_text())
    assert reliability.PAGE.read_text(encoding="utf-8") == reliability.page(found)


def test_the_figures_reach_the_bars(reliability: ModuleType) -> None:
    found = json.loads(reliability.FIGURES.read_text())["families"]
    assert set(found) == set(reliability.FAMILIES), "a family of the figures has no row on the page, or the reverse"
    assert [problem for name, family in reliability.FAMILIES.items() for problem in family.problems(found[name])] == []


def test_a_figure_below_its_bar_is_a_problem(reliability: ModuleType) -> None:
    family = reliability.FAMILIES["T-K2"]
    assert family.problems({"images": 499, "lost": 1, "wrong": 0}) == ["images: 499 < 500", "lost: 1 > 0"]


def test_every_family_has_its_tests(reliability: ModuleType) -> None:
    named = {family.file for name, family in reliability.FAMILIES.items() if name != "mutants"}
    assert named <= {file.name for file in (ROOT / "tests" / "faults").glob("test_*.py")}
