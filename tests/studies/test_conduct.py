"""Studies from end to end: trained, skipped, killed, gone on with, changed, failed; numbers against the run folders."""

import csv
import io
import json
import os
import signal
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from oracle import fingerprint
from study_worker import GRID, LISTED, PLUGIN, forking, plugins_forgotten, write_study

from imgkit import open_run
from imgkit.errors import RecipeError, UsageError
from imgkit.report.collect import collect
from imgkit.screen import Screen
from imgkit.studies import work
from imgkit.studies.conduct import Conducted, ask, conduct
from imgkit.studies.table import print_study
from imgkit.terminal import make_console

SPLITS = ("train", "val", "test")
Jobs = list[Mapping[str, Any]]


@pytest.fixture(autouse=True, scope="module")
def _no_plugin_is_left() -> Iterator[None]:
    with plugins_forgotten():
        yield


def go(
    folder: Path,
    jobs: Jobs | None = None,
    file: io.StringIO | None = None,
    before: Callable[[Mapping[str, Any]], None] = lambda job: None,
) -> Conducted:
    asked = ask(folder / "small.toml", out=folder / "runs", plugin=[str(PLUGIN)])
    screen = Screen(file=file or io.StringIO(), width=200)
    return conduct(asked, screen, worker=forking(jobs, before))


def csv_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "runs" / "study.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def metrics(folder: Path, run: str, split: str) -> dict[str, Any]:
    """The metrics of a run's best weights, found without imgkit."""
    step = json.loads((folder / "runs" / run / "status.json").read_text())["best"]["step"]
    found: dict[str, Any] = json.loads(
        (folder / "runs" / run / "evaluations" / f"{split}@{step}" / "metrics.json").read_text()
    )
    return found


def value(folder: Path, run: str, split: str, quantity: str) -> float:
    found = metrics(folder, run, split)
    return float(1 - found["topk"]) if quantity == "topk_error" else float(found[quantity])


