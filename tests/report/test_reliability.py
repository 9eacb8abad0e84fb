from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_runs import make_run
from sklearn.calibration import calibration_curve

from imgkit.probabilities import BINS, calibration_error
from imgkit.report.reliability import bins, reliability_of
from imgkit.report.stored import stored_of


@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_the_gaps_of_the_bins_are_the_calibration_error(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sure = rng.choice([0.0, 1.0, 1 / BINS, 0.5, *rng.random(50)], size=n)
    right = rng.random(n) < sure
    found = bins(sure, right)
    assert sum(one.n for one in found) == n
    assert sum(one.n * abs(one.right - one.sure) for one in found) / n == pytest.approx(calibration_error(sure, right))
    assert all(one.low <= one.sure <= one.high + 1e-12 for one in found)


def test_the_bins_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    sure = rng.random(1000)
    right = rng.random(1000) < sure
    share, mean = calibration_curve(right, sure, n_bins=BINS)
    found = bins(sure, right)
    assert [one.right for one in found] == pytest.approx(share.tolist())
    assert [one.sure for one in found] == pytest.approx(mean.tolist())


@pytest.mark.parametrize(("k", "sets"), [(3, False), (120, False), (3, True), (101, True)])
def test_an_evaluation_is_told_with_and_without_its_temperature(tmp_path: Path, k: int, sets: bool) -> None:
    stored = stored_of(make_run(tmp_path, classes=[f"c{number}" for number in range(k)], n=150, sets=sets))
    assert stored is not None
    told = reliability_of(stored.answers, stored.metrics)
    if k == 101:
        assert told.bins == (), "predictions.csv has probabilities of up to 100 labels"
    else:
        n = sum(one.n for one in told.bins)
        assert n == 150 * (k if sets else 1)
        assert sum(one.n * abs(one.right - one.sure) for one in told.bins) / n == pytest.approx(told.ece, abs=1e-9)
    assert told.temperature == stored.metrics["calibration"]["temperature"] != 1
    assert told.before["ece"] != told.ece
    plain = {key: value for key, value in stored.metrics.items() if key not in ("calibration", "uncalibrated")}
    assert (reliability_of(stored.answers, plain).temperature, reliability_of(stored.answers, plain).before) == (
        None,
        {},
    )
