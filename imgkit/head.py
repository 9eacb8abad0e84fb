"""The solved head of a phase: from the pictures that it sees to weights."""

import math
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from imgkit.data.augment import TrainTransform
from imgkit.data.batches import Batch, eval_batches, train_batches
from imgkit.errors import DeviceError, memory_told
from imgkit.features import (
    BY_SGD,
    MAX_BYTES,
    MAX_ITERATIONS,
    Features,
    Solution,
    extract,
    fits,
    head_layer,
    solve_head,
    together,
)
from imgkit.head_sgd import EPOCHS, train_head, write_features
from imgkit.prepare import Setup
from imgkit.recipe.plan import PhasePlan
from imgkit.screen import Screen
from imgkit.signals import Watched

_BATCH = 32  # images at once where features are computed


def solve_phase(setup: Setup, phase: PhasePlan, folder: Path, screen: Screen, watched: Watched) -> Solution:
    """Solve the head on features computed once, and say how it went.

    Too many features for the solver are kept in a file of `folder` meanwhile, and the head is trained on them.

    Raises:
        UsageError: if the model has no single linear head.
        WeightsError: if its features are not finite.
        DiskError: if there is no room for the file.
    """
    total, width = pictures_of(setup, phase), head_layer(setup.model).weight.shape[1]
    if fits(total, width):
        with memory_told(DeviceError(f"Out of memory on {setup.device} while the head was solved.", BY_SGD)):
            solution, done = _solve(setup, phase, watched), "solved"
    else:
        screen.note(
            f"{total:,} pictures × {width:,} features take {total * width * 4 / 2**30:.1f} GiB, and the solver's limit "
            f"is {MAX_BYTES / 2**30:g} GiB: the head is trained by mini-batch SGD (Adam, {EPOCHS} passes over features "
            "in a temporary file)"
        )
        solution, done = _train(setup, phase, folder, watched), "trained"
    screen.note(f"head {done} on {total:,} pictures × {width:,} features, C = {solution.c:g}")
    if not solution.converged:
        screen.warn(f"the solve of the head stopped after {MAX_ITERATIONS:,} iterations, before it reached its optimum")
    others = {other.loss.name for other in setup.plan.phases if other.lr is not None} - {"cross_entropy"}
    if others:
        screen.note(f"the solve minimises cross-entropy, whatever the loss of other phases ({', '.join(others)})")
    return solution


def pictures_of(setup: Setup, phase: PhasePlan) -> int:
    """How many pictures the solve of a phase sees."""
    return len(setup.index.rows("train")) * (1 + phase.views)


def _solve(setup: Setup, phase: PhasePlan, watched: Watched) -> Solution:
    with watched("features") as progress:
        features = together(_features(setup, phase, progress))
    ids = features.ids.numpy()
    groups = ids if setup.index.groups is None else setup.index.groups[ids]  # an image's views are in one fold
    with watched("solving the head") as progress:
        return solve_head(
            features.values,
            features.targets,
            classes=len(setup.index.classes),
            groups=groups,
            seed=setup.recipe.seed,
            progress=progress,
        )


def _train(setup: Setup, phase: PhasePlan, folder: Path, watched: Watched) -> Solution:
    size = pictures_of(setup, phase) * head_layer(setup.model).weight.shape[1] * 4  # float32
    file = folder / f".features.tmp-{os.getpid():x}-{secrets.token_hex(4)}"  # a resume removes what a kill left
    try:
        with watched("features") as progress:
            stored = write_features(_features(setup, phase, progress), file, size)
        with watched("training the head") as progress:
            return train_head(stored, classes=len(setup.index.classes), seed=setup.recipe.seed, progress=progress)
    finally:
        file.unlink(missing_ok=True)


def _features(setup: Setup, phase: PhasePlan, progress: Callable[[int, int], None]) -> Iterator[Features]:
    return extract(
        setup.model,
        _pictures(setup, phase),
        preprocessing=setup.preprocessing,
        device=setup.device,
        progress=progress,
        total=pictures_of(setup, phase),
    )


def _pictures(setup: Setup, phase: PhasePlan) -> Iterator[Batch]:
    """Each training image as in evaluation, then `views` times augmented."""
    rows = setup.index.rows("train")
    limits = {"workers": setup.workers, "max_pixels": setup.recipe.data.max_pixels}
    yield from eval_batches(setup.index, rows, preprocessing=setup.preprocessing, batch_size=_BATCH, **limits)
    steps = math.ceil(len(rows) / _BATCH)
    yield from train_batches(
        setup.index,
        rows,
        transform=TrainTransform(setup.preprocessing, phase.augment),
        seed=setup.recipe.seed,
        first_epoch=phase.first_epoch,
        batch_size=_BATCH,
        steps_per_epoch=steps,
        start=0,
        stop=phase.views * steps,
        **limits,
    )
