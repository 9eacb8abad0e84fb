"""Findings as a table."""

import csv
from pathlib import Path

import pytest

from imgkit.check.finding import COLUMNS, Finding, Section, sections_of, write_fix_list
from imgkit.errors import DiskError


def test_the_table_is_guarded_and_has_every_finding(tmp_path: Path) -> None:
    rows = (Finding("=cmd()", "what, and why", "do it", "-other"), Finding("", "few", "add", label="+class"))
    section = Section("leak", "error", "", "", rows)
    assert write_fix_list([section, Section("statistics", "note", "", "", ())], tmp_path / "fix.csv") == 2
    with (tmp_path / "fix.csv").open(newline="") as file:
        header, *cells = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert cells == [
        ["leak", "error", "'=cmd()", "'-other", "", "what, and why", "do it"],
        ["leak", "error", "", "", "'+class", "few", "add"],
    ]


def test_bytes_that_are_no_text_are_shown(tmp_path: Path) -> None:
    write_fix_list([Section("leak", "error", "", "", (Finding("a\udcff.png", "x", "y"),))], tmp_path / "fix.csv")
    assert r"a\udcff.png" in (tmp_path / "fix.csv").read_text()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="Cannot write"):
        write_fix_list([], tmp_path / "none" / "fix.csv")


def test_a_sentence_counts_and_has_an_example() -> None:
    assert sections_of("blank", "warning", "", [], "image is blank", "images are blank") == []
    rows = [Finding("a.png", "black", "look", "b.png"), Finding("c.png", "white", "look")]
    (one,) = sections_of("blank", "warning", "", rows[1:], "image is blank", "images are blank")
    assert one.sentence == "1 image is blank, such as c.png (white)."
    (two,) = sections_of("blank", "warning", "", rows, "image is blank", "images are blank", " (more)")
    assert two.sentence == "2 images are blank (more), such as a.png = b.png (black)."
