"""Facts in columns against tuples; copies against all pairs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imgkit.data.facts import Facts, FileFacts, find_duplicates

FACT = st.builds(
    FileFacts,
    size=st.integers(0, 2**40),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    format=st.sampled_from(["JPEG", "PNG"]),
    mode=st.sampled_from(["L", "RGB"]),
    width=st.integers(1, 10**6),
    height=st.integers(1, 10**6),
    rotated=st.booleans(),
)


@given(st.lists(st.none() | FACT, max_size=8), st.data())
def test_facts_are_a_tuple(made: list[FileFacts | None], data: st.DataObject) -> None:
    facts = Facts(len(made))
    for row, fact in enumerate(made):
        if fact is not None:
            facts.put(row, fact)
    assert facts == tuple(made)
    assert facts[1:] == made[1:]
    assert facts.good.tolist() == [fact is not None for fact in made]
    chosen = data.draw(st.lists(st.integers(0, len(made) - 1))) if made else []
    assert facts.select(np.array(chosen, dtype=np.int64)) == tuple(made[row] for row in chosen)


@given(st.lists(st.sampled_from([bytes(32), b"a" * 32, b"a" * 31 + b"b", b"b" + b"a" * 31]), max_size=12))
def test_duplicates_against_all_pairs(hashes: list[bytes]) -> None:
    groups = find_duplicates(np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, 32))
    pairs = {(i, j) for group in groups for i in group for j in group if i < j}
    n = range(len(hashes))
    assert pairs == {(i, j) for i in n for j in n if i < j and hashes[i] == hashes[j]}
    assert list(groups) == sorted(map(tuple, map(sorted, groups)))
