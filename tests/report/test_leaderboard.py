import csv
import io
import re
from pathlib import Path

import pytest
from sample_runs import write_run

from imgkit.errors import DiskError
from imgkit.report.collect import RunSummary, collect
from imgkit.report.leaderboard import CSV_COLUMNS, csv_text, markdown, write_reports


def rows_of(runs: list[RunSummary]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(runs))))


def test_csv_has_one_row_a_run_ranked_within_its_data(tmp_path: Path) -> None:
    write_run(tmp_path, "low", f1=0.5)
    write_run(tmp_path, "high", f1=0.9)
    write_run(tmp_path, "other", f1=0.95, fingerprint="bb" * 32, created="2025-01-01")
    write_run(tmp_path, "smoke", f1=0.99, smoke=True)
    rows = {row["run"]: row for row in rows_of(collect(tmp_path))}
    assert [rows[name]["rank"] for name in ("high", "low", "smoke", "other")] == ["1", "2", "", "1"]
    assert set(rows["high"]) == set(CSV_COLUMNS)
    high = rows["high"]
    numbers = [float(high[name]) for name in ("f1_macro", "f1_macro_low", "f1_macro_high", "top1", "parameters")]
    assert numbers == pytest.approx([0.9, 0.84, 0.93, 0.9, 23_600_000])
    assert rows["smoke"]["status"] == "smoke, finished"


def test_equal_scores_share_a_rank_and_each_split_has_a_first(tmp_path: Path) -> None:
    for name, f1 in (("a", 0.9), ("b", 0.8), ("c", 0.8), ("d", 0.7)):
        write_run(tmp_path, name, f1=f1, split="test")
        write_run(tmp_path, f"{name}-val", f1=f1)
    write_run(tmp_path, "smoke", f1=0.99, smoke=True)
    runs = collect(tmp_path)
    wanted = {"a": "1", "b": "2", "c": "2", "d": "4"}
    wanted |= {f"{name}-val": rank for name, rank in wanted.items()} | {"smoke": ""}
    assert {row["run"]: row["rank"] for row in rows_of(runs)} == wanted
    cells = [[part.strip() for part in line.split("|")] for line in markdown(runs).splitlines() if "resnet50" in line]
    assert {row[2]: row[1] for row in cells} == wanted


def test_no_cell_of_the_csv_is_a_formula(tmp_path: Path) -> None:
    write_run(tmp_path, "=cmd()", data="@SUM(A1)", model="+1", recipe="-1")
    (row,) = rows_of(collect(tmp_path))
    assert [row[name] for name in ("run", "data", "model", "recipe")] == ["'=cmd()", "'@SUM(A1)", "'+1", "'-1"]


def test_markdown_has_a_table_for_each_data_set(tmp_path: Path) -> None:
    write_run(tmp_path, "one", f1=0.9)
    write_run(tmp_path, "other", f1=0.95, fingerprint="bb" * 32, split="test", data="pets/", created="2025-01-01")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    text = markdown(collect(tmp_path))
    assert re.findall("^## (.*)$", text, re.MULTILINE) == [
        "cells/ (from --data) (data aaaaaaaa)",
        "pets/ (data bbbbbbbb)",
        "Folders that cannot be read",
    ]
    assert "| 1 | one | resnet50 | val, chose the weights | 100 | 90.0 % (84.0 to 93.0) |" in text
    assert "| 1 | other | resnet50 | test | 100 | 95.0 % (89.0 to 98.0) |" in text
    assert text.endswith("A score on val flatters: val chose the weights.\n")
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {12}


def test_nothing_is_said_about_val_where_all_have_test(tmp_path: Path) -> None:
    write_run(tmp_path, "one", split="test")
    assert "flatters" not in markdown(collect(tmp_path))


def test_markdown_shows_names_as_text(tmp_path: Path) -> None:
    write_run(tmp_path, "one", data="<script>x</script>|[a](b)`\n# h", model="a_b*c")
    text = markdown(collect(tmp_path))
    assert "<script" not in text
    assert "&lt;script>x&lt;/script>\\|\\[a\\](b)\\`\\\\n\\# h" in text
    assert "a\\_b\\*c" in text


def test_both_files_are_written(tmp_path: Path) -> None:
    write_run(tmp_path, "one")
    runs = collect(tmp_path)
    files = write_reports(tmp_path, runs)
    assert [file.name for file in files] == ["leaderboard.csv", "report.md"]
    assert files[0].read_text() == csv_text(runs)
    assert files[1].read_text() == markdown(runs)
    with pytest.raises(DiskError, match="Cannot write"):
        write_reports(tmp_path / "gone", runs)
