"""Slices: numbers against naive ones, a planted bad slice is found, and none is where there is none."""

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact
from scored_runs import index_of, write_scored_run

from imgkit.errors import DataError
from imgkit.report.run_page import html_of, page_of
from imgkit.report.slices import SLICES, VALUES, Slice, Slices, bins, names_of, read_slices, slices_of, write_slices
from imgkit.report.stored import stored_of


def told(rows: list[Slice]) -> str:
    return Slices(rows, "right", "test", grouped=False).sentence


def drawn(rng: np.random.Generator, n: int) -> dict[str, list[str]]:
    """Three columns that have nothing to do with anything: 2, 3 and 6 slices, the smallest of a few images."""
    shares = {"camera": [0.9, 0.1], "site": [0.5, 0.3, 0.2], "day": [0.5, 0.3, 0.1, 0.05, 0.03, 0.02]}
    return {
        name: [f"{name}{code}" for code in np.append(rng.choice(len(p), n - len(p), p=p), range(len(p)))]
        for name, p in shares.items()
    }


def test_where_no_slice_differs_at_most_5_percent_of_the_tables_say_one_does() -> None:
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(150):
        right = rng.random(200) < rng.choice([0.6, 0.8, 0.95])
        rows = slices_of(right, drawn(rng, 200))
        wrong += any(one.told_apart for one in rows)
        assert told(rows).startswith("No slice can be told") or any(one.told_apart for one in rows)
    assert wrong / 150 <= 0.05  # 2.3 % over 1,500 tables: the test of Fisher is on the safe side
    assert wrong > 0  # so the test can fail


def test_a_planted_bad_slice_is_found() -> None:
    rng, found = np.random.default_rng(1), 0
    for _ in range(25):
        columns = drawn(rng, 400)
        bad = np.array(columns["site"]) == "site2"  # about 80 images
        rows = slices_of(rng.random(400) < np.where(bad, 0.65, 0.92), columns)
        found += told(rows).startswith("The worst slice that can be told from the rest is site = site2: ")
    assert found >= 24


def test_a_sentence_says_what_is_known() -> None:
    right = np.array([True] * 95 + [False] * 5 + [True] * 12 + [False] * 8)
    rows = slices_of(right, {"camera": ["A"] * 100 + ["B"] * 20})
    assert told(rows) == (
        "The worst slice that can be told from the rest is camera = B: 60.0 % right of 20 images (95 % interval 38.7 "
        f"to 78.1), 35.0 points below the rest (p = {2 * fisher_exact([[12, 8], [95, 5]]).pvalue:.2g}, corrected for 2 "
        "slices)."
    )
    rows = slices_of(right[:110], {"camera": ["A"] * 100 + ["B"] * 10})
    assert told(rows) == (
        "No slice can be told to be worse than the rest (2 slices, corrected for their number). The lowest score is "
        "that of camera = A: 95.0 % right of 100 images (95 % interval 88.8 to 97.8), which chance may give."
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 60), st.integers(0, 2**32))
def test_numbers_are_those_of_a_count(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random(n) < 0.7
    columns = {"one": ["a", *rng.choice(["b", "c"], n - 1)], "two": ["x", *rng.choice(["x", "y"], n - 2), "y"]}
    rows = slices_of(right, columns)
    values = []
    for one in rows:
        own = [hit for hit, name in zip(right.tolist(), columns[one.by], strict=True) if name == one.name]
        rest = [hit for hit, name in zip(right.tolist(), columns[one.by], strict=True) if name != one.name]
        assert (one.n, one.right, one.rest_n, one.rest_right) == (len(own), sum(own), len(rest), sum(rest))
        values.append(fisher_exact([[sum(own), len(own) - sum(own)], [sum(rest), len(rest) - sum(rest)]]).pvalue)
        assert one.p == pytest.approx(min(1.0, values[-1]))
        assert one.ends[0] - 1e-12 <= one.difference <= one.ends[1] + 1e-12
    ordered = sorted(values)
    for one, p in zip(rows, values, strict=True):  # Holm: the greatest so far of p times the tests that are left
        steps = [(len(values) - place) * other for place, other in enumerate(ordered) if other <= p]
        assert one.corrected == pytest.approx(min(1.0, max(steps)))


def test_the_interval_of_a_difference_is_newcombes() -> None:
    one = Slice("by", "a", 70, 56, 80, 48, 1.0, 1.0)  # Newcombe 1998, table II (a), method 10
    assert one.ends == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(13, 200),
    st.sampled_from(
        [(0, 15), (-500, 500), (20_240_101, 20_241_231), (1_700_000_000, 1_700_900_000), (10**18, 10**18 + 9999)]
    ),
    st.sampled_from([1, 0.1, 1 / 3]),
    st.integers(0, 2**32),
)
def test_bins_hold_what_their_names_say(n: int, ends: tuple[int, int], unit: float, seed: int) -> None:
    numbers = [unit * number for number in np.random.default_rng(seed).integers(*ends, n).tolist()]
    names = bins(numbers)
    held = {name: [number for number, own in zip(numbers, names, strict=True) if own == name] for name in names}
    spans = []
    for name, own in held.items():
        low, high = (type(unit)(end) for end in name.split(" to "))
        assert (low, high) == (min(own), max(own))
        spans.append((low, high))
    spans.sort()
    assert 1 <= len(spans) <= 4
    assert all(high < low for (_, high), (low, _) in pairwise(spans))
    if len(set(numbers)) == n and max(map(abs, numbers)) < 2**53:
        counts = [len(own) for own in held.values()]
        assert max(counts) - min(counts) <= 2
    if len(set(numbers)) > 12:
        cells = [*(repr(number) for number in numbers), " ", "nan"]
        assert names_of("taken", cells) == [*names, "(empty)", "(empty)"]


