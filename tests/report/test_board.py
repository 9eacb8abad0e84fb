import json
from pathlib import Path

import pytest
from scored_runs import index_of, write_scored_run

from imgkit.report import board
from imgkit.report.answers import Shas
from imgkit.report.board import Cell, Table
from imgkit.report.collect import Measured, collect
from imgkit.report.compare import Comparison, Gap, McNemar
from imgkit.report.configurations import configurations
from imgkit.report.differences import Difference, Differences, against
from imgkit.report.recipe_diff import Differing
from imgkit.report.trials import Group, Ladder, Tried, arrange


def arranged(out: Path, shares: list[float], n: int = 90, **about: object) -> tuple[list[Group], Ladder, Differences]:
    index = index_of(n)
    for number, share in enumerate(shares):
        write_scored_run(out, f"run{number}", index, {"val": share, "test": share}, draw=number, **about)
    groups = arrange(out, collect(out))
    ladder = groups[0].ladders[0]
    return groups, ladder, against(ladder, None, Shas())


def column(table: Table, title: str) -> list[Cell]:
    return [row[[*table.titles].index(title)] for row in table.rows]


def test_numbers_as_people_read_them() -> None:
    assert board.points(Gap(-0.0123, (-0.0249, 0.0011))) == Cell("−1.2", -0.0123, "−2.5 to +0.1")
    assert board.points(Gap(0.0001, (-0.0004, 0.02)), "3 pairs") == Cell("0.0", 0.0001, "−0.0 to +2.0, 3 pairs")
    assert board.points(Gap(-0.0001, (-0.0004, 0.0))) == Cell("0.0", -0.0001, "−0.0 to 0.0")
    assert board.points(Gap(0.05, None)) == Cell("+5.0", 0.05, "no interval")
    assert board.scored(Measured(0.925, (0.912, 0.938))) == Cell("92.5 %", 0.925, "91.2 to 93.8")
    assert board.scored(Measured(1.0, None)) == Cell("100.0 %", 1.0, "no interval")
    assert [board.p_words(p) for p in (0.0009999, 0.001, 0.0314, 1.0)] == ["< 0.001", "0.001", "0.031", "1.000"]


def test_the_leaderboard_has_test_and_validation_apart(tmp_path: Path) -> None:
    _, ladder, _ = arranged(tmp_path, [0.7, 0.9], model="net", parameters=3_400_000)
    table = board.leaderboard(ladder, [])
    assert all(len(row) == len(table.titles) for row in table.rows)
    assert [cell.text for cell in column(table, "#rank")] == ["1", "2"]
    for trial, test, val in zip(
        ladder.trials, column(table, "#macro F1"), column(table, "#macro F1 on val"), strict=True
    ):
        assert trial.val is not None
        assert (test.value, val.value) == (trial.score.merit, trial.val.merit)
    assert {cell.text for cell in column(table, "#parameters")} == {"3.4 M"}
    write_scored_run(tmp_path, "untested", index_of(90), {"val": 0.9})
    lower = arrange(tmp_path, collect(tmp_path))[0].ladders[1]
    assert "#macro F1 on val" not in board.leaderboard(lower, []).titles


def test_equal_scores_share_a_rank(tmp_path: Path) -> None:
    _, ladder, _ = arranged(tmp_path, [0.7, 0.9])
    first, last = ladder.trials
    table = board.leaderboard(Ladder("test", (first, last, last, first)), [])
    assert [cell.text for cell in column(table, "#rank")] == ["1", "3", "3", "1"], "whatever the order"
    table = board.leaderboard(Ladder("test", (first, first, last)), [])
    assert [cell.value for cell in column(table, "#rank")] == [1, 1, 3]


def test_the_table_of_differences_says_which_test_it_was(tmp_path: Path) -> None:
    _, ladder, found = arranged(tmp_path, [0.95, 0.6])
    far = McNemar(3, 40, 0.0001, exact=False)
    row = Difference(ladder.trials[1], Comparison(90, Gap(-0.2, (-0.3, -0.1)), Gap(-0.1, None), far, False), 0.0002, "",
                     [Differing("phases.all.lr", "0.1", "0.2")], True)  # fmt: skip
    table = board.differences(Differences(found.baseline, False, [row, *found.rows], 0))
    assert [cell.small for cell in column(table, "#p")] == ["chi-squared", "exact"]
    assert column(table, "verdict")[0].text == "lower"
    assert column(table, "run")[0].small == "phases.all.lr 0.2"
    assert [cell.text for cell in table.rows[0][4:]] == ["3", "40", "< 0.001", "< 0.001"]
    broken = Difference(ladder.trials[1], None, None, "not the same test images", None, False)
    table = board.differences(Differences(found.baseline, False, [broken], 0))
    assert column(table, "verdict") == [Cell("not compared", small="not the same test images")]
    assert all(len(row) == len(table.titles) for row in table.rows)


