import re
from io import StringIO
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from oracle import SHORT, short_run

import imgkit
from imgkit import finish
from imgkit.api import resume
from imgkit.experiment import Experiment
from imgkit.files import is_leftover, neighbour
from imgkit.finish import _advice, score_line, write_page
from imgkit.metrics import summarise, wilson
from imgkit.progress import Progress
from imgkit.recipe.load import load_recipe
from imgkit.recipe.monitors import MONITORS
from imgkit.recipe.plan import Plan, make_plan
from imgkit.report.words import no_better_than_chance
from imgkit.run import RunFolder
from imgkit.screen import Screen

CLASSES = ("cat", "dog")
END = 10  # the last step of a plan


def epoch(loss: float, f1: float, **more: object) -> dict[str, Any]:
    return {"val/loss": loss, "val/f1_macro": f1, "solved": False, "best": False, "phase": "all", "step": END, **more}


def scored(n: int, top1: float, majority: float) -> dict[str, Any]:
    """Metrics of n images of two classes, of which so many are right."""
    return {
        "n": n,
        "intervals": {"top1": list(wilson(round(n * top1), n)), "f1_macro": None},
        "chance": {"majority": majority},
        "classes": 2,
        "classes_without_support": [],
    }


def sets(n: int, exact: float, low: float | None) -> dict[str, Any]:
    """Metrics of n images of a multi-label task; mAP 0.6, or from `low` on, where guessing gives 0.4."""
    ends = {"subset_accuracy": list(wilson(round(n * exact), n)), "map": None if low is None else [low, 0.9]}
    return {"n": n, "map": 0.6, "intervals": ends, "chance": {"map": 0.4}}


def made_setup(*phases: SimpleNamespace, monitor: str = "val/loss", task: str = "single", smoke: bool = False) -> Any:  # noqa: ANN401
    parts = phases or (SimpleNamespace(name="all", lr=1e-4, epochs=4, steps=None),)
    return SimpleNamespace(
        recipe=SimpleNamespace(monitor=monitor, phases=parts),
        plan=SimpleNamespace(phases=parts, total_steps=END),
        index=SimpleNamespace(task=task),
        about={"smoke": smoke},
    )


def advice(history: list[dict[str, Any]], metrics: dict[str, dict[str, Any]] | None = None, **setup: Any) -> list[str]:  # noqa: ANN401
    best = max((row for row in history if row["best"]), key=history.index)
    return _advice(made_setup(**setup), history, best, metrics or {"val": scored(2000, 0.85, 0.5)})


@pytest.mark.parametrize(
    ("tuned", "words"),
    [
        (epoch(0.38, 0.83, best=True), []),
        (epoch(0.38, 0.816, best=True), []),  # half a point is nothing
        (epoch(0.38, 0.70, best=True), ["0.120 below its own solved head's", "although val/loss is better"]),
        (epoch(0.41, 0.70), ["val/loss 0.410 against 0.400", "--set phases.all.lr=3e-05"]),
    ],
)
def test_fine_tuning_that_loses_against_its_own_probe_says_so(tuned: dict[str, Any], words: list[str]) -> None:
    found = advice([epoch(0.40, 0.82, solved=True, phase="head", best=not tuned["best"]), tuned])
    assert len(found) == bool(words)
    assert all(word in found[0] for word in words)


@pytest.mark.parametrize(
    ("solved", "n", "said"),
    [
        (True, 7, "Score on more than 7 images. Check the labels: imgkit data check."),
        (False, 500, "Check the labels: imgkit data check. Try ten times the rate."),
    ],
)
def test_a_result_no_better_than_chance_says_what_to_try(solved: bool, n: int, said: str) -> None:
    found = advice([epoch(0.40, 0.82, solved=solved, best=True)], {"val": scored(n, 0.55, 0.6)})
    assert found == [f"This cannot be told from always answering the largest class. {said}"]


def test_chance_in_a_multilabel_task_is_the_map_of_equal_scores() -> None:
    history = [epoch(0.40, 0.82, best=True)]
    (found,) = advice(history, {"val": sets(2000, 0.3, 0.38)}, task="multilabel")
    assert found.startswith("This cannot be told from guessing by how frequent labels are. Check the labels")
    assert advice(history, {"val": sets(2000, 0.3, 0.41)}, task="multilabel") == []
    assert advice(history, {"val": sets(2000, 0.3, None)}, task="multilabel") == []  # 0.6 itself


