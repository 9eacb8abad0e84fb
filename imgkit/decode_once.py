"""Training pictures decoded once: whether that pays, at which size, and the pass that does it.

That pictures are prepared is a definition of their pixels (`data.prepared`), which the recipe of a run keeps. The store
is a cache of these pixels: a run has the same bits with it, without it, and where it goes in the middle.
"""

import copy
import os
import time
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from PIL import Image

from imgkit.data.augment import TrainTransform
from imgkit.data.batches import augment_key
from imgkit.data.decode import load_image
from imgkit.data.index import Ints
from imgkit.data.keep import Kept, bytes_of, keep_pictures, missing_rows
from imgkit.data.load import load_data
from imgkit.data.picture_store import PictureStore
from imgkit.data.prepared import Rule, about, prepare
from imgkit.data.preprocessing import Preprocessing
from imgkit.depthwise import quick_depthwise
from imgkit.duration import format_seconds
from imgkit.errors import ran_out
from imgkit.models.create import create_model
from imgkit.quantity import about_bytes
from imgkit.recipe.adapt import adapt
from imgkit.recipe.load import Loaded
from imgkit.recipe.plan import PhasePlan, Plan, make_plan
from imgkit.recipe.schema import Recipe
from imgkit.screen import Screen
from imgkit.setup import Setup
from imgkit.signals import Watched

KEY = "data.prepared"
_LEAST_S = 30.0  # saved: below that nothing is chosen, and no disk is filled
_LEAST_USES = 2_000  # of pictures: with fewer nothing is measured, since no decoder takes 15 ms a picture
_SAMPLE = 12  # pictures that are timed
_ROUNDS = 2  # the first one also reads the files from the disk
_WRITTEN = 200e6  # bytes a second of the disk, assumed
_STEPS = 3  # trial updates on a device of its own memory
_THERE = 0.99  # share of the pictures from which a store counts as made
_OFF = f"to turn it off:  --set {KEY}=none"


def decided(setup: Setup, screen: Screen) -> Setup:
    """The setup of a new run with `data.prepared` decided where it is "auto", and what was found said.

    Prepared pictures are chosen where a store has them already, or where a measurement says that they save 30 s or more
    and there is room for them. A deterministic run chooses nothing by a measurement.
    """
    recipe, index, plan = setup.recipe, setup.index, setup.plan
    if recipe.data.prepared != "auto" or recipe.run.deterministic:
        return setup
    used = sum(_uses(recipe, phase, phase.first_step) for phase in plan.phases)
    if not used:
        return setup
    rows, side = index.rows("train"), needed_side(recipe, plan, setup.preprocessing)
    store = PictureStore(about(side))
    missing = missing_rows(store, index, rows)
    if len(missing) <= (1 - _THERE) * len(rows):
        screen.note(f"training pictures are decoded already (shorter side ≤ {side} px, {store.folder}); {_OFF}")
        return _with(setup, side, "decoded earlier")
    if used < max(_LEAST_USES, 2 * len(missing)):
        return setup
    saved = _measure(setup, rows, side).saved(setup, used, len(missing))
    if saved < _LEAST_S:
        return _with(setup, None, f"saves less than {_LEAST_S:.0f} s")
    size, time_ = bytes_of(index, missing, side, recipe.data.max_pixels), format_seconds(saved)
    if not store.has_room(size):
        screen.note(f"pictures are decoded in each epoch; to do it once would save about {time_}, but {store.unkept}")
        return _with(setup, None, "no room")
    screen.note(
        f"training pictures are decoded once (shorter side ≤ {side} px, {about_bytes(size)} in {store.folder}), which "
        f"saves about {time_}; {_OFF}"
    )
    return _with(setup, side, f"saves about {time_}")


def needed_side(recipe: Recipe, plan: Plan, preprocessing: Preprocessing) -> int:
    """The shorter side, in pixels, that a recipe needs: as large as any phase has JPEGs decoded at least."""
    phases = [phase for phase in plan.phases if _uses(recipe, phase, phase.first_step)] or plan.phases
    return max(TrainTransform(preprocessing, phase.augment).min_side for phase in phases)


def keep_phase(setup: Setup, phase: PhasePlan, start: int, screen: Screen, watched: Watched) -> None:
    """Before updates `start`.. of a phase: prepare what the store lacks, if the run still uses pictures twice at least.

    Those of validation are kept as evaluated. It is said what is kept.
    """
    side, index = setup.prepared, setup.index
    rows, later = index.rows("train"), [other for other in setup.plan.phases if other.first_step >= phase.first_step]
    used = sum(_uses(setup.recipe, other, max(start, other.first_step)) for other in later)
    if side is None or used < 2 * len(rows):
        return
    kept = _kept(setup, rows, side, watched, "train")
    _kept(setup, index.rows("val"), setup.preprocessing, watched, "val")
    screen.note(f"phase {phase.name!r} trains on {_told(kept, len(rows), side)}")


def _kept(setup: Setup, rows: Ints, rule: Rule, watched: Watched, split: str) -> Kept:
    with watched(f"decoding {split}") as progress:
        return keep_pictures(
            setup.index,
            rows,
            rule,
            workers=setup.workers and (os.cpu_count() or 1),  # the network waits meanwhile
            max_pixels=setup.recipe.data.max_pixels,
            progress=progress,
            warn=setup.warn,
        )


