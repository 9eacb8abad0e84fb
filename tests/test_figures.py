"""Tables of the documentation that follow from figures are those of the figures."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MEASURED = ("check", "conformal", "exports", "imbalance", "label_errors", "learning_curve", "shards", "unlike")


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its scripts import one another; none of them stays."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == ROOT / "benchmarks":
            del sys.modules[name]


@pytest.mark.parametrize("name", MEASURED)
def test_a_page_has_the_tables_of_its_figures(name: str) -> None:
    script, tables = importlib.import_module(name), importlib.import_module("page_tables")
    figures = json.loads((ROOT / "benchmarks" / f"{name}.json").read_text())
    text = script.PAGE.read_text(encoding="utf-8")
    found = script.tables(figures)
    assert all(len(table.splitlines()) > 2 for table in found.values())
    for one, table in found.items():
        assert tables.with_table(text, one, table) == text, one


def test_every_mark_is_that_of_a_table_that_is_looked_at() -> None:
    marks = [
        mark
        for page in (ROOT / "docs").glob("*.md")
        for mark in re.findall(r"from benchmarks/(\w+)\.json", page.read_text())
    ]
    assert set(marks) == {*MEASURED, "pages"}  # tests/test_pages.py


def test_bars() -> None:
    figures = {name: json.loads((ROOT / "benchmarks" / f"{name}.json").read_text()) for name in MEASURED}
    exact, speed = figures["check"]["exact"], figures["check"]["speed"]
    assert (exact["found"], exact["false"]) == (exact["planted"], 0)
    assert exact["wall_s"] <= 5
    assert all(one["images"] / one["wall_s"] >= 1_000 for one in speed["first"])
    assert all(one["images"] / one["wall_s"] >= 20_000 for one in speed["again"])
    packed, most = figures["shards"]["packing"], figures["shards"]["rows"][-1]
    assert packed["pictures"] >= 20_000
    assert set(packed["same"]) == {"index", "labels", "splits", "bytes", "pixels"}
    assert all(packed["same"].values())
    assert most["rows"] == 100_000_000
    assert most["open_bytes"] <= 2 << 30
    assert most["seek_us"]["median"] <= 100
    halves = [row for row in figures["conformal"]["rows"] if row["what"] == "sets"]
    assert figures["conformal"]["draws"] >= 200
    assert all(abs(row["coverage"] - row["level"]) <= 0.01 for row in halves)
    exports = figures["exports"]["rows"]
    assert len({row["family"] for row in exports}) >= 8
    exact = [row for row in exports if row["format"] != "onnx-int8"]
    assert all(row["same"] == row["n"] and row["max_abs_logit"] <= 1e-3 for row in exact)
    assert all(row["same_pixels"] == row["n"] for row in exports if row["format"].startswith("onnx"))