def answers(*confusion: tuple[int, ...]) -> dict[str, Any]:
    """Metrics of answers given as images of each (true, answered) class."""
    counts = np.array(confusion)
    targets = np.repeat(np.arange(len(counts)), counts.sum(axis=1))
    given = np.concatenate([np.repeat(np.arange(len(row)), row) for row in counts])
    return summarise(np.eye(len(counts))[given] * 0.9 + 0.05, targets, [str(one) for one in range(len(counts))])


def test_a_score_says_what_was_left_out_of_it() -> None:
    line = score_line("test", {"task": "single"} | answers((1, 0, 0), (0, 0, 0), (0, 0, 0)))
    assert line.endswith(
        " · 1 image · 2 classes without images left out, 95 % intervals; always answering '0' gives top-1 100.0 % · "
        "macro F1 100.0 %"
    )
    assert "left out" not in score_line("test", {"task": "single"} | answers((30, 10), (10, 30)))


@pytest.mark.parametrize(
    ("found", "guessed"),
    [
        (answers((100, 0), (100, 0)), True),  # one answer for all
        (answers((50, 50), (52, 48)), True),  # a coin
        (answers((80, 20), (20, 80)), False),
        (answers((950, 0), (50, 0)), True),  # the largest class for all
        (answers((880, 70), (46, 4)), True),  # as frequent as the classes
        (answers((880, 70), (5, 45)), False),  # less top-1 than the largest class, and knows the rare one
        (answers((2, 1), (1, 2)), True),  # six images tell nothing
        (answers((2, 0, 0), (1, 1, 0), (0, 0, 0)), True),
        (answers((30, 0, 0), (0, 30, 0), (0, 0, 0)), False),
    ],
)
def test_what_counts_as_no_better_than_chance(found: dict[str, Any], guessed: bool) -> None:
    assert no_better_than_chance(found) == guessed


@pytest.mark.parametrize(
    ("val", "said"),
    [
        (scored(2000, 0.85, 0.5), ""),
        (scored(400, 0.85, 0.5), ""),  # ±3.5 points
        (scored(100, 0.85, 0.5), "by its 100 images top-1 is known to ±7 points"),
        (scored(100, 1.0, 0.5), ""),  # nothing is wrong: 96.3 to 100
        (scored(20, 1.0, 0.5), "by its 20 images top-1 is known to ±8 points"),
        (sets(1000, 0.5, 0.5), ""),
        (sets(50, 0.5, 0.5), "by its 50 images exact sets are known to ±13 points"),
    ],
)
def test_a_validation_too_small_to_tell_runs_apart_says_so(val: dict[str, Any], said: str) -> None:
    found = advice([epoch(0.4, 0.8, best=True)], {"val": val})
    rest = ", and smaller differences between epochs or runs tell nothing. Compare over several --seed, or add images."
    assert found == ([f"Validation is small: {said}{rest}"] if said else [])


def test_a_small_validation_is_told_beside_a_test_and_not_beside_chance() -> None:
    history, small = [epoch(0.4, 0.8, best=True)], scored(50, 0.85, 0.5)
    assert [text.split(":")[0] for text in advice(history, {"val": small, "test": scored(2000, 0.85, 0.5)})] == [
        "Validation is small"
    ]
    (alone,) = advice(history, {"val": scored(50, 0.5, 0.5)})
    assert alone.startswith("This cannot be told from")


HEAD = SimpleNamespace(name="head", lr=None, epochs=None, steps=None)
TOP = SimpleNamespace(name="top", lr=1e-3, epochs=2, steps=None)
ALL = SimpleNamespace(name="all", lr=1e-4, epochs=4, steps=None)
STEPS = SimpleNamespace(name="all", lr=1e-4, epochs=None, steps=300)


