"""Cells that hold several labels."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imgkit.cells import guarded_answer, joined, parted


@given(st.lists(st.text("|\\ab\n ", min_size=1)))
@example(["a|b"])
@example(["a", "b"])
@example(["a\\", "|b"])
def test_labels_of_a_cell_read_back(labels: list[str]) -> None:
    assert parted(joined(labels)) == labels


@pytest.mark.parametrize(
    ("labels", "cell"), [([], ""), (["cat"], "cat"), (["a", "b c"], "a|b c"), (["a|b"], r"a\|b"), (["a\\b"], r"a\\b")]
)
def test_a_cell_of_labels(labels: list[str], cell: str) -> None:
    assert joined(labels) == cell


def test_a_damaged_cell_loses_nothing_but_its_marks() -> None:
    assert parted("|a||b\\") == ["a", "b\\"]


def test_answers_that_are_numbers_are_no_formulas() -> None:
    assert [guarded_answer(cell) for cell in ("-1", "+1", "-2.5e3", "cat")] == ["-1", "+1", "-2.5e3", "cat"]
    assert [guarded_answer(cell) for cell in ("-1+1", "=1", "@x", "-one", "-")] == [
        "'-1+1",
        "'=1",
        "'@x",
        "'-one",
        "'-",
    ]
