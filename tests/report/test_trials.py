from pathlib import Path

import pytest
from sample_runs import write_run
from scored_runs import index_of, write_scored_run

from imgkit.errors import UsageError
from imgkit.report.collect import collect
from imgkit.report.trials import Group, Tried, arrange, find_baseline, tried


def arranged(out: Path) -> list[Group]:
    return arrange(out, collect(out))


def names(group: Group) -> list[tuple[str, list[str]]]:
    return [(ladder.split, [trial.run.name for trial in ladder.trials]) for ladder in group.ladders]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    index = index_of(90)
    both = {"val": 0.7, "test": 0.6}
    write_scored_run(tmp_path, "low", index, both, draw=1)
    write_scored_run(tmp_path, "high", index, {"val": 0.8, "test": 0.9}, draw=2, sets=["phases.all.lr=0.01"])
    write_scored_run(tmp_path, "again", index, both, draw=3, seed=1)
    write_scored_run(tmp_path, "untested", index, {"val": 0.99}, draw=4, sets=["train.ema=0.9"])
    write_scored_run(tmp_path, "smoke", index, both, smoke=True)
    write_run(tmp_path, "unscored", f1=None, fingerprint=index.fingerprint)
    write_scored_run(tmp_path, "elsewhere", index_of(60), both, created="2025-01-01")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    return tmp_path


def test_runs_are_ranked_on_the_images_that_they_share_only(runs: Path) -> None:
    first, second = arranged(runs)
    assert names(first)[0] == ("test", ["high", "low", "again"]) or names(first)[0] == (
        "test",
        ["high", "again", "low"],
    )
    assert names(first)[1:] == [("val", ["untested"])]
    assert names(second) == [("test", ["elsewhere"])]
    assert {run.name for run in first.runs} - {"high", "low", "again", "untested"} == {"smoke", "unscored"}
    assert [first.number, second.number] == [1, 2]
    best = first.ladders[0].best
    assert (best.evaluation, best.train_images, best.epochs, best.size_bytes) == ("test@10", 30, 1, None)
    assert best.val is not None
    assert (best.val.split, best.score.split) == ("val", "test")


def test_runs_of_one_data_set_that_were_scored_on_other_images_are_not_ranked_together(runs: Path) -> None:
    folder = arranged(runs)[0].ladders[0].best.folder
    place = "evaluations/test@10/metrics.json"
    folder.write_json(place, folder.read_json(place) | {"data": "cc" * 32})
    ladders = names(arranged(runs)[0])
    assert [(split, len(found)) for split, found in ladders] == [("test", 2), ("test", 1), ("val", 1)]


def test_what_was_tried_against_a_validation_set_is_counted(runs: Path) -> None:
    groups = arranged(runs)
    watched = groups[0].ladders[0].best.watched
    assert watched
    assert tried(groups, watched) == Tried(runs=4, configurations=3, epochs=4)
    assert tried(groups, "") == Tried(0, 0, 0)


def test_a_run_whose_files_are_damaged_is_on_no_ladder_and_says_why(runs: Path) -> None:
    summaries = collect(runs)
    (runs / "low" / "evaluations" / "val@10" / "metrics.json").write_text("[]")
    (group, _) = arrange(runs, summaries)
    assert "low" not in dict(names(group))["test"]
    assert "should hold a JSON object" in group.problems["low"]


def test_a_baseline_is_found_by_name_path_and_latest(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = arranged(runs)
    (runs / "latest").write_text("low\n")
    for name in ("low", "latest", str(runs / "low")):
        assert find_baseline(groups, name, runs).run.name == "low"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lov", "There is no run called 'lov' in .* \\(did you mean 'low'\\?\\)"),
        ("smoke", "smoke cannot be a baseline: it is a smoke run, whose score means nothing"),
        ("unscored", "unscored cannot be a baseline: it has no score yet"),
        ("bad", "There is no run called 'bad'"),
        ("elsewhere", r"elsewhere cannot be the baseline of another run: it was scored on data [0-9a-f]{8}, and the"
                      r" others on other images \(4 runs of data [0-9a-f]{8}\)"),
    ],
)  # fmt: skip
def test_a_baseline_that_cannot_be_one_is_refused_with_the_reason(runs: Path, name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        find_baseline(arranged(runs), name, runs)


def test_a_baseline_outside_is_no_run_of_the_folder(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = write_run(tmp_path_factory.mktemp("other"), "low")
    with pytest.raises(UsageError, match="There is no run called"):
        find_baseline(arranged(runs), str(other.path), runs)
