"""A recipe made small: for `--smoke` and tests."""

from math import ceil

from imgkit.recipe.load import Loaded
from imgkit.recipe.phases import resolve, unread
from imgkit.recipe.schema import PhaseSettings, Recipe, TrainSettings


def shrink(loaded: Loaded, *, steps: int = 2, batch_size: int = 8, image_size: int | None = None) -> Loaded:
    """The same recipe, small.

    Only lengths of phases, batch sizes and the image size change, never model, loss, optimizer, schedule or phases.
    A micro-batch shrinks so that an update is made of as many parts as before (at most one an image). Lengths in
    percent keep their meaning.

    Args:
        loaded: the recipe.
        steps: updates of each phase that takes gradient steps.
        batch_size: images an update, at most; or one for each part of `train.exact_world`.
        image_size: in pixels; None: as it is.
    """
    recipe, origins = loaded.recipe, dict(loaded.origins)
    idle = unread(recipe)
    train = recipe.train
    if "train.batch_size" not in idle:
        train = train.model_copy(update=_smaller(train, batch_size))
        changed = ["train.batch_size"] if train.micro_batch is None else ["train.batch_size", "train.micro_batch"]
        origins.update(dict.fromkeys(changed, "--smoke"))
    phases = tuple(_shrink_phase(recipe, phase, train, steps, batch_size, origins) for phase in recipe.phases)
    model = recipe.model
    if image_size is not None:
        model = model.model_copy(update={"image_size": image_size})
        origins["model.image_size"] = "--smoke"
    small = recipe.model_copy(update={"train": train, "model": model, "phases": phases})
    # Where every phase now has a size of its own, the common one would be a given value that nothing reads.
    unused = {key for key in ("batch_size", "micro_batch") if f"train.{key}" in unread(small).keys() - idle.keys()}
    train = train.model_copy(update={key: TrainSettings.model_fields[key].default for key in unused})
    origins.update({f"train.{key}": "default" for key in unused})
    return Loaded(small.model_copy(update={"train": train}), origins, loaded.source)


def _shrink_phase(
    recipe: Recipe, phase: PhaseSettings, common: TrainSettings, steps: int, batch_size: int, origins: dict[str, str]
) -> PhaseSettings:
    """A phase with few steps, and with batches of its own only where the common ones do not fit."""
    if phase.solver == "logistic":
        return phase
    own = {key: value for key, value in phase.overrides.items() if key not in ("batch_size", "micro_batch")}
    small = _smaller(resolve(recipe, phase).train, batch_size)
    own |= {key: value for key, value in small.items() if key in phase.overrides or value != getattr(common, key)}
    origins.update({f"phases.{phase.name}.{key}": "--smoke" for key in ("steps", *(small.keys() & own.keys()))})
    origins[f"phases.{phase.name}.epochs"] = "default"
    return phase.model_copy(update={"steps": steps, "epochs": None, "overrides": own})


def _smaller(train: TrainSettings, batch_size: int) -> dict[str, int | None]:
    batch, shards = min(train.batch_size, batch_size), train.exact_world or 1
    batch = max(1, batch // shards) * shards
    parts = 1 if train.micro_batch is None else ceil(train.batch_size / train.micro_batch)
    return {"batch_size": batch, "micro_batch": None if train.micro_batch is None else max(1, batch // parts)}