def test_what_was_asked_for_otherwise_in_words(tmp_path: Path) -> None:
    _, ladder, _ = arranged(tmp_path, [0.9, 0.8])
    keys = [Differing(f"key{number}", "0", str(number)) for number in range(4)]

    def told(changes: list[Differing] | None, *, whole: bool = True) -> tuple[str, list[Differing]]:
        text, found = board.changes(Difference(ladder.best, None, None, "", changes, whole), "base")
        return text, [*found]

    assert told(None) == ("The recipe of one of the two cannot be read.", [])
    assert told([]) == ("Nothing: the same network, weights, recipe, seed and versions as base.", [])
    assert told(keys) == ("", keys)
    assert told(keys, whole=False)[0].endswith("only given values are compared.")
    assert board.in_short(keys) == "key0 0, key1 1 and 2 more"
    assert (board.in_short(keys[:2]), board.in_short([])) == ("key0 0, key1 1", "")


def test_notes_tell_what_was_tried_and_by_what_it_was_chosen(tmp_path: Path) -> None:
    _, ladder, found = arranged(tmp_path, [0.95, 0.9, 0.6])
    notes = board.notes_of(ladder, found, Tried(runs=7, configurations=1, epochs=1_234))
    assert notes[0] == (
        "3 runs scored on the same 30 test images, which chose no weights. 7 runs of 1 configuration were tried "
        "against the same validation images, and 1,234 evaluations on them chose among checkpoints (runs that were "
        "deleted are not counted)."
    )
    assert notes[1].startswith("Taking the best of several runs by its test score is a choice by test")
    wide = next(note for note in notes if "is wide" in note)
    low, high = ladder.best.score.measured["f1_macro"].interval or (0, 0)
    assert f"is wide, {100 * (high - low):.0f} points: with 30 images" in wide
    assert any("The baseline is the run that is best on these very images" in note for note in notes)
    assert any(note.startswith("2 comparisons were made") for note in notes)
    assert not any("not compared" in note for note in notes)
    named = board.notes_of(ladder, Differences(found.baseline, True, found.rows, 5), Tried(1, 1, 1))
    assert "5 more runs further down were not compared." in named
    assert not any("best on these very images" in note for note in named)


def test_notes_of_validation_scores_and_of_a_single_run(tmp_path: Path) -> None:
    write_scored_run(tmp_path, "one", index_of(60), {"val": 0.9})
    ladder = arrange(tmp_path, collect(tmp_path))[0].ladders[0]
    notes = board.notes_of(ladder, against(ladder, None, Shas()), Tried(1, 1, 1))
    assert notes[0].startswith(
        "1 run scored on the same 20 validation images, which chose the weights: these scores flatter"
    )
    assert "1 run of 1 configuration was tried against" in notes[0]
    assert notes[1] == "The best run has no interval: too few images or mistakes for an interval."
    metrics = json.loads((tmp_path / "one" / "evaluations" / ladder.best.evaluation / "metrics.json").read_text())
    majority = f"top-1 {100 * metrics['chance']['majority']:.1f} %"
    assert notes[2].startswith("Without a model, always answering ")
    assert majority in notes[2]
    assert len(notes) == 3
    unknown = board.notes_of(ladder, against(ladder, None, Shas()), Tried(0, 0, 0))
    assert unknown[0].endswith(
        "and are no test scores. Which validation images chose the weights is not known any more."
    )


def test_configurations_that_agree_on_every_seed_have_no_interval(tmp_path: Path) -> None:
    index = index_of(90)
    for seed in (0, 1):
        write_scored_run(tmp_path, f"same{seed}", index, {"test": 0.9}, draw=0, seed=seed)
        sets = ["phases.all.lr=0.1"]
        write_scored_run(tmp_path, f"other{seed}", index, {"test": 0.5}, draw=seed, seed=seed, sets=sets)
    ladder = arrange(tmp_path, collect(tmp_path))[0].ladders[0]
    table = board.over_seeds(configurations(ladder, ladder.best), against(ladder, None, Shas()))
    assert [cell.small for cell in column(table, "runs")] == ["", "phases.all.lr 0.1"]
    assert [cell.text for cell in column(table, "runs")] == ["same0, same1", "other0, other1"]
    assert column(table, "#macro F1")[0].small == "seeds agree"
    assert column(table, "#to the baseline’s")[1].small.endswith(", 2 pairs")
    assert all(len(row) == len(table.titles) for row in table.rows)


@pytest.mark.parametrize("several", [False, True])
def test_what_is_right_is_named_by_the_task(tmp_path: Path, several: bool) -> None:
    index = index_of(120, several=several)
    for number, share in enumerate((0.9, 0.5)):
        write_scored_run(tmp_path, f"run{number}", index, {"test": share}, draw=number)
    ladder = arrange(tmp_path, collect(tmp_path))[0].ladders[0]
    titles = board.differences(against(ladder, None, Shas())).titles
    assert ("#exact sets" in titles, "#top-1" in titles) == (several, not several)
