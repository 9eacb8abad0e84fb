"""Work by threads, in order."""

import threading

import pytest

from imgkit.threads import in_order


def test_what_is_made_comes_in_the_order_of_the_items_a_bounded_number_ahead() -> None:
    drawn, begun = iter(range(100)), []
    made = in_order(drawn, lambda number: number * number, 3, 8, lambda: begun.append(threading.get_ident()))
    assert next(made) == 0
    assert next(drawn) == 8
    assert list(made) == [number * number for number in range(1, 100) if number != 8]
    assert 1 <= len(set(begun)) <= 3


def test_an_error_comes_in_its_place_and_ends_the_threads() -> None:
    before, made = threading.active_count(), in_order([4, 2, 0, 1], lambda number: 4 // number, 2, 2)
    assert [next(made), next(made)] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert threading.active_count() == before
