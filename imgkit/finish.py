"""After the last step: the best weights are calibrated and become `model/`, test is scored once, the result is said.

Every part may be repeated after a kill: what it makes follows from the checkpoint and the stored logits.
"""

import secrets
import shlex
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from imgkit.average import Chosen, choose_weights
from imgkit.budget import check_file
from imgkit.calibration import FEWEST, Calibration, calibrate
from imgkit.data.rows import count
from imgkit.duration import format_seconds
from imgkit.errors import disk_told
from imgkit.evaluate import load_run_model
from imgkit.evaluations import read_cost, read_logits
from imgkit.evidence import Images
from imgkit.models.folder import how_it_loads, save_model_folder
from imgkit.multilabel import USUAL_THRESHOLD
from imgkit.plugin_files import plugin_words
from imgkit.progress import best_row
from imgkit.recipe.monitors import way
from imgkit.recipe.plan import PhasePlan
from imgkit.report.run_page import NAME, write_run_page
from imgkit.report.words import FEW, guessing, no_better_than_chance, scores
from imgkit.run import RunFolder
from imgkit.scoring import Scores, store
from imgkit.screen import Screen
from imgkit.setup import Setup
from imgkit.signals import Watched

_WORSE = 0.02  # of calibration error, from which it is said
_WIDE = 0.05  # of a score on validation, half its 95 % interval: above, two runs can hardly be told apart
_GAIN = 0.005  # by which the last epoch has to be the best for more of them to be worth their time
_MOST = 3  # pieces of advice
_FALL = 0.005  # a fine-tuning that loses more than this against its own solved head says so


def finish(
    folder: RunFolder,
    setup: Setup,
    history: Sequence[Mapping[str, Any]],
    seconds: float,
    screen: Screen,
    watched: Watched,
) -> dict[str, Any]:
    """Export, score test once if there is a test split, and say how it went; returns what names the best weights.

    Raises:
        DiskError: if the model cannot be written.
        GateError: if the written model is over the limit on its size; all else is done by then.
    """
    best = best_row(history)
    chosen = choose_weights(folder, setup, history, screen, watched)
    calibration = export_best(folder, setup, chosen, watched)
    splits = ("val", "test") if setup.recipe.score_test and len(setup.index.rows("test")) else ("val",)
    metrics = {split: _scored(folder, setup, split, chosen, calibration, watched) for split in splits}
    _say_result(folder, setup, history, best, metrics, seconds, screen)
    _check_file(folder)
    return {**chosen.about, "metric": setup.recipe.monitor, "value": chosen.value}


def export_best(folder: RunFolder, setup: Setup, chosen: Chosen, watched: Watched) -> Calibration:
    """Write `model/` from the chosen weights, calibrated on validation.

    Raises:
        DiskError: if the folder cannot be written.
    """
    setup.model.load_state_dict(chosen.state, strict=True)  # no update follows
    val = _stored_scores(folder, setup, "val", chosen.label) or setup.score(setup.model, "val", watched)
    calibration = calibrate(val.logits, val.targets, setup.index.classes)
    temporary, place = folder.path / f".model.tmp-{secrets.token_hex(4)}", folder.path / "model"
    with disk_told(temporary):
        temporary.mkdir()
    save_model_folder(
        temporary,
        model=setup.model,
        model_name=setup.about["model"],
        state=chosen.state,
        classes=setup.index.classes,
        preprocessing=setup.preprocessing,
        calibration=calibration,
        extra={
            "run": folder.name,
            **chosen.about,
            "task": setup.index.task,
            "weights": setup.about["weights"],
            "head": setup.recipe.model.head,
        },
    )
    with disk_told(place):
        shutil.rmtree(place, ignore_errors=True)
        temporary.rename(place)
    # A kill after the last save may have left an older one.
    folder.write_json("checkpoints/best.json", {"step": chosen.step})
    return calibration


def _check_file(folder: RunFolder) -> None:
    """Look at the written weights by the limit on size, if there is one, and leave what they take in run.json.

    Raises:
        GateError: if they are over it.
    """
    about = folder.read_json("run.json")
    limit = about.get("budget", {}).get("size")
    if limit is None:
        return
    file = folder.path / "model" / "model.safetensors"
    limit["file_bytes"] = file.stat().st_size
    folder.write_json("run.json", about)
    check_file(limit, file)


