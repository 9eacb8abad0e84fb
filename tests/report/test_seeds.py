"""Runs of several seeds as one row, against numbers computed by hand."""

import csv
import io
from pathlib import Path

import pytest
from sample_runs import write_run

from imgkit.report.collect import RunSummary, collect
from imgkit.report.leaderboard import csv_text, markdown
from imgkit.report.seeds import t_interval, with_means
from imgkit.report.table import print_runs
from imgkit.terminal import make_console

RECIPE = 'schema = 1\nname = "mine"\nseed = {seed}\n[data]\npath = "{path}"\nval = 0.2\n[train]\nbatch_size = {batch}\n'


def write(
    out: Path, name: str, f1: float | None, seed: int, *, path: str = "a/", batch: int = 8, **more: object
) -> None:
    text = RECIPE.format(seed=seed, path=path, batch=batch)
    write_run(out, name, f1=f1, seed=seed, recipe_text=text, **more)  # type: ignore[arg-type]


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for seed, f1 in enumerate((0.80, 0.84, 0.88)):
        write(tmp_path, f"run{seed}", f1, seed, path=f"{seed}/", created=f"2026-11-2{seed}")
    return tmp_path


def means(out: Path) -> list[RunSummary]:
    return [run for run in with_means(collect(out)) if run.is_mean]


def test_the_interval_is_students() -> None:
    # s = 0.04, t(0.975, 2) = 4.302653: 4.302653 * 0.04 / sqrt(3) = 0.099366
    assert t_interval([0.80, 0.84, 0.88]) == pytest.approx((0.740634, 0.939366), abs=1e-6)
    # s = 0.02 / sqrt(2), t(0.975, 1) = 12.706205: 12.706205 * 0.01 = 0.127062
    assert t_interval([0.50, 0.52]) == pytest.approx((0.382938, 0.637062), abs=1e-6)
    assert t_interval([0.98, 1.0]) == pytest.approx((0.862938, 1.0), abs=1e-6)  # no score is above 1
    assert t_interval([0.7, 0.7, 0.7]) == pytest.approx((0.7, 0.7))


def test_seeds_become_a_row_after_the_runs_in_all_three_tables(three: Path) -> None:
    runs = collect(three)
    rows = list(csv.DictReader(io.StringIO(csv_text(runs))))
    assert [(row["rank"], row["run"], row["seeds"]) for row in rows] == [
        ("1", "run2", "2"),
        ("2", "run1", "1"),
        ("3", "run0", "0"),
        ("", "mean over n = 3 seeds", "0 1 2"),
    ]
    mean = rows[-1]
    assert (mean["f1_macro"], mean["f1_macro_low"], mean["f1_macro_high"]) == ("0.840000", "0.740634", "0.939366")
    assert (mean["top1"], mean["top1_low"], mean["top1_high"]) == ("0.900000", "", ""), "no width is no certainty"
    assert (mean["n"], mean["split"], mean["model"], mean["created"]) == ("100", "val", "resnet50", "2026-11-22")
    row = "|  | mean over n = 3 seeds | resnet50 | val, chose the weights | 100 | 84.0 % (74.1 to 93.9) | 90.0 % "
    assert row in markdown(runs)
    file = io.StringIO()
    print_runs(runs, make_console(file, width=200))
    (line,) = [line for line in file.getvalue().splitlines() if "seeds " in line and "mean over n" in line]
    assert "84.0 %  74.1 to 93.9" in line
    for text in (markdown(runs), file.getvalue()):
        assert "of a mean over seeds is Student's, of that mean: how training varies on these images." in " ".join(
            text.split()
        )


@pytest.mark.parametrize(
    "other",
    [
        {"batch": 16},
        {"model": "resnet18"},
        {"fingerprint": "bb" * 32},
        {"split": "test"},
        {"weights": {"sha256": "cc"}},
        {"smoke": True},
        {"state": "stopped"},
        {"seed": 0},
        {"f1": None},
    ],
)
def test_what_differs_in_more_than_the_seed_is_no_part_of_a_mean(tmp_path: Path, other: dict[str, object]) -> None:
    write(tmp_path, "a", 0.8, 0)
    write(tmp_path, "b", **{"f1": 0.9, "seed": 1} | other)  # type: ignore[arg-type]
    assert means(tmp_path) == []
    assert "Student" not in markdown(collect(tmp_path))
    write(tmp_path, "c", 0.9, 1)
    assert [mean.seeds for mean in means(tmp_path)] == [(0, 1)]


def test_of_two_runs_of_a_seed_the_newest_counts(three: Path) -> None:
    write(three, "again", 0.86, 0, created="2026-12-01")
    (mean,) = means(three)
    assert mean.seeds == (0, 1, 2)
    assert mean.score is not None
    assert mean.score.merit == pytest.approx(0.86)  # of 0.86, 0.84 and 0.88


def test_runs_without_their_recipe_make_no_mean(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, f"run{seed}", seed=seed)
    assert means(tmp_path) == []


def test_a_recipe_that_is_no_toml_breaks_its_own_row_alone(three: Path) -> None:
    (three / "run0" / "recipe.toml").write_text("seed = = 1")
    assert [run.status.split(":")[0] for run in collect(three)] == ["broken", "finished", "finished"]
    assert [mean.seeds for mean in means(three)] == [(1, 2)]


@pytest.mark.parametrize(("about", "rows"), [({"prepared": {"why": "no room"}}, 1), ({}, 0)])
def test_prepared_pictures_that_were_chosen_are_no_other_recipe(
    tmp_path: Path, about: dict[str, object], rows: int
) -> None:
    for seed, side in enumerate(('"none"', "564")):
        text = RECIPE.format(seed=seed, path="a/", batch=8).replace("val = 0.2", f"val = 0.2\nprepared = {side}")
        write_run(tmp_path, f"run{seed}", seed=seed, recipe_text=text, **about)  # type: ignore[arg-type]
    assert len(means(tmp_path)) == rows
