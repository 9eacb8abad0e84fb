"""How fast pictures are loaded and updates made here, measured; and how many processes should load them."""

import copy
import math
import time
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from PIL import Image

from imgkit import machine
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import augment_key
from imgkit.data.decode import load_image
from imgkit.data.index import Ints
from imgkit.data.prepared import prepare
from imgkit.depthwise import quick_depthwise
from imgkit.device import memory_format
from imgkit.errors import ran_out
from imgkit.models.freeze import set_trainable
from imgkit.recipe.plan import PhasePlan
from imgkit.recipe.schema import Recipe
from imgkit.screen import Screen
from imgkit.setup import Setup
from imgkit.world import ranks, ranks_here

_SAMPLE = 12  # pictures that are timed
_ROUNDS = 2  # the first one also reads the files from the disk
_WRITTEN = 200e6  # bytes a second of the disk, assumed
_STEPS = 3  # trial updates
LEAST_USES = 2_000
"""Pictures that a run decodes, below which nothing is measured: no decoder takes 15 ms a picture."""
_SPARE = 1.25  # times the loaders that just keep up


def with_loaders(setup: Setup, screen: Screen) -> Setup:
    """The setup of a new run on a GPU with more loader processes than the rule gives, where its pictures need them.

    As many as keep up with the network and a quarter more, by a measurement, up to the number of cores; said where
    they are more. Their number changes no bit of a run. `run.workers` is taken as it is, a deterministic run does not
    measure, and one of few pictures would not gain what that takes. On a CPU the rule stays.
    """
    recipe, plan, least = setup.recipe, setup.plan, setup.workers
    most = 0 if setup.device.type == "cpu" else machine.cores() // ranks_here()
    phases = [phase for phase in plan.phases if uses_of(recipe, phase, phase.first_step)]
    used = sum(uses_of(recipe, phase, phase.first_step) for phase in phases)
    if recipe.run.workers is not None or recipe.run.deterministic or most <= least or used < LEAST_USES:
        return setup
    rows, side = setup.index.rows("train"), setup.prepared
    times, update = picture_times(setup, rows, side or setup.preprocessing.size[0]), update_seconds(setup)
    if update is None:
        return setup
    once = 0.0 if used >= 2 * len(rows) else times.make  # for fewer uses no store is made
    picture = times.direct if side is None else times.prepared + once
    workers = min(most, max(least, math.ceil(_SPARE * picture / update)))
    if workers > least:
        screen.note(
            f"{workers} loader processes: a picture takes {picture * 1000:.1f} ms to load, and {update * 1000:.1f} ms "
            "of an update; for another number:  --workers N"
        )
    about = {"workers": workers, "ranks": ranks_here(), "picture_s": picture, "update_s": update}
    return replace(setup, workers=workers, about={**setup.about, "loaders": about})


def uses_of(recipe: Recipe, phase: PhasePlan, start: int) -> int:
    """How many pictures updates `start`.. of a phase decode."""
    if phase.lr is None:
        return 0  # each of its views once
    if phase.train == "head" and recipe.run.feature_cache and (phase.views or phase.augmentation == "none"):
        return 0  # likewise: it trains on features
    return max(0, phase.stop - start) * phase.settings.batch_size


@dataclass(frozen=True)
class Times:
    """Seconds a picture, of one process."""

    direct: float  # decoded and augmented
    prepared: float  # taken from memory and augmented
    make: float  # decoded, shrunk and written

    def saved(self, setup: Setup, used: int, missing: int) -> float:
        """Seconds that a run saves by them, `used` pictures being trained on and `missing` to be made."""
        cores = machine.cores()
        if setup.device.type == "cpu":  # loaders and network share the cores
            each = (self.direct - self.prepared) / cores
        else:
            loaders, update = max(1, setup.workers), update_seconds(setup)
            if update is None:
                return 0.0
            each = max(update, self.direct / loaders) - max(update, self.prepared / loaders)
        return used * each - missing * self.make / (cores if setup.workers else 1)


def picture_times(setup: Setup, rows: Ints, side: int) -> Times:
    """What some pictures of `rows` take in this process, augmented as by the last phase that decodes them."""
    index, pixels, seed = setup.index, setup.recipe.data.max_pixels, setup.recipe.seed
    phase = next(phase for phase in reversed(setup.plan.phases) if uses_of(setup.recipe, phase, phase.first_step))
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
    return Times(*(sum(times) / len(times) for times in (direct, prepared, make)))


def images_at_once(phase: PhasePlan) -> int:
    """Images of a forward pass of an update, in this process."""
    own = phase.settings.batch_size // ranks()
    return min(phase.settings.micro_batch or own, own)


def update_seconds(setup: Setup) -> float | None:
    """Seconds of an update a picture: the fastest of some on a copy of the network; None where memory runs out."""
    phases = [phase for phase in setup.plan.phases if uses_of(setup.recipe, phase, phase.first_step)]
    phase = phases[-1]
    images = max(2, images_at_once(phase))  # batch norm wants two
    shape = images, setup.preprocessing.channels, *setup.preprocessing.size
    taken = []
    try:
        model = copy.deepcopy(setup.model).train()
        set_trainable(model, phase.train)
        batch = torch.zeros(shape, device=setup.device).contiguous(memory_format=memory_format(setup.device))
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
        return None  # what does not fit is told by a later check
    return min(taken) / images
