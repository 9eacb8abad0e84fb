import numpy as np
import pytest

from imgkit.report import matrix
from imgkit.report.confusions import confusions_of
from imgkit.report.matrix import SHADES, matrix_of, named_images
from imgkit.report.stored import Answers


def answers(n: int = 200, k: int = 4) -> Answers:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, k, n)
    predicted = np.where(rng.random(n) < 0.6, targets, rng.integers(0, k, n))
    return Answers([f"{row:04d}.png" for row in range(n)], targets, predicted, rng.random(n), rng.random(n))


def test_shades_tell_the_share_of_the_row() -> None:
    given = answers()
    confusions = confusions_of(given, list("abcd"))
    found = matrix_of(confusions, given)
    assert not found.drawn
    shades = np.array(found.shades)
    assert np.array_equal(shades == 0, confusions.counts == 0)
    assert shades.max() <= SHADES
    flat = np.argsort(confusions.shares, axis=None)
    assert np.all(np.diff(shades.ravel()[flat]) >= 0), "never lighter for a larger share"


def test_a_cell_names_a_few_images_of_its_own() -> None:
    given = answers()
    confusions = confusions_of(given, list("abcd"))
    named = named_images(confusions, given.paths)
    place = {name: number for number, name in enumerate(confusions.rows)}
    for cell, images in named.items():
        i, j = map(int, cell.split(","))
        assert 0 < len(images) <= (6 if i == j else 12)
        for row, path in images:
            assert path == given.paths[int(row)]
            assert (place["abcd"[given.targets[row]]], place["abcd"[given.predicted[row]]]) == (i, j)


@pytest.mark.parametrize("room", [0, 13, 14 * 5, 14 * 12, 10**6])
def test_names_take_no_more_room_than_there_is_and_wrong_cells_come_first(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    given = answers()
    confusions = confusions_of(given, list("abcd"))
    monkeypatch.setattr(matrix, "_ROOM", room)
    named = named_images(confusions, given.paths)
    count = sum(map(len, named.values()))
    assert count * (len("0000.png") + 10) <= room
    wrong = {cell for cell in named if len(set(cell.split(","))) == 2}
    assert len(wrong) >= min(12, room // 18), "one of each confusion before a second one"
    assert bool(set(named) - wrong) == (room > 10**5)
