from pathlib import Path

import numpy as np
import pytest
from scored_runs import index_of, write_scored_run

from imgkit.evaluations import write_evaluation
from imgkit.report.answers import Shas, paired, read_answers
from imgkit.report.collect import collect
from imgkit.report.compare import Comparison, Gap, compare, holm, mcnemar
from imgkit.report.differences import MOST, Difference, Differences, against
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


DIFFERS = {  # by the interval of macro F1, by images won and lost: what is said
    (("lower", 2, 60), "lower"),
    (("higher", 60, 2), "higher"),
    (("", 20, 22), "not distinguishable"),
    (("none", 20, 22), "not distinguishable: too few images or differing answers for an interval"),
    (("higher", 22, 20), "higher macro F1; how often they are right is not distinguishable"),
    (("", 2, 60), "right less often; macro F1 is not distinguishable"),
    (("none", 60, 2), "right more often; macro F1 is not distinguishable"),
    (("higher", 2, 60), "right less often; higher macro F1"),
    (("lower", 60, 2), "right more often; lower macro F1"),
}


@pytest.mark.parametrize(("found", "said"), sorted(DIFFERS))
def test_the_verdict_hears_both_macro_f1_and_how_often_a_run_is_right(
    tmp_path: Path, found: tuple[str, int, int], said: str
) -> None:
    way, gained, lost = found
    value = -0.1 if way == "lower" else 0.1
    interval = {"": (-0.05, 0.15), "none": None}.get(way, (value - 0.02, value + 0.02))
    test = mcnemar(gained, lost)
    comparison = Comparison(500, Gap(value, interval), Gap((gained - lost) / 500, None), test, same_answers=False)
    write_scored_run(tmp_path, "one", index_of(90), {"test": 0.9})
    trial = ladder_of(tmp_path).best
    assert Difference(trial, comparison, test.p, "", (), whole=True).verdict == said


def test_runs_of_one_macro_f1_that_are_not_right_equally_often_are_told_apart(tmp_path: Path) -> None:
    """Sets of labels: the same F1 of each label, and yet many more whole sets are right."""
    index = index_of(900, ("cat", "dog"), several=True)
    for name in ("scattered", "gathered"):
        write_scored_run(tmp_path, name, index, {"test": 1.0})
    targets = index.targets()[index.rows("test")] > 0
    n = len(targets)
    for name, other in (("scattered", np.arange(n) % 4 == 1), ("gathered", np.arange(n) % 4 == 0)):
        wrong = np.column_stack([np.arange(n) % 4 == 0, other])
        folder = tmp_path / name / "evaluations" / "test@10"
        write_evaluation(
            folder,
            paths=[index.paths[int(row)] for row in index.rows("test")],
            targets=targets.astype(np.float32),
            logits=np.where(targets ^ wrong, 5.0, -5.0).astype(np.float32),
            classes=index.classes,
            split="test",
            step=10,
            seed=0,
            extra={"data": index.select(index.rows("test")).fingerprint},
        )
    ladder = ladder_of(tmp_path)
    (row,) = against(ladder, next(trial for trial in ladder.trials if trial.run.name == "gathered"), Shas()).rows
    assert row.found is not None
    assert not row.found.f1.told_apart
    assert row.found.right.value < -0.2
    assert row.verdict == "right less often; macro F1 is not distinguishable"


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
