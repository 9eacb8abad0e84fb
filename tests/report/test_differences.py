from pathlib import Path

import pytest
from scored_runs import index_of, write_scored_run

from imgkit.report.answers import Shas, paired, read_answers
from imgkit.report.collect import collect
from imgkit.report.compare import compare, holm
from imgkit.report.differences import MOST, Differences, against
from imgkit.report.trials import Ladder, arrange, find_baseline


def ladder_of(out: Path) -> Ladder:
    return arrange(out, collect(out))[0].ladders[0]


def rows(found: Differences) -> dict[str, tuple[str, str]]:
    return {row.trial.run.name: (row.verdict, row.problem) for row in found.rows}


def test_every_run_is_compared_with_the_best_one(tmp_path: Path) -> None:
    index = index_of(600)
    for number, share in enumerate((0.97, 0.93, 0.6)):
        write_scored_run(tmp_path, f"run{number}", index, {"test": share}, draw=number)
    write_scored_run(tmp_path, "twin", index, {"test": 0.97}, draw=0)
    found = against(ladder_of(tmp_path), None, shas := Shas())
    assert found.baseline.run.name in ("run0", "twin")
    assert not found.chosen
    assert (found.left_out, found.tests) == (0, 3)
    told = {name: verdict for name, (verdict, _) in rows(found).items()}
    assert told.pop("twin", None) or told.pop("run0") == "not distinguishable: the same answer to every image"
    assert told == {"run1": "not distinguishable", "run2": "lower"}
    base = read_answers(found.baseline.folder, "test@10", shas)
    for row in found.rows:
        assert row.found == compare(*paired(base, read_answers(row.trial.folder, "test@10", shas)))
        assert row.changes == []
    ps = [row.found.test.p for row in found.rows if row.found is not None]
    assert [row.corrected for row in found.rows] == holm(ps)


def test_a_named_baseline_is_taken_on_its_own_ladder_alone(tmp_path: Path) -> None:
    index = index_of(90)
    for number, share in enumerate((0.9, 0.5)):
        write_scored_run(tmp_path, f"run{number}", index, {"test": share}, draw=number)
        write_scored_run(tmp_path, f"other{number}", index_of(120), {"test": share}, draw=number, created="2025-01-01")
    groups = arrange(tmp_path, collect(tmp_path))
    base = find_baseline(groups, "run1", tmp_path)
    mine, other = (against(group.ladders[0], base, Shas()) for group in groups)
    assert (mine.baseline.run.name, mine.chosen, [*rows(mine)]) == ("run1", True, ["run0"])
    assert (other.baseline.run.name, other.chosen, [*rows(other)]) == ("other0", False, ["other1"])


def test_a_difference_that_many_comparisons_explain_is_said_to_be_one(tmp_path: Path) -> None:
    index = index_of(600)
    write_scored_run(tmp_path, "base", index, {"test": 0.95}, draw=0)
    for number in range(9):
        write_scored_run(tmp_path, f"run{number}", index, {"test": 0.9}, draw=number + 1)
    found = against(ladder_of(tmp_path), find_baseline(arrange(tmp_path, collect(tmp_path)), "base", tmp_path), Shas())
    weak = [row for row in found.rows if row.found and row.found.f1.told_apart and (row.corrected or 0) >= 0.05]
    assert weak
    assert {row.verdict for row in weak} == {"lower macro F1; how often they are right is not distinguishable"}


def test_many_runs_are_cut_and_it_is_said(tmp_path: Path) -> None:
    index = index_of(90)
    for number in range(MOST + 3):
        write_scored_run(tmp_path, f"run{number:02d}", index, {"test": 0.5 + number / 60}, draw=number)
    ladder = ladder_of(tmp_path)
    found = against(ladder, None, Shas())
    assert (len(found.rows), found.left_out) == (MOST, 2)
    assert [row.trial.run.name for row in found.rows] == [trial.run.name for trial in ladder.trials[1 : MOST + 1]]


def test_what_cannot_be_compared_has_its_reason(tmp_path: Path) -> None:
    index = index_of(90)
    write_scored_run(tmp_path, "base", index, {"test": 0.99}, draw=0)
    gone = write_scored_run(tmp_path, "gone", index, {"test": 0.9}, draw=1)
    other = write_scored_run(tmp_path, "other", index, {"test": 0.9}, draw=2)
    ladder = ladder_of(tmp_path)
    (gone.path / "evaluations" / "test@10" / "predictions.csv").unlink()
    (gone.path / "recipe.toml").unlink()
    file = other.path / "data" / "index.csv"
    file.write_text(file.read_text().replace(str(index.hashes[2].tobytes().hex()), "ab" * 32))
    found = against(ladder, None, Shas())
    told = rows(found)
    assert told["gone"][0] == told["other"][0] == "not compared"
    assert "predictions.csv cannot be matched with its images (FileNotFoundError" in told["gone"][1]
    assert "1 of the 30 of base are not among those of other" in told["other"][1]
    assert {row.trial.run.name: row.changes for row in found.rows} == {"gone": None, "other": []}
    assert found.tests == 0


@pytest.mark.parametrize("n", [87, 90])
def test_too_few_images_are_told(tmp_path: Path, n: int) -> None:
    for number, share in enumerate((0.95, 0.6)):
        write_scored_run(tmp_path, f"run{number}", index_of(n), {"test": share}, draw=number)
    ((verdict, _),) = rows(against(ladder_of(tmp_path), None, Shas())).values()
    assert verdict.endswith("too few images or differing answers for an interval") is (n < 90)