@pytest.mark.parametrize(
    ("phases", "longer"),
    [
        ([ALL], "--epochs 8"),
        ([HEAD, ALL], "--epochs 8"),
        ([TOP, ALL], "--set phases.all.epochs=8"),
        ([STEPS], "--set phases.all.steps=600"),
    ],
)
def test_a_last_epoch_that_was_the_best_asks_for_more(phases: list[SimpleNamespace], longer: str) -> None:
    history = [epoch(0.50, 0.8, best=True), epoch(0.45, 0.8, best=True), epoch(0.42, 0.8, best=True)]
    metrics = {"val": scored(2000, 0.85, 0.5)}
    assert _advice(made_setup(*phases), history, history[-1], metrics) == [
        f"Still improving when it stopped (val/loss 0.420, before 0.450): more epochs may help ({longer})"
    ]


@pytest.mark.parametrize(
    "history",
    [
        [epoch(0.50, 0.8, best=True), epoch(0.42, 0.8, best=True), epoch(0.45, 0.8)],  # not the last
        [epoch(0.50, 0.8, best=True), epoch(0.423, 0.8, best=True), epoch(0.42, 0.8, best=True)],  # hardly better
        [epoch(0.42, 0.8, best=True)],  # the only one
        [epoch(0.50, 0.8, phase="head", solved=True, best=True), epoch(0.42, 0.8, best=True)],  # the only one tuned
        [epoch(0.42, 0.8, phase="head", solved=True, best=True)],  # a solved head has no length
        [epoch(0.42, 0.8, best=True, phase="all"), epoch(0.3, 0.8, phase="head", solved=True, best=True)],
    ],
)
def test_a_last_epoch_that_says_nothing_of_more(history: list[dict[str, Any]]) -> None:
    assert advice(history) == []


def test_scores_rise_and_losses_fall() -> None:
    history = [epoch(0.50, 0.80, best=True), epoch(0.60, 0.85, best=True)]
    (found,) = advice(history, monitor="val/f1_macro")
    assert found.startswith("Still improving when it stopped (val/f1_macro 0.850, before 0.800)")


def test_at_most_three_pieces_of_advice_and_none_for_a_smoke_run() -> None:
    solved = epoch(0.55, 0.95, solved=True, phase="head", best=True)
    history = [solved, epoch(0.50, 0.8, best=True), epoch(0.40, 0.8, best=True)]
    metrics = {"val": scored(50, 0.8, 0.5), "test": scored(50, 0.5, 0.5)}
    found = advice(history, metrics)
    assert [text.split()[0] for text in found] == ["Macro", "This", "Validation"]
    assert advice(history, metrics, smoke=True) == []


SHAPES = {
    "solved": 'train = "head"\nsolver = "logistic"',
    "top": 'train = "last:2"\nlr = 1e-3\nsteps = 7',
    "all": 'train = "all"\nlr = 1e-4\nepochs = 3',
}


def shaped(order: tuple[str, ...], folder: Path) -> tuple[Any, Path]:
    """What a run with these phases is set up as, and its recipe's file."""
    phases = "".join(f'[[phases]]\nname = "{name}-{at}"\n{SHAPES[name]}\n' for at, name in enumerate(order))
    file = folder / "shape.toml"
    file.write_text(f'schema = 1\nname = "shape"\nmonitor = "val/loss"\n[train]\nbatch_size = 10\n{phases}')
    loaded = load_recipe(str(file))
    index, about = SimpleNamespace(task="single"), {"smoke": False}
    return SimpleNamespace(recipe=loaded.recipe, plan=make_plan(loaded, 25), index=index, about=about), file


def ended(plan: Plan, stop: int, *, better: bool) -> list[dict[str, Any]]:
    """The history of a run that ended after `stop` updates, each epoch of it better than the one before, or worse."""
    now = Progress(images=1)
    for step in range(1, stop + 1):
        phase, now.step = plan.phase_at(step - 1), step
        if phase.ends_epoch(step) or step == stop:
            value = 0.5 + 0.02 * (-1 if better else 1) * len(now.history)
            metrics = {"task": "single", **dict.fromkeys(MONITORS["single"], value)}
            now.history.append(now.row(phase, metrics, best=better or not now.history, seconds=float(step)))
    return now.history