def _scored(
    folder: RunFolder, setup: Setup, split: str, chosen: Chosen, calibration: Calibration, watched: Watched
) -> dict[str, Any]:
    """The metrics of the exported model on a split, from its stored logits where they are there.

    The evaluation of validation that the epoch wrote is not calibrated, and lacks where the disk was full; that of test
    is there where a run was cut after it, and is not made again.
    """
    name = f"{split}@{chosen.label}"
    stored = folder.evaluations().get(name)
    if stored is None or stored.get("calibration") != calibration.to_dict():
        scores = _stored_scores(folder, setup, split, chosen.label)
        scores = scores or setup.score(load_run_model(folder).model, split, watched)
        about: dict[str, Any] = {"split": split, "seed": setup.recipe.seed, "calibration": calibration, **chosen.about}
        with watched(f"pictures of {split}") as progress:
            # The network has had the chosen weights since they were exported.
            limit = setup.recipe.data.max_pixels
            pictures = Images(setup.model, setup.index, scores.ids, setup.preprocessing, limit, progress)
            return store(folder.path / "evaluations" / name, scores, setup.index, beside=pictures, **about)
    return stored


def _stored_scores(folder: RunFolder, setup: Setup, split: str, weights: str) -> Scores | None:
    """What the weights of that label answered on a split, if that is stored."""
    rows, name = setup.index.rows(split), f"{split}@{weights}"
    place = folder.path / "evaluations" / name
    logits = read_logits(place)
    data = folder.evaluations().get(name, {}).get("data")
    if logits is None or len(logits) != len(rows) or data != setup.index.select(rows).fingerprint:
        return None
    return Scores(logits, setup.index.select(rows).targets(), rows, read_cost(place))


def _say_result(
    folder: RunFolder,
    setup: Setup,
    history: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
    seconds: float,
    screen: Screen,
) -> None:
    lines = [score_line(split, found) for split, found in metrics.items()]
    if "test" in metrics:
        lines.append("Validation chose the weights; test was scored once and chose nothing.")
    elif len(setup.index.rows("test")):
        called = shlex.quote(folder.address)
        lines.append("Validation chose the weights, so its score flatters.")
        lines.append(f"Test is held back, as asked for. Of the run that you choose:  imgkit evaluate {called}")
    else:
        lines.append("Validation chose the weights, so its score flatters: hold out a test with --set data.test=0.2")
    where = f"epoch {best['epoch']} (phase {best['phase']})" if best["epoch"] else f"the end of phase {best['phase']}"
    lines.append(f"Best at {where} by {setup.recipe.monitor}")
    lines += calibration_lines(metrics)
    try:
        lines += _advice(setup, history, best, metrics)
    except Exception as error:  # all that the run made is on the disk: no fault of a hint may call it failed
        screen.warn(f"No advice on this result: {type(error).__name__}: {error}")
    how = how_it_loads(setup.about["model"], setup.recipe.model.head)
    lines.append(f"Model   {folder.path / 'model'}  ({how})")
    lines.append(f"Report  {folder.path / NAME}")
    name = "latest" if folder.is_latest else folder.address
    runs = shlex.quote(f"{folder.path.parent}/")
    following = [f"imgkit predict {shlex.quote(name)} PHOTOS/{plugin_words(folder)}", f"imgkit report {runs}"]
    screen.result(f"Done in {format_seconds(seconds)}", lines, following)


def write_page(folder: RunFolder, screen: Screen) -> None:
    """Write the page of a run that is finished; what goes wrong is said and stops nothing."""
    try:
        write_run_page(folder)
    except Exception as error:  # all that the run made is on the disk: no fault of its page may call it failed
        screen.warn(f"No {NAME}: {type(error).__name__}: {error}")


def score_line(split: str, metrics: Mapping[str, Any]) -> str:
    """`test   top-1 85.3 % (82.1 to 88.1) · macro F1 …`: with n, 95 % intervals and the chance level."""
    return f"{split:<6}  {scores(metrics)}, 95 % intervals; {guessing(metrics)}"


