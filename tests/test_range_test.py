import csv
from pathlib import Path

import numpy as np
import pytest
from oracle import write_recipe

import imgkit
from imgkit.errors import UsageError
from imgkit.range_test import LrCurve, smooth


def curve(smoothed: list[float], untouched: float = 1.0) -> LrCurve:
    rates = tuple(np.geomspace(1e-6, 1.0, len(smoothed)).tolist())
    level = (untouched,) * len(smoothed)
    return LrCurve("all", rates, tuple(smoothed), level, tuple(smoothed))


def test_the_running_mean_has_no_bias_towards_its_start() -> None:
    assert smooth([3.0] * 5) == pytest.approx([3.0] * 5)
    values = [1.0, 2.0, 4.0]
    naive = [np.average(values[:n], weights=[0.8 ** (n - 1 - k) for k in range(n)]) for n in (1, 2, 3)]
    assert smooth(values) == pytest.approx(naive)


def test_a_curve_with_a_valley() -> None:
    found = curve([1.0, 0.99, 0.9, 0.5, 0.4, 0.43, 3.0])
    assert found.steepest == pytest.approx(1e-4)
    assert found.lowest == pytest.approx(1e-2)
    assert found.edge == pytest.approx(1e-1)
    assert found.suggestion == pytest.approx(1e-2)


def test_a_flat_curve_is_judged_by_where_it_rises() -> None:
    found = curve([1.0, 1.001, 1.0, 1.01, 1.02, 1.2, 3.0])
    assert found.edge == pytest.approx(1e-2)
    assert found.suggestion == pytest.approx(1e-3)
    assert curve([1.0, 1.1, 1.2, 1.3]).steepest is None


def find(folder: Path, out: str, *sets: str) -> LrCurve:
    return imgkit.lr_find(
        "test_resnet",
        recipe=write_recipe(folder),
        data="synthetic:3x16",
        out=folder / out,
        steps=12,
        min_lr=1e-9,
        max_lr=1e-7,
        sets=list(sets),
    )


def test_it_writes_its_curve_makes_no_run_and_repeats(tmp_path: Path) -> None:
    first = find(tmp_path, "one", "run.workers=0")
    assert first == find(tmp_path, "two", "run.workers=2"), "keyed as all else"
    assert first.phase == "top", "the first phase with gradients"
    with (tmp_path / "one" / "lr-find.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["lr"]) for row in rows] == pytest.approx(list(first.rates))
    assert [float(row["smoothed"]) for row in rows] == list(first.smoothed)
    assert first.losses[0] == first.untouched[0], "no update yet"
    assert np.allclose(first.losses, first.untouched, rtol=1e-2), "such rates change nothing"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["one", "short.toml", "two"]


def test_a_rate_that_is_far_too_large_ends_the_curve(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The loss rose after \d+ updates, at a rate of") as caught:
        imgkit.lr_find("test_resnet", recipe=write_recipe(tmp_path), data="synthetic:3x16", out=tmp_path / "o",
                       steps=20, min_lr=1e3, max_lr=1e9, sets=["run.workers=0"])  # fmt: skip
    assert "--min-lr 1" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 9}, "gives no curve"),
        ({"min_lr": 1.0, "max_lr": 0.1}, "gives no curve"),
        ({"recipe": "probe"}, "has no learning rate"),
        ({"lr": 1e-3}, "no option 'lr'"),
        ({"name": "x"}, "no option 'name'"),
    ],
)
def test_what_cannot_be_looked_for_is_told(options: dict[str, object], words: str, tmp_path: Path) -> None:
    given = {"data": "synthetic:3x16", "weights": "none", "image_size": 32, "out": tmp_path / "o", **options}
    with pytest.raises(UsageError, match=words):
        imgkit.lr_find("test_resnet", **given)  # type: ignore[arg-type]


def test_the_curve_is_drawn_where_matplotlib_is(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    find(tmp_path, "one")
    assert (tmp_path / "one" / "lr-find.png").read_bytes().startswith(b"\x89PNG")
