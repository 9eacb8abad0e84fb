"""The page of the campaign says what its figures say, and these reach the bars."""

import ast
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


def bugs_of(file: Path) -> dict[int, str]:
    """The table BUGS of a file of tests, without its imports."""
    tables = [line.value for line in ast.parse(file.read_text()).body if isinstance(line, ast.Assign | ast.AnnAssign)
              and ast.unparse(line.targets[0] if isinstance(line, ast.Assign) else line.target) == "BUGS"]  # fmt: skip
    assert len(tables) == 1
    assert tables[0] is not None
    found: dict[int, str] = ast.literal_eval(tables[0])
    return found


def test_each_known_bug_of_other_tools_has_its_test() -> None:
    tables = {file: bugs_of(file) for file in sorted((ROOT / "tests" / "faults").glob("test_known_bugs_of_*.py"))}
    assert sorted(number for table in tables.values() for number in table) == list(range(1, 31))
    for file, table in tables.items():
        for number, test in table.items():
            place, _, name = test.rpartition("::")
            text = (ROOT / place if place else file).read_text()
            assert f"\ndef {name.partition('[')[0]}(" in text, f"bug {number}: there is no {test}"
