"""The study of imbalance: its tables of images are what they are said to be, and its page says what its figures say."""

import importlib.util
import json
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from imgkit.studies.estimates import difference

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def imbalance() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("imbalance", ROOT / "benchmarks" / "imbalance.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def test_counts_fall_by_the_same_factor_from_class_to_class(imbalance: ModuleType) -> None:
    counts = imbalance.counts()
    assert (counts[0], counts[-1], sum(counts)) == (1000, 10, 2480)
    assert all(one / two == pytest.approx(100 ** (1 / 9), rel=0.06) for one, two in pairwise(counts))


def test_a_draw_has_long_tailed_training_and_even_test_images(imbalance: ModuleType) -> None:
    labels = [imbalance.FASHION_CLASSES[number % 10] for number in range(70_000)]
    seen = []
    for draw in range(imbalance.DRAWS):
        rows = imbalance.rows_of(draw, labels)
        assert len({name for name, _, _ in rows}) == len(rows) == 3480
        assert all(labels[int(name)] == label for name, label, _ in rows)
        assert all((int(name) >= 60_000) == (split == "test") for name, _, split in rows)
        by_split = {
            split: Counter(label for _, label, own in rows if own == split) for split in ("train", "val", "test")
        }
        assert set(by_split["test"].values()) == {100}
        both = by_split["train"] + by_split["val"]
        assert [both[name] for name in imbalance.ranks(draw)] == imbalance.counts()
        assert all(by_split["val"][name] >= 2 for name in imbalance.FASHION_CLASSES)
        seen.append(tuple(imbalance.ranks(draw)))
    assert len(set(seen)) == imbalance.DRAWS, "other classes are rare"
    assert imbalance.rows_of(3, labels) == imbalance.rows_of(3, labels)


def test_the_table_has_means_and_differences_in_pairs(imbalance: ModuleType) -> None:
    def scores(gain: float) -> dict[str, dict[str, float]]:
        score = dict.fromkeys(imbalance.SCORES, 0.5)
        return {str(draw): score | {"f1_macro": 0.1 * draw + gain * (1 + draw % 2)} for draw in range(3)}

    found = {"scores": {"focal": scores(0.03), "nothing": scores(0.0)}}
    gap = difference(
        {draw: one["f1_macro"] for draw, one in enumerate(scores(0.03).values())},
        {draw: one["f1_macro"] for draw, one in enumerate(scores(0.0).values())},
    )
    assert gap is not None
    assert gap.ends is not None
    *_, nothing, focal = imbalance.table(found).splitlines()
    assert nothing == "| nothing | 10.0 | 50.0 | 50.0 | 50.0 | 50.0 |  |  |"
    low, high = (100 * end for end in gap.ends)
    assert focal == f"| focal | 14.0 | 50.0 | 50.0 | 50.0 | 50.0 | +4.0 ({low:+.1f} to {high:+.1f}) | +0.0 |"


def test_the_figures_are_of_all_draws(imbalance: ModuleType) -> None:
    found = json.loads((ROOT / "benchmarks" / "imbalance.json").read_text())
    assert found["counts"] == imbalance.counts()
    assert {tuple(by_draw) for by_draw in found["scores"].values()} == {tuple(map(str, found["draws"]))}
    assert len(found["draws"]) == imbalance.DRAWS
