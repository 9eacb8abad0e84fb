import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imgkit.hits import Hits, hits_of
from imgkit.metrics import score


@given(n=st.integers(1, 20), classes=st.integers(1, 12), levels=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_hits_are_those_of_the_metrics_ties_included(n: int, classes: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.integers(0, levels, size=(n, classes)).astype(np.float64)  # few levels: many ties
    labels = rng.integers(0, classes, size=n)
    ranks = score(logits, labels).label_rank
    found = hits_of(torch.from_numpy(logits), torch.from_numpy(labels)).tolist()
    assert found == [(ranks == 1).sum(), (ranks <= min(5, classes)).sum()]


def test_a_sum() -> None:
    assert Hits().plus(Hits(4, 1, 3)).plus(Hits(2, 2, 2)) == Hits(6, 3, 5)