def prepare_pictures(loaded: Loaded, screen: Screen) -> None:
    """Prepare the training pictures of a recipe and the evaluated ones of its validation, for later trainings.

    Raises:
        ImgkitError: as `imgkit finetune` would before it trains.
    """
    loaded, _ = adapt(loaded)
    recipe = loaded.recipe
    with screen.progress("reading images") as progress:
        index = load_data(recipe.data, progress=progress).index
    plan = make_plan(loaded, len(index.rows("train")))
    settings = recipe.model.model_copy(update={"weights": "none"})
    preprocessing = create_model(settings, len(index.classes), recipe.seed).preprocessing
    side, cores = recipe.data.prepared, os.cpu_count() or 1
    workers = recipe.run.workers if recipe.run.workers is not None else cores if cores > 1 else 0
    rule = side if isinstance(side, int) else needed_side(recipe, plan, preprocessing)
    for split, wanted in (("train", rule), ("val", preprocessing)):
        rows = index.rows(split)
        with screen.progress(f"decoding {split}") as progress:
            kept = keep_pictures(
                index, rows, wanted, workers=workers, max_pixels=recipe.data.max_pixels, progress=progress
            )
        folder = PictureStore(about(wanted)).folder
        screen.note(f"{split}: {_told(kept, len(rows), wanted)}, in {folder}")


def _told(kept: Kept, total: int, rule: Rule) -> str:
    size = f"shorter side ≤ {rule} px" if isinstance(rule, int) else "as evaluated"
    words = f"{kept.pictures:,} of {total:,} pictures decoded once ({size})"
    return words + (f"; the others are not kept: {kept.unkept}" if kept.unkept else "")


def _uses(recipe: Recipe, phase: PhasePlan, start: int) -> int:
    """How many pictures updates `start`.. of a phase decode."""
    if phase.lr is None:
        return 0  # each of its views once
    if phase.train == "head" and recipe.run.feature_cache and (phase.views or phase.augmentation == "none"):
        return 0  # likewise: it trains on features
    return max(0, phase.stop - start) * phase.settings.batch_size


@dataclass(frozen=True)
class _Times:
    """Seconds a picture, of one process."""

    direct: float  # decoded and augmented
    prepared: float  # taken from memory and augmented
    make: float  # decoded, shrunk and written

    def saved(self, setup: Setup, used: int, missing: int) -> float:
        """Seconds that a run saves by them, `used` pictures being trained on and `missing` to be made."""
        cores = os.cpu_count() or 1
        if setup.device.type == "cpu":  # loaders and network share the cores
            each = (self.direct - self.prepared) / cores
        else:
            loaders, update = max(1, setup.workers), _update_s(setup)
            each = max(update, self.direct / loaders) - max(update, self.prepared / loaders)
        return used * each - missing * self.make / (cores if setup.workers else 1)


def _measure(setup: Setup, rows: Ints, side: int) -> _Times:
    index, pixels, seed = setup.index, setup.recipe.data.max_pixels, setup.recipe.seed
    phase = next(phase for phase in reversed(setup.plan.phases) if _uses(setup.recipe, phase, phase.first_step))
    transform = TrainTransform(setup.preprocessing, phase.augment)
    direct, prepared, make = [], [], []
    for row in rows[:: max(1, len(rows) // _SAMPLE)][:_SAMPLE].tolist():
        path, key, least = index.path(row), augment_key(seed, (phase.first_epoch, row, 0)), [float("inf")] * 3
        for _ in range(_ROUNDS):
            times = [time.perf_counter()]
            transform(load_image(path, max_pixels=pixels, min_side=transform.min_side), key)
            times.append(time.perf_counter())
            kept = prepare(path, side, pixels)
            times.append(time.perf_counter())
            transform(Image.fromarray(kept.pixels.copy()), key, size=kept.size)
            times.append(time.perf_counter())
            taken = [after - before for before, after in pairwise(times)]
            least = [min(pair) for pair in zip(least, taken, strict=True)]
        direct.append(least[0])
        make.append(least[1] + kept.pixels.nbytes / _WRITTEN)
        prepared.append(least[2])
    return _Times(*(sum(times) / len(times) for times in (direct, prepared, make)))


def _update_s(setup: Setup) -> float:
    """Seconds of an update a picture, on a device of its own: the fastest of some on a copy of the network."""
    phase = next(phase for phase in reversed(setup.plan.phases) if phase.lr is not None)
    images = phase.settings.micro_batch or phase.settings.batch_size
    shape = images, setup.preprocessing.channels, *setup.preprocessing.size
    taken = []
    try:
        model = copy.deepcopy(setup.model).train()
        batch = torch.zeros(shape, device=setup.device).contiguous(memory_format=torch.channels_last)
        for _ in range(_STEPS):
            began = time.perf_counter()
            with torch.autocast(setup.device.type, dtype=setup.autocast, enabled=setup.autocast is not None):
                logits = model(batch)
            with quick_depthwise(setup.device, setup.autocast):
                logits.float().sum().backward()
            float(logits.detach().sum())  # device sync
            taken.append(time.perf_counter() - began)
    except Exception as error:
        if not ran_out(error):
            raise
        return float("inf")  # what does not fit is told by a later check
    return min(taken) / images


def _with(setup: Setup, side: int | None, why: str) -> Setup:
    """The setup whose recipe says what was decided, so that repeating the run repeats it."""
    recipe = setup.recipe
    chosen = recipe.model_copy(update={"data": recipe.data.model_copy(update={"prepared": side})})
    loaded = replace(setup.loaded, recipe=chosen, origins={**setup.loaded.origins, KEY: f"chosen ({why})"})
    return replace(setup, loaded=loaded, about={**setup.about, "prepared": {"shorter_side": side, "why": why}})
