"""After the last step: the best weights become `model/`, test is scored once, and the result is said."""

import secrets
import shlex
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from imgkit.average import Chosen, choose_weights
from imgkit.duration import format_seconds
from imgkit.errors import disk_told
from imgkit.evaluate import load_run_model, score, store
from imgkit.models.folder import save_model_folder
from imgkit.prepare import Setup
from imgkit.report.table import scores
from imgkit.run import RunFolder
from imgkit.screen import Screen
from imgkit.signals import Watched

_FEW = 100  # images, below which an interval is wider than most differences
_FALL = 0.005  # a fine-tuning that loses more than this against its own solved head says so


def finish(
    folder: RunFolder,
    setup: Setup,
    history: Sequence[Mapping[str, Any]],
    seconds: float,
    screen: Screen,
    watched: Watched,
) -> dict[str, Any]:
    """Export, score test once if there is a test split, and say how it went; returns what names the best weights."""
    best = max((row for row in history if row["best"]), key=lambda row: row["step"])
    chosen = choose_weights(folder, setup, history, screen, watched)
    export_best(folder, setup, chosen)
    splits = ("val", "test") if len(setup.index.rows("test")) else ("val",)
    metrics = {split: _scored(folder, setup, split, chosen, watched) for split in splits}
    _say_result(folder, setup, history, best, metrics, seconds, screen)
    return {**chosen.about, "metric": setup.recipe.monitor, "value": chosen.value}


def export_best(folder: RunFolder, setup: Setup, chosen: Chosen) -> None:
    """Write `model/`.

    Raises:
        DiskError: if the folder cannot be written.
    """
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
        extra={"run": folder.name, **chosen.about, "weights": setup.about["weights"]},
    )
    with disk_told(place):
        shutil.rmtree(place, ignore_errors=True)
        temporary.rename(place)
    folder.write_json(
        "checkpoints/best.json", {"step": chosen.step}
    )  # a kill after the last save may have left an older one


def _scored(folder: RunFolder, setup: Setup, split: str, chosen: Chosen, watched: Watched) -> dict[str, Any]:
    """The metrics of the exported model on a split: scored now, unless its evaluation is there.

    That of validation lacks where the disk was full; that of test is there where a run was cut after it.
    """
    name = f"{split}@{chosen.label}"
    if name not in folder.evaluations():
        model = load_run_model(folder).model.to(setup.device)
        with watched(f"scoring {split}") as progress:
            scores = score(
                model,
                setup.index,
                setup.index.rows(split),
                preprocessing=setup.preprocessing,
                device=setup.device,
                workers=setup.workers,
                max_pixels=setup.recipe.data.max_pixels,
                progress=progress,
            )
        place = folder.path / "evaluations" / name
        store(place, scores, setup.index, split=split, seed=setup.recipe.seed, **chosen.about)
    return folder.evaluations()[name]


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
    else:
        lines.append("Validation chose the weights, so its score flatters: hold out a test with --set data.test=0.2")
    lines.append(f"Best at epoch {best['epoch']} (phase {best['phase']}) by {setup.recipe.monitor}")
    lines += _advice(setup, history, best, metrics)
    lines.append(f"Model   {folder.path / 'model'}  (loads in plain timm)")
    name = "latest" if folder.is_latest else folder.address
    runs = shlex.quote(f"{folder.path.parent}/")
    following = [f"imgkit predict {shlex.quote(name)} PHOTOS/", f"imgkit report {runs}"]
    screen.result(f"Done in {format_seconds(seconds)}", lines, following)


def score_line(split: str, metrics: Mapping[str, Any]) -> str:
    """`test   top-1 85.3 % (82.1 to 88.1) · macro F1 …`: with n, 95 % intervals and the chance level."""
    chance = metrics["chance"]
    guess = f"always answering {chance['majority_class']!r} gives {100 * chance['majority']:.1f} %"
    return f"{split:<6}  {scores(metrics)}, 95 % intervals; {guess}"


def _advice(
    setup: Setup,
    history: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """What the numbers ask for: a fine-tuning below its own probe, a result no better than chance."""
    advice = []
    monitor, last = setup.recipe.monitor, history[-1]
    solved = [row for row in history if row["solved"]]
    if solved and not last["solved"]:
        tuned = [row for row in history if not row["solved"]]
        better = min if monitor == "val/loss" else max
        phase = setup.plan.phases[-1]
        rate = f"--set phases.{phase.name}.lr={(phase.lr or 1e-4) / 3:.1g}"
        top, probe = better(row[monitor] for row in tuned), solved[0][monitor]
        fall = (top - probe) if monitor == "val/loss" else (probe - top)
        if fall > _FALL:
            advice.append(
                f"Fine-tuning ended worse than its own solved head ({monitor} {top:.3f} against {probe:.3f}), whose "
                f"weights are kept. Try a smaller rate ({rate}), fewer epochs, "
                "or keep the head alone: --recipe probe"
            )
        elif (drop := solved[0]["val/f1_macro"] - best["val/f1_macro"]) > _FALL:
            advice.append(
                f"Macro F1 on validation is {drop:.3f} below its own solved head's, although {monitor} is better. "
                f"Try a smaller rate ({rate}), choose by the score (--monitor val/f1_macro), or --recipe probe"
            )
    chosen = metrics.get("test", metrics["val"])
    if chosen["intervals"]["top1"][0] <= chosen["chance"]["majority"]:
        tries = [f"Score on more than {chosen['n']} images."] if chosen["n"] < _FEW else []
        tries += ["Check the labels: imgkit data check.", *([] if last["solved"] else ["Try ten times the rate."])]
        advice.append(f"This cannot be told from always answering the largest class. {' '.join(tries)}")
    return advice