def calibration_lines(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How far the probabilities can be believed, before and after the temperature, and what was not fitted."""
    split = "test" if "test" in metrics else "val"
    found, fitted = metrics[split], metrics[split]["calibration"]
    before, after = (f"{100 * one['ece']:.1f} %" for one in (found["uncalibrated"], found))
    flatters = "" if split == "test" else ", which it was fitted on"
    line = f"Calibrated by temperature {fitted['temperature']:.3g}: calibration error {before} before, {after} after"
    told = [f"{line} (on {split}{flatters})"] if fitted["temperature"] != 1 else []
    if told and found["ece"] > found["uncalibrated"]["ece"] + _WORSE:
        told.append("The temperature makes the loss smallest on val; here that does not help the calibration error.")
    thresholds = set((fitted["thresholds"] or {}).values())
    if thresholds - {USUAL_THRESHOLD}:
        ends = [f"{end(thresholds):.2f}" for end in (min, max)]
        told.append(f"Thresholds of the labels, by F1 on val: {' to '.join(dict.fromkeys(ends))}")
    elif thresholds and fitted["n"] >= FEWEST:
        told.append(f"Thresholds of the labels stay {USUAL_THRESHOLD:g}: on val no other has more F1 than chance gives")
    if fitted["temperature"] == 1:
        told.insert(0, f"Calibration error {after} (on {split})")
    return told + [f"Not calibrated: {note}" for note in fitted["notes"]]


def _advice(
    setup: Setup,
    history: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """What the numbers ask for, the gravest first: below the own probe, no better than chance, too few, too short."""
    if setup.about["smoke"]:
        return []  # its result means nothing
    chosen = metrics.get("test", metrics["val"])
    chance = [_chance_words(chosen, history[-1])] if no_better_than_chance(chosen) else []
    small = [] if chance and "test" not in metrics else _small_validation(metrics["val"])
    return [*_lost_to_probe(setup, history, best), *chance, *small, *_last_was_best(setup, history)][:_MOST]


def _lost_to_probe(setup: Setup, history: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> list[str]:
    """A fine-tuning that ended below its own solved head."""
    monitor, last = setup.recipe.monitor, history[-1]
    advice = []
    solved = [row for row in history if row["solved"]]
    if solved and not last["solved"]:
        tuned = [row for row in history if not row["solved"]]
        smaller = way(monitor, setup.index.task) == "min"
        better = min if smaller else max
        phase = _phase_of(setup, last)
        rate = f"--set phases.{phase.name}.lr={(phase.lr or 1e-4) / 3:.1g}"
        shorter = "" if _cut(setup, last) else "fewer epochs, "
        top, probe = better(row[monitor] for row in tuned), solved[0][monitor]
        fall = (top - probe) if smaller else (probe - top)
        if fall > _FALL:
            advice.append(
                f"Fine-tuning ended worse than its own solved head ({monitor} {top:.3f} against {probe:.3f}), whose "
                f"weights are kept. Try a smaller rate ({rate}), {shorter}or keep the head alone: --recipe probe"
            )
        elif (drop := solved[0]["val/f1_macro"] - best["val/f1_macro"]) > _FALL:
            advice.append(
                f"Macro F1 on validation is {drop:.3f} below its own solved head's, although {monitor} is better. "
                f"Try a smaller rate ({rate}), choose by the score (--monitor val/f1_macro), or --recipe probe"
            )
    return advice


def _chance_words(metrics: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    tries = [f"Score on more than {count(metrics['n'], 'image')}."] if metrics["n"] < FEW else []
    tries += ["Check the labels: imgkit data check.", *([] if last["solved"] else ["Try ten times the rate."])]
    guess = "guessing by how frequent labels are" if "map" in metrics else "always answering the largest class"
    return f"This cannot be told from {guess}. {' '.join(tries)}"


def _small_validation(val: Mapping[str, Any]) -> list[str]:
    """Validation that leaves a score open by more than `_WIDE`: Wilson's interval of top-1, or of exact sets."""
    name, title = ("subset_accuracy", "exact sets are") if "map" in val else ("top1", "top-1 is")
    low, high = val["intervals"][name]
    if high - low <= 2 * _WIDE:
        return []
    return [
        f"Validation is small: by its {val['n']:,} images {title} known to ±{50 * (high - low):.0f} points, and "
        "smaller differences between epochs or runs tell nothing. Compare over several --seed, or add images."
    ]


def _last_was_best(setup: Setup, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """A last epoch that was better than each one before it by more than `_GAIN`: there may be more to gain.

    Even where the schedule ended at a rate of 0: a longer phase has another schedule. Not where the plan was cut: a
    longer one would be cut as well.
    """
    last, monitor = history[-1], setup.recipe.monitor
    earlier = [row[monitor] for row in history[:-1] if row["phase"] == last["phase"]]
    if not last["best"] or last["solved"] or not earlier or _cut(setup, last):
        return []
    before = (min if way(monitor, setup.index.task) == "min" else max)(earlier)
    if abs(last[monitor] - before) <= _GAIN:
        return []
    phase = next(one for one in setup.recipe.phases if one.name == last["phase"])
    length, value = ("epochs", phase.epochs) if phase.epochs is not None else ("steps", phase.steps)
    assert value is not None, "a phase that takes gradient steps has a length"
    gradient = [one for one in setup.plan.phases if one.lr is not None]
    short = length == "epochs" and len(gradient) == 1
    longer = f"--epochs {2 * value}" if short else f"--set phases.{phase.name}.{length}={2 * value}"
    return [
        f"Still improving when it stopped ({monitor} {last[monitor]:.3f}, before {before:.3f}): "
        f"more epochs may help ({longer})"
    ]


def _phase_of(setup: Setup, row: Mapping[str, Any]) -> PhasePlan:
    """The phase that a row of the history belongs to; the last one may be of any, where the run ended early."""
    return next(one for one in setup.plan.phases if one.name == row["phase"])


def _cut(setup: Setup, last: Mapping[str, Any]) -> bool:
    """Whether the run ended before its plan: the time was up, or the scores stood still."""
    return bool(last["step"] < setup.plan.total_steps)