ORDERS = [shape for n in (1, 2, 3) for shape in product(SHAPES, repeat=n) if set(shape) != {"solved"}]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("better", [True, False], ids=["better", "worse"])
def test_advice_fits_the_phase_that_a_run_ended_in(order: tuple[str, ...], better: bool, tmp_path: Path) -> None:
    """Every shape of a recipe, ended after each of its updates: by a limit on time or by an early stop, or done."""
    setup, file = shaped(order, tmp_path)
    total, typed = setup.plan.total_steps, set()
    for stop in range(1, total + 1):
        history = ended(setup.plan, stop, better=better)
        best = next(row for row in reversed(history) if row["best"])
        said = "\n".join(_advice(setup, history, best, {"val": scored(2000, 0.85, 0.5)}))
        assert ("more epochs may help" in said) <= (stop == total), "no longer plan where this one was cut"
        assert ("fewer epochs" in said) <= (stop == total)
        named = {word for word in re.split(r"[ (),]+", said) if word.startswith("phases.")}
        assert {word.split(".")[1] for word in named} <= {history[-1]["phase"]}
        typed |= named
    for word in typed:
        load_recipe(str(file), sets=[word])
    if better and order[-1] == "all":
        assert "more epochs may help" in said
    if not better and order[0] == "solved" and order[-1] != "solved":
        assert "Fine-tuning ended worse" in said


def test_no_fault_of_the_page_fails_a_run(tmp_path: Path) -> None:
    text = StringIO()
    write_page(RunFolder(tmp_path), Screen(file=text))
    assert "No report.html: DiskError: " in " ".join(text.getvalue().split())
    assert not (tmp_path / "report.html").exists()


def test_what_a_kill_left_of_the_page_of_a_finished_run_is_mended(tmp_path: Path) -> None:
    run = short_run(tmp_path, "phases.top.steps=1", "phases.all.epochs=1", name="ready")
    page = run.folder.path / "report.html"
    page.rename(neighbour(page))
    resume("ready", out=run.folder.path.parent)
    assert page.is_file()
    assert [file.name for file in run.folder.path.iterdir() if is_leftover(file.name)] == []


def test_no_fault_of_a_hint_fails_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object) -> list[str]:
        raise StopIteration("no such phase")

    monkeypatch.setattr(finish, "_advice", broken)
    run = short_run(tmp_path, "phases.top.steps=1", "phases.all.epochs=1")
    assert run.folder.read_json("status.json")["state"] == "finished"
    assert "No advice on this result: StopIteration: no such phase" in (run.folder.path / "log.txt").read_text()


def test_a_run_that_its_time_limit_cuts_before_a_solved_phase_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Experiment, "_elapsed_s", lambda self: float(self.progress.step))
    recipe = tmp_path / "turned.toml"
    text = SHORT.split("[[phases]]")
    recipe.write_text("[[phases]]".join([text[0].replace("ema = 0.9", ""), text[3] + "\n", text[1]]))
    run = imgkit.finetune(
        "test_resnet",
        recipe=str(recipe),
        data="synthetic:3x16",
        out=tmp_path,
        name="run",
        sets=["time_limit=6s", "monitor=val/loss", "phases.all.lr=3e-3", "run.workers=0"],
    )
    history, status = run.folder.history(), run.folder.read_json("status.json")
    assert [row["phase"] for row in history] == ["all", "all"]
    assert history[-1]["best"], "which is what gave advice on length"
    assert (status["state"], status["step"]) == ("finished", 6)
    log = (run.folder.path / "log.txt").read_text()
    assert "No advice" not in log
    assert "more epochs may help" not in log


def test_a_test_that_is_held_back_is_scored_by_evaluate_alone(tmp_path: Path) -> None:
    sets = ("phases.top.steps=1", "phases.all.epochs=1", "data.test=0.2", "score_test=false")
    run = short_run(tmp_path, *sets)
    assert {name.partition("@")[0] for name in run.metrics} == {"val"}
    assert "Test is held back, as asked for. Of the run" in (run.folder.path / "log.txt").read_text()
    assert "The test images wait: imgkit evaluate NAME scores them." in (run.folder.path / "report.html").read_text()
    assert run.evaluate()["split"] == "test"
    assert {name.partition("@")[0] for name in run.metrics} == {"val", "test"}