def trained(jobs: Jobs) -> list[str]:
    words = [job["words"] for job in jobs if job["do"] == "command"]
    return [one[1] if one[0] == "resume" else one[-1] for one in words]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A 2 × 2 grid with two seeds, done."""
    folder = tmp_path_factory.mktemp("grid")
    write_study(folder, GRID)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(folder / "cache"))
        assert go(folder).code == 0
        yield folder


def test_its_runs_are_ordinary_runs(grid: Path) -> None:
    runs = collect(grid / "runs")
    names = [f"{rate}+{loss}-seed{seed}" for rate in ("fast", "slow") for loss in ("focal", "none") for seed in (0, 1)]
    assert [run.name for run in runs] == names
    assert {run.status for run in runs} == {"finished"}
    assert (grid / "runs" / "study.toml").read_text() == (grid / "small.toml").read_text()


def test_every_score_is_that_of_the_run_folders(grid: Path) -> None:
    rows = [row for row in csv_rows(grid) if row["kind"] == "score"]
    assert len(rows) == 4 * 3 * 4, "variants, splits, scores"
    for row in rows:
        expected = [value(grid, f"{row['subject']}-seed{s}", row["split"], row["quantity"]) for s in (0, 1)]
        assert row["seeds"] == "0 1"
        assert [float(one) for one in row["values"].split()] == expected
        assert float(row["mean"]) == pytest.approx(statistics.fmean(expected), abs=1e-8)
        if len(set(expected)) > 1:  # t(0.975, 1) = 12.706205
            half = 12.706205 * statistics.stdev(expected) / 2**0.5
            assert float(row["high"]) - float(row["low"]) == pytest.approx(2 * half, rel=1e-5)
        else:
            assert (row["low"], row["high"]) == ("", "")


def test_gaps_differences_and_effects_follow_from_the_same_numbers(grid: Path) -> None:
    rows = {(row["kind"], row["subject"], row["against"], row["quantity"]): row for row in csv_rows(grid)}

    def mean(variant: str, split: str, quantity: str) -> float:
        return statistics.fmean(value(grid, f"{variant}-seed{seed}", split, quantity) for seed in (0, 1))

    for variant in ("fast+none", "slow+focal"):
        found = float(rows["gap", variant, "", "top1"]["mean"])
        assert found == pytest.approx(mean(variant, "test", "top1") - mean(variant, "train", "top1"), abs=1e-8)
    test = {
        variant: mean(variant, "test", "loss") for variant in ("fast+none", "fast+focal", "slow+none", "slow+focal")
    }
    difference = float(rows["difference", "slow+none", "fast+none", "loss"]["mean"])
    assert difference == pytest.approx(test["slow+none"] - test["fast+none"], abs=1e-8)
    main = (test["slow+none"] - test["fast+none"] + test["slow+focal"] - test["fast+focal"]) / 2
    assert float(rows["effect", "rate: slow − fast", "", "loss"]["mean"]) == pytest.approx(main, abs=1e-8)
    interaction = (test["slow+focal"] - test["slow+none"]) - (test["fast+focal"] - test["fast+none"])
    name = "rate: slow − fast × loss: focal − none"
    assert float(rows["effect", name, "", "loss"]["mean"]) == pytest.approx(interaction, abs=1e-8)


def test_costs_are_those_of_the_runs_and_of_study_json(grid: Path) -> None:
    rows = {(row["subject"], row["quantity"]): row for row in csv_rows(grid) if row["kind"] == "cost"}
    memory = json.loads((grid / "runs" / "study.json").read_text())["measured"]
    for seed, run in enumerate(("fast+none-seed0", "fast+none-seed1")):
        own = {key: float(row["values"].split()[seed]) for (name, key), row in rows.items() if name == "fast+none"}
        about = json.loads((grid / "runs" / run / "run.json").read_text())
        history = [json.loads(line) for line in (grid / "runs" / run / "history.jsonl").read_text().splitlines()]
        assert own["parameters"] == about["parameters"] == own["trainable"]
        assert own["size_bytes"] == 4 * about["parameters"], "this network has no buffers"
        assert own["epoch_s"] == pytest.approx(history[1]["seconds"] / 2), "the median of two epochs is their mean"
        assert own["batch_s"] == memory[run]["inference"]["seconds"] > 0
        kept = {
            key: memory[run]["inference"][key] for key in ("batch_size", "warm_up", "passes", "device", "precision")
        }
        assert kept == {"batch_size": 2, "warm_up": 1, "passes": 3, "device": "cpu", "precision": "float32"}


def test_the_tables_say_what_the_numbers_are(grid: Path) -> None:
    page = (grid / "runs" / "study.md").read_text()
    assert "scratch by the recipe `scratch`: 4 variants × 2 seeds (0, 1), 8 of 8 runs finished." in page
    for heading in ("Scores", "Seen and unseen", "Cost", "Differences on test", "Effects on test"):
        assert f"\n## {heading}\n" in page
    assert "| variant | split | seeds | images | accuracy | top-3 error | loss | macro F1 |" in page
    assert "| fast+none | train | 2 | 39 | " in page
    assert "Time a batch: 2 images of zeros, float32, median of 3 passes after 1, on " in page
    assert "There are only 3 classes, so top-3 error is 0 always." in page
    assert "± is half of Student's 95 % interval" in page
    assert "12 comparisons: of twenty between equal things one is expected to look different." in page
    assert "fast+focal − fast+none | top-3 error | +0.0 |  | the same on every seed: no interval |" in page


def test_a_study_that_is_done_trains_nothing_and_makes_its_tables_anew(grid: Path) -> None:
    files = [grid / "runs" / name for name in ("study.md", "study.csv", "study.json")]
    before = [file.read_bytes() for file in files]
    for file in files[:2]:
        file.unlink()
    jobs: Jobs = []
    done = go(grid, jobs)
    assert (jobs, done.code) == ([], 0)
    assert [file.read_bytes() for file in files] == before


def test_the_screen_has_scores_differences_and_effects(grid: Path) -> None:
    done, out = go(grid), io.StringIO()
    print_study(done.asked, done.results, make_console(out, width=160))
    text = out.getvalue()
    assert "Differences on test" in text
    assert "rate: slow − fast × loss: focal − none" in text
    narrow = io.StringIO()
    print_study(done.asked, done.results, make_console(narrow, width=80))
    lines = narrow.getvalue().splitlines()
    assert lines[0].split("  ")[0] == "variant"
    assert any(line.startswith("fast+none   train") for line in lines), "no name is cut"
    assert max(map(len, lines)) <= 80
    assert "fast+none   train      2" in text


def test_kill_9_of_the_study_at_any_job_and_the_same_call_goes_on(tmp_path: Path) -> None:
    write_study(tmp_path / "whole", LISTED, "[0]")
    assert go(tmp_path / "whole").code == 0
    folder = tmp_path / "killed"
    write_study(folder, LISTED, "[0]")

    def life(deadly: int) -> None:
        """Go on until job number `deadly`, which kills the study and itself (a training: in its second epoch)."""
        pid = os.fork()
        if pid == 0:
            parent = os.getpid()

            def before(job: Mapping[str, Any]) -> None:
                if len(jobs) - 1 != deadly:
                    return
                die = lambda *_: (os.kill(parent, signal.SIGKILL), os.kill(os.getpid(), signal.SIGKILL))  # noqa: E731
                if job["do"] == "command":
                    pytest.MonkeyPatch().setattr("imgkit.experiment.Experiment._save", die)
                else:
                    die()

            jobs: Jobs = []
            go(folder, jobs, before=before)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL

    # The first: look; begin fast, measure it, begin slow, measure it. Each life gets one job further.
    for deadly in (0, 1, 1, 0, 1):
        life(deadly)
    jobs: Jobs = []
    assert go(folder, jobs).code == 0
    for run in ("fast-seed0", "slow-seed0"):
        whole, killed = (open_run(run, place / "runs", plugin=PLUGIN) for place in (tmp_path / "whole", folder))
        assert fingerprint(whole) == fingerprint(killed)
    scores = [[row for row in csv_rows(place) if row["kind"] != "cost"] for place in (tmp_path / "whole", folder)]
    assert scores[0] == scores[1]


def test_a_run_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    write_study(tmp_path, LISTED.replace("1e-2", "1e30"), "[0]")
    jobs: Jobs = []
    done = go(tmp_path, jobs)
    assert done.code == 6, "that of a training that diverged"
    assert trained(jobs) == ["fast-seed0", "slow-seed0"]
    assert list(done.memory.failed) == ["fast-seed0"]
    assert done.memory.failed["fast-seed0"]["reason"].startswith("with exit code 6: ")
    page = (tmp_path / "runs" / "study.md").read_text()
    assert "1 of 2 runs finished" in page
    assert "* `fast-seed0`: failed with exit code 6: " in page
    assert {row["subject"] for row in csv_rows(tmp_path) if row["kind"] == "score"} == {"slow"}
    (compared, *_) = [row for row in csv_rows(tmp_path) if row["kind"] == "difference"]
    assert (compared["subject"], compared["n"]) == ("slow", "0")
    assert "no seed in common" in page
    # It is tried again, and it alone.
    again: Jobs = []
    assert go(tmp_path, again).code == 6
    assert trained(again) == ["fast-seed0"]


def test_a_changed_file_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    write_study(tmp_path, LISTED, "[0]")
    assert go(tmp_path).code == 0
    write_study(tmp_path, LISTED.replace("1e-2", "2e-2"), "[0, 1]")
    jobs: Jobs = []
    with pytest.raises(UsageError) as caught:
        go(tmp_path, jobs)
    assert jobs == []
    assert caught.value.message == (
        f"{tmp_path}/runs/fast-seed0 was trained with other values: phases.all.lr 0.01 there, 0.02 here"
    )
    assert "Give a changed variant another name" in caught.value.hint
    # Further seeds and variants are trained, what is there is not trained again, and what was taken away is told.
    write_study(tmp_path, LISTED.replace('"fast"', '"quick"').replace("1e-2", "2e-2"), "[0]")
    said = io.StringIO()
    assert go(tmp_path, jobs, said).code == 0
    assert trained(jobs) == ["quick-seed0"]
    assert "note: the file changed since the last time; what is finished is as it asks for" in said.getvalue()
    assert "note: not of this study, and not in its tables: fast-seed0" in said.getvalue()
    assert {row["subject"] for row in csv_rows(tmp_path)} == {"quick", "slow"}


def test_what_is_wrong_with_the_last_variant_is_told_before_the_first_run(tmp_path: Path) -> None:
    write_study(tmp_path, LISTED.replace("lr = 1e-4", '"train.optimiser" = "sgd"'))
    jobs: Jobs = []
    with pytest.raises(RecipeError, match=r"train\.optimiser: unknown key \(did you mean 'optimizer'\?\)"):
        go(tmp_path, jobs)
    # A fault that only data and the network tell:
    write_study(tmp_path, LISTED.replace("lr = 1e-4", '"model.head" = "mlp:8", "data.classes" = 7'))
    with pytest.raises(work.ImgkitError, match=r"7.*\(variant slow\)") as caught:
        go(tmp_path, jobs)
    assert caught.value.exit_code == 3
    assert [job["do"] for job in jobs] == ["look"]
    assert not (tmp_path / "runs").exists()


def test_one_seed_has_no_interval_and_a_sample_of_seen_images_is_said(tmp_path: Path) -> None:
    write_study(tmp_path, LISTED, "[3]")
    file = tmp_path / "small.toml"
    file.write_text("train_images = 10\n" + file.read_text())
    done = go(tmp_path)
    assert all(row["low"] == row["high"] == "" for row in csv_rows(tmp_path))
    page = (tmp_path / "runs" / "study.md").read_text()
    assert "±" not in page.replace("A score without ±", "")
    assert "one seed: no interval" in page
    assert "Seen images: 10 of 39 training images, drawn by key." in page
    assert "| fast | train | 1 | 10 | " in page
    places = [
        next((tmp_path / "runs" / run / "evaluations").glob("train-10@*")) for run in ("fast-seed3", "slow-seed3")
    ]
    texts = [(place / "predictions.csv").read_text().splitlines() for place in places]
    paths = [[row["path"] for row in csv.DictReader(text)] for text in texts]
    assert paths[0] == paths[1]
    assert len(set(paths[0])) == 10
    # Without study.json only what it held is made again, and nothing is scored twice.
    (tmp_path / "runs" / "study.json").unlink()
    before = (places[0] / "metrics.json").stat().st_mtime_ns
    jobs: Jobs = []
    assert go(tmp_path, jobs).memory.measured.keys() == done.memory.measured.keys()
    assert [job["do"] for job in jobs] == ["measure", "measure"]
    assert (places[0] / "metrics.json").stat().st_mtime_ns == before


def test_a_dry_run_lists_the_runs_with_their_steps_and_writes_nothing(tmp_path: Path) -> None:
    write_study(tmp_path, LISTED)
    said = io.StringIO()
    asked = ask(tmp_path / "small.toml", out=tmp_path / "runs", plugin=[str(PLUGIN)])
    conduct(asked, Screen(file=said, width=400), dry_run=True, worker=forking())
    lines = said.getvalue().splitlines()
    assert " · slow-seed1 · my_tiny_net · 8 steps (all 8) · 1,987 parameters · to be trained" in lines
    assert any(line.strip().startswith("imgkit scratch my_tiny_net --recipe scratch") for line in lines)
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_another_study_or_a_run_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path, LISTED)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "study.toml").write_text('name = "other"\n')
    with pytest.raises(UsageError, match="holds the study 'other', not 'small'"):
        go(tmp_path)
    (tmp_path / "runs" / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="is a run, and a study is a folder of runs"):
        go(tmp_path)
