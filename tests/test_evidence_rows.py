"""Which images are shown, against a second, naive way to choose them."""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgkit.evidence_rows import Pick, choose_rows
from imgkit.metrics import Scored, score
from imgkit.multilabel import ScoredSets, score_sets

Found = dict[int, tuple[int, list[str]]]


def drawn(seed: int, n: int, classes: int) -> npt.NDArray[np.float64]:
    """Probabilities (N, K) of few values, so that many are equal."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 6, (n, classes)) / 5


def add(found: Found, answers: list[tuple[int, int]], why: str) -> None:
    for row, code in answers:
        if row not in found:
            if len(found) == 64:
                continue
            found[row] = (code, [])
        if found[row][0] == code:
            found[row][1].append(why)


def naive_labels(scored: Scored) -> list[Pick]:
    rows = range(len(scored.targets))
    true, said, prob = scored.targets.tolist(), scored.predicted.tolist(), scored.prob.tolist()
    wrong = sorted((row for row in rows if true[row] != said[row]), key=lambda row: (-prob[row], row))
    right = sorted((row for row in rows if true[row] == said[row]), key=lambda row: (prob[row], row))
    found: Found = {}
    add(found, [(row, said[row]) for row in wrong[:24]], "mistake")
    add(found, [(row, said[row]) for row in right[:12]], "unsure")
    counts = Counter((true[row], said[row]) for row in wrong)
    for cell in sorted(counts, key=lambda cell: (-counts[cell], cell)):
        if len(found) < 64:
            add(found, [(row, said[row]) for row in wrong if (true[row], said[row]) == cell][:3], "cell")
    return [Pick(row, code, tuple(why)) for row, (code, why) in found.items()]


def naive_sets(scored: ScoredSets) -> list[Pick]:
    wrong: list[tuple[float, int, int]] = []  # of each image the worst answer: 1 - sure, row, label
    right: list[tuple[float, int, int]] = []
    kinds: dict[tuple[int, int], list[tuple[float, int]]] = {}
    for row, (true, said, probs) in enumerate(zip(*(part.tolist() for part in scored), strict=True)):
        sure = [p if answer else 1 - p for p, answer in zip(probs, said, strict=True)]
        bad = [code for code in range(len(sure)) if true[code] != said[code]]
        for code in bad:
            kinds.setdefault((code, int(said[code])), []).append((-sure[code], row))
        if bad:
            code = max(bad, key=lambda code: (sure[code], -code))
            wrong.append((-sure[code], row, code))
        else:
            code = min(range(len(sure)), key=lambda code: (sure[code], code))
            right.append((sure[code], row, code))
    found: Found = {}
    add(found, [(row, code) for _, row, code in sorted(wrong)[:24]], "mistake")
    add(found, [(row, code) for _, row, code in sorted(right)[:12]], "unsure")
    for cell in sorted(kinds, key=lambda cell: (-len(kinds[cell]), cell)):
        if len(found) < 64:
            add(found, [(row, cell[0]) for _, row in sorted(kinds[cell])[:3]], "cell")
    return [Pick(row, code, tuple(why)) for row, (code, why) in found.items()]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(2, 12), st.booleans())
def test_the_choice_is_the_naive_one(seed: int, n: int, classes: int, sets: bool) -> None:
    probs, rng = drawn(seed, n, classes), np.random.default_rng(seed + 1)
    if sets:
        often = score_sets(probs, rng.integers(0, 2, probs.shape), rng.uniform(0.1, 0.9, classes))
        seldom = score_sets(probs, (probs > 0.5) ^ (rng.random(probs.shape) < 0.05))
        for one in (often, seldom):
            assert choose_rows(one) == naive_sets(one)
    else:
        one = score(probs, rng.integers(0, classes, n))
        assert choose_rows(one) == naive_labels(one)


@pytest.mark.parametrize("sets", [False, True])
def test_at_most_64_images_each_once_and_the_same_again(sets: bool) -> None:
    rng = np.random.default_rng(0)
    probs = rng.random((2000, 40))
    scored: Any = (
        score_sets(probs, rng.integers(0, 2, probs.shape)) if sets else score(probs, rng.integers(0, 40, 2000))
    )
    found = choose_rows(scored)
    assert len(found) == len({pick.row for pick in found}) == 64
    assert found == choose_rows(scored)
    why = Counter(reason for pick in found for reason in pick.why)
    assert why["mistake"] == 24
    assert why["unsure"] == (0 if sets else 12), "no set of 40 is guessed"


def test_a_model_that_is_always_right_shows_what_it_was_least_sure_of() -> None:
    probs = np.eye(2)[[0, 1] * 20] * 0.5 + 0.25 + np.arange(40)[:, None] * np.array([[1e-3, -1e-3]]) * [1, 1]
    scored = score(probs, np.array([0, 1] * 20))
    assert [pick.why for pick in choose_rows(scored)] == [("unsure",)] * 12
    assert [pick.row for pick in choose_rows(scored)] == np.argsort(scored.prob, kind="stable")[:12].tolist()


def test_the_order_of_mistakes_is_that_of_the_plot(tmp_path: Any) -> None:  # noqa: ANN401
    from imgkit.evaluations import write_evaluation
    from imgkit.plots.mistakes import _mistakes

    rng, taken = np.random.default_rng(3), list[Scored | ScoredSets]()
    for task, targets in (("single", rng.integers(0, 3, 90)), ("multilabel", rng.integers(0, 2, (90, 3)))):
        write_evaluation(
            tmp_path / task,
            paths=[f"{row}.png" for row in range(90)],
            targets=targets if task == "single" else targets.astype(np.float32),
            logits=rng.normal(size=(90, 3)).astype(np.float32),
            classes=("a", "b", "c"),
            split="test",
            step=1,
            seed=0,
            extra={},
            beside=lambda folder, scored: taken.append(scored),
        )
        found, _ = _mistakes(tmp_path / task / "predictions.csv", task)  # type: ignore[arg-type]
        chosen = [f"{pick.row}.png" for pick in choose_rows(taken[-1]) if "mistake" in pick.why]
        assert chosen == [mistake.path for mistake in found][:24]
