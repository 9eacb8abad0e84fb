"""What a study needs torch for: looking at every variant before the first run, and measuring the model of a run."""

import io
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from imgkit.budget import forward_seconds
from imgkit.data.batches import EvalReader
from imgkit.data.sources import find_data, refuse_inside
from imgkit.device import choose_device, choose_workers, describe, in_turn, memory_format, no_room, settings_kept
from imgkit.errors import memory_told
from imgkit.evaluate import check_files, evaluate_run, load_run_model, read_index
from imgkit.features import BATCH, head_layer
from imgkit.keys import order
from imgkit.models.folder import LoadedModel
from imgkit.models.freeze import set_trainable
from imgkit.models.relatives import weigh
from imgkit.plugin_files import require_plugins
from imgkit.prepare import prepare
from imgkit.recipe.load import Loaded, load_recipe
from imgkit.recipe.schema import PhaseSettings, Recipe
from imgkit.run import RunFolder
from imgkit.scoring import score, store
from imgkit.screen import Screen
from imgkit.studies.plan import Asked, Planned, told_together
from imgkit.studies.schema import Variant
from imgkit.studies.state import identity


def look_at_variants(asked: Asked, runs: list[Planned]) -> dict[str, dict[str, Any]]:
    """Go through all that each variant's run does before its first step; nothing is written.

    Args:
        asked: the study.
        runs: its runs; the first of each variant is looked at, since seeds change nothing of this.

    Returns:
        by variant: "steps", "parameters" and "phases", the steps of each phase by name.

    Raises:
        ImgkitError: all that is wrong, of the kind of the first.
    """
    first: dict[str, Planned] = {}
    for run in runs:
        first.setdefault(run.variant.name, run)

    def look(variant: Variant) -> tuple[str, dict[str, Any]]:
        data = first[variant.name].loaded.recipe.data
        refuse_inside(find_data(data), data.root, asked.out)
        with settings_kept():
            setup, _ = prepare(
                _untimed(first[variant.name].loaded),
                verb=asked.study.verb,
                command="",
                smoke=False,  # the recipe is as small already
                dry_run=False,
                screen=Screen(file=io.StringIO()),  # each run will say it for itself
            )
        phases = {phase.name: phase.steps for phase in setup.plan.phases}
        about = {"steps": setup.plan.total_steps, "parameters": setup.about["parameters"], "phases": phases}
        return variant.name, about

    return dict(told_together([run.variant for run in first.values()], look))


def _untimed(loaded: Loaded) -> Loaded:
    """The recipe without the trial of number formats, which on a CPU takes time and refuses nothing.

    On a GPU the format decides whether a batch fits.
    """
    if loaded.recipe.train.precision != "auto" or choose_device(loaded.recipe.run.device).type != "cpu":
        return loaded
    train = loaded.recipe.train.model_copy(update={"precision": "float32"})
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"train": train}))


def measure_run(
    folder: RunFolder, *, train_images: int | None, inference: Mapping[str, int], screen: Screen
) -> dict[str, Any]:
    """Score the training images of a finished run, and measure its model.

    Args:
        folder: the run.
        train_images: so many of them are scored, the same in runs on the same data; None: all.
        inference: "batch_size", "warm_up" and "passes" of the time a batch.
        screen: told what is going on.

    Returns:
        the run's entry in study.json.

    Raises:
        UsageError: if the run needs a plugin that was not given.
        DataError: if its data changed.
    """
    require_plugins(folder, "evaluate")
    about = folder.read_json("run.json")
    recipe = load_recipe(str(folder.path / "recipe.toml")).recipe
    device = choose_device(recipe.run.device)
    with settings_kept():
        torch.set_num_threads(about["threads"])
        found = load_run_model(folder)
        train = _score_train(folder, about, recipe, found, train_images, screen)
        size_bytes, trainable = weigh(found.model).size_bytes, _trainable(found.model, recipe)
        shape = (inference["batch_size"], found.preprocessing.channels, *found.preprocessing.size)
        with memory_told(no_room(device, inference["batch_size"])):
            model = found.model.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
            times = {key: inference[key] for key in ("warm_up", "passes")}
            seconds = forward_seconds(model, shape, device, **times)
    return {
        **identity(folder),
        "train_images": train_images,
        "train": train,
        "trainable": trainable,
        "size_bytes": size_bytes,
        "inference": {
            "seconds": seconds,
            **inference,
            "device": str(device),
            "machine": describe(device),
            "threads": about["threads"],
            "precision": "float32",
        },
    }


def _score_train(
    folder: RunFolder,
    about: Mapping[str, Any],
    recipe: Recipe,
    found: LoadedModel,
    wanted: int | None,
    screen: Screen,
) -> str:
    """Score training images, unless that has been done; the name of their evaluation."""
    label, index = identity(folder)["label"], read_index(folder, about)
    rows = index.rows("train")
    if wanted is None or wanted >= len(rows):
        evaluate_run(folder, split="train", device=recipe.run.device, images=False, screen=screen)
        return f"train@{label}"
    name = f"train-{wanted}@{label}"
    place = folder.path / "evaluations" / name
    chosen = np.sort(rows[order(0, 0, len(rows))[:wanted]])  # the run's seed plays no part
    stored = folder.evaluations().get(name)
    if stored is not None and stored["data"] == index.select(chosen).fingerprint:
        return name
    with screen.progress("checking images") as progress:
        check_files(index, progress)
    device = choose_device(recipe.run.device)
    workers = choose_workers(recipe.run.workers, device)
    reader = EvalReader(
        index,
        preprocessing=found.preprocessing,
        batch_size=BATCH,
        workers=workers,
        max_pixels=recipe.data.max_pixels,
        in_turn=in_turn(device, workers),
        warn=screen.warn,
    )
    with closing(reader), screen.progress("scoring") as progress:
        scores = score(found.model, reader, chosen, device=device, progress=progress)
    weights = {key: found.config["imgkit"][key] for key in ("step", "mean_of") if key in found.config["imgkit"]}
    what = f"{wanted:,} of {len(rows):,} training images, drawn by key"
    store(place, scores, index, split="train", seed=recipe.seed, calibration=found.calibration, sample=what, **weights)
    return name


def _trainable(model: nn.Module, recipe: Recipe) -> int:
    """Parameters that some phase trains."""
    found = {id(weight): weight.numel() for phase in recipe.phases for weight in _trained(model, phase)}
    return sum(found.values())


def _trained(model: nn.Module, phase: PhaseSettings) -> list[nn.Parameter]:
    set_trainable(model, phase.train)
    learned: nn.Module = head_layer(model) if phase.solver == "logistic" else model
    return [weight for weight in learned.parameters() if weight.requires_grad]
