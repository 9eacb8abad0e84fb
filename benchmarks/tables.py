"""Tables of the documentation that follow from figures: they stand between two marks, and nobody edits them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
END = "<!-- end -->"


def begin(name: str) -> str:
    """The mark before the table `name`: "check.json", or "check.json, speed" where a JSON has several."""
    return f"<!-- from benchmarks/{name} -->"


def with_table(text: str, name: str, table: str) -> str:
    """A page with this table, whatever stood there."""
    before, rest = text.split(begin(name))
    return f"{before}{begin(name)}\n{table}\n{END}{rest.split(END, 1)[1]}"


def write(page: Path, tables: dict[str, str]) -> None:
    """Put tables, by name, on a page."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        text = with_table(text, name, table)
        print(table)
    page.write_text(text, encoding="utf-8")


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown of cells."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)