def test_which_cells_are_slices() -> None:
    assert names_of("site", ["b", " a ", ""]) == ["b", "a", "(empty)"]
    assert names_of("year", [str(2000 + row % 12) for row in range(40)])[:2] == ["2000", "2001"]
    assert names_of("weight", [str(row) for row in range(40)])[0] == "0 to 9"
    assert names_of("day", [str(20240101 + row) for row in range(40)])[0] == "20240101 to 20240110"
    assert names_of("year", [*(str(2000 + row) for row in range(12)), "", "NaN"])[-3:] == ["2011", "(empty)", "(empty)"]
    assert names_of("note", ["nan", "b"]) == ["nan", "b"]
    with pytest.raises(DataError) as error:
        names_of("file", [f"a{row}" for row in range(60)])
    assert (
        error.value.message
        == "Column 'file' has 60 different values on 60 scored images, and slices are of 50 at most."
    )
    with pytest.raises(DataError, match="camera is 'A' for all 3 scored images"):
        slices_of(np.array([True, False, True]), {"camera": ["A"] * 3})


@pytest.mark.parametrize("several", [False, True])
def test_a_run_keeps_its_slices_and_its_page_tells_them(tmp_path: Path, *, several: bool) -> None:
    run = write_scored_run(tmp_path, "one", index_of(90, several=several), {"val": 0.7, "test": 0.7})
    stored = stored_of(run)
    assert stored is not None
    assert read_slices(stored) is None
    assert "Slices" not in html_of(page_of(run))
    columns = {"=camera": ["A", "B"] * 15, "site": ["x"] * 20 + ["+y"] * 10}
    found = write_slices(stored, columns, grouped=True)
    assert read_slices(stored) == found
    with (stored.folder / SLICES).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with (stored.folder / VALUES).open(newline="") as stream:
        values = list(csv.DictReader(stream))
    for row in rows:
        own = [int(image["right"]) for image in values if image[row["by"]] == row["slice"]]
        assert (int(row["n"]), int(row["right"])) == (len(own), sum(own))
        assert float(row["score"]) == sum(own) / len(own)
    assert {row["slice"] for row in rows} == {"A", "B", "x", "'+y"}
    page = html_of(page_of(run))
    assert found.sentence.split(":")[0] in page
    assert "Images of one group are alike" in page
    assert '<th scope="row">site = x</th>' in page


def test_values_of_other_images_are_a_fault_that_the_page_tells(tmp_path: Path) -> None:
    run = write_scored_run(tmp_path, "one", index_of(90), {"test": 0.7})
    stored = stored_of(run)
    assert stored is not None
    write_slices(stored, {"camera": ["A", "B"] * 15}, grouped=False)
    text = (stored.folder / VALUES).read_text()
    (stored.folder / VALUES).write_text(text.replace("pictures/", "others/"))
    assert "slice_values.csv is of other images" in page_of(run).fault
