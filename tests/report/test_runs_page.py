import re
from pathlib import Path

import pytest
from page_reader import read_page, text_of
from sample_runs import write_run
from scored_runs import index_of, write_scored_run

from imgkit.errors import UsageError
from imgkit.report.collect import collect
from imgkit.report.runs_charts import CURVES
from imgkit.report.runs_page import runs_page, write_runs_page
from imgkit.report.trials import arrange

BOTH = {"val": 0.8, "test": 0.8}


def page(out: Path, baseline: str | None = None) -> str:
    return runs_page(out, collect(out), baseline)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    index = index_of(600)
    for seed in (0, 1):
        write_scored_run(tmp_path, f"good{seed}", index, {"val": 0.95, "test": 0.95}, draw=seed, seed=seed)
        sets = ["phases.all.lr=0.02"]
        write_scored_run(tmp_path, f"poor{seed}", index, {"val": 0.7, "test": 0.6}, draw=seed, seed=seed, sets=sets)
    write_scored_run(tmp_path, "untested", index, {"val": 0.9}, sets=["train.ema=0.9"])
    write_scored_run(tmp_path, "smoke", index, BOTH, smoke=True)
    write_run(tmp_path, "unscored", f1=None, fingerprint=index.fingerprint, state="failed")
    write_scored_run(tmp_path, "elsewhere", index_of(90), BOTH, created="2025-01-01")
    write_scored_run(tmp_path, "elsewhere1", index_of(90), BOTH, created="2025-01-01", seed=1, draw=1)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    return tmp_path


def test_ranks_differences_seeds_and_what_is_without_a_rank(runs: Path) -> None:
    html, text = page(runs), text_of(page(runs))
    ids = [value for tag, name, value in read_page(html).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    labels = [value for _, name, value in read_page(html).attributes if name == "aria-label"]
    assert len(labels) == len(set(labels)), "landmarks that a screen reader lists have names of their own"
    assert "10 runs · 7 with a rank · 2 data sets · 1 folder that cannot be read" in text
    assert "Group 1: cells/" in text
    assert text.index("Scored on test") < text.index("Scored on validation, which chose the weights")
    assert "4 runs scored on the same 200 test images, which chose no weights." in text
    assert "5 runs of 3 configurations were tried against the same validation images" in text
    best = re.search(r"Against (good[01]) Differences are the run minus the baseline", text)
    assert best
    assert "3 comparisons were made" in text
    assert "mean over n = 2 seeds good0, good1" in text
    assert "phases.all.lr 0.02 0.0001" in text
    for name, why in (
        ("smoke resnet50", "smoke run"),
        ("unscored resnet50", "no score yet: failed: the loss is not finite"),
        ("bad", "broken:"),
    ):
        assert f"{name} {why}" in text


def test_columns_of_numbers_are_sorted_by_their_values(runs: Path) -> None:
    values = [float(value) for _, name, value in read_page(page(runs)).attributes if name == "data-value"]
    merits = [run.score.merit for run in collect(runs) if run.score is not None and not run.smoke]
    assert all(any(value == merit for value in values) for merit in merits)


def test_runs_without_a_curve_are_named(tmp_path: Path) -> None:
    index = index_of(90)
    for number in range(CURVES + 2):
        folder = write_scored_run(tmp_path, f"run{number}", index, {"test": 0.95 - number / 20}, draw=0)
        (row,) = folder.history()
        folder.write_rows("history.jsonl", [row | {"epoch": epoch, "step": 5 * epoch} for epoch in (1, 2)])
    ladder = arrange(tmp_path, collect(tmp_path))[0].ladders[0]
    last = ", ".join(trial.run.name for trial in ladder.trials[CURVES:])
    assert f"Not drawn: {last}." in text_of(page(tmp_path))


def test_runs_of_other_groups_are_not_ranked_and_it_is_said(runs: Path) -> None:
    text = text_of(page(runs))
    assert "Runs of different groups were trained or scored on other images, so they are not ranked" in text
    first, second = text.split("Group 2: cells/")
    assert "elsewhere" not in first
    assert "good0" not in second.split("Folders that cannot be read")[0]
    assert "Runs of different groups" not in text_of(page_of_one_group(runs))


def page_of_one_group(runs: Path) -> str:
    return runs_page(runs, [run for run in collect(runs) if not run.name.startswith("elsewhere")])


def test_a_named_baseline_and_where_it_is_none(runs: Path) -> None:
    text = text_of(page(runs, "poor0"))
    assert "Against poor0 Differences" in text
    assert "The baseline poor0 is of group 1: in group 2 the best run is the baseline." in text
    assert "so its lead is partly luck" not in text.split("Group 2")[1].split("Scored on validation")[0]
    with pytest.raises(UsageError, match="smoke cannot be a baseline"):
        page(runs, "smoke")


def test_a_run_that_has_a_page_is_linked_and_its_differences_are_named_beside_it(runs: Path) -> None:
    assert not [value for tag, name, value in read_page(page(runs)).attributes if name == "href" and "report" in value]
    (runs / "good0").rename(runs / "go & d#?.0")
    (runs / "go & d#?.0" / "report.html").touch()
    html = page(runs)
    links = {value for tag, name, value in read_page(html).attributes if name == "href" and "report" in value}
    assert links == {"./go%20%26%20d%23%3F.0/report.html"}
    assert re.search(r"poor[01] (seed \d, )?phases.all.lr 0.02 ", text_of(html))


def test_the_page_is_a_file_beside_the_runs(runs: Path) -> None:
    file = write_runs_page(runs, collect(runs))
    assert file == runs / "report.html"
    assert file.read_text() == page(runs)
    assert file.stat().st_size < 200_000


def test_the_page_names_the_folder_where_it_was_written_from_within(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    assert f"<h1>Runs in {runs.name}</h1>" in page(Path())


def test_a_browser_looks_again_while_a_run_goes_on_or_is_watched(runs: Path) -> None:
    assert '<meta http-equiv="refresh"' not in page(runs)
    assert '<meta http-equiv="refresh" content="5">' in runs_page(runs, collect(runs), watched=True)
    write_run(runs, "going", f1=None, state="running")
    text = text_of(page(runs))
    assert '<meta http-equiv="refresh" content="5">' in page(runs)
    assert "Going on: going. This page is read again every 5 seconds." in text


def test_more_training_images_on_the_same_test_images_are_a_chart_across_groups(tmp_path: Path) -> None:
    index = index_of(600)
    fewer = index.select([row for row in range(600) if index.splits[row] or row % 2])
    write_scored_run(tmp_path, "all", index, BOTH)
    assert "What more training images bring" not in page(tmp_path)
    write_scored_run(tmp_path, "half", fewer, BOTH)
    text = text_of(page(tmp_path))
    assert "What more training images bring" in text
    assert "All are scored on the same 200 test images" in text
    assert re.search(r"half \(group [12]\): \d", text)
