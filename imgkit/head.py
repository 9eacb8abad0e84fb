"""The solved head of a phase: from the pictures that it sees to weights."""

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from imgkit.class_weights import log_shares
from imgkit.duration import format_seconds
from imgkit.errors import DeviceError, memory_told
from imgkit.features import BY_SGD, Features, head_layer, together
from imgkit.head_sgd import EPOCHS, Stored, train_head, write_features
from imgkit.keys import key
from imgkit.logistic import MAX_ITERATIONS
from imgkit.recipe.losses import LogitAdjusted
from imgkit.recipe.plan import PhasePlan
from imgkit.scaled import Floats
from imgkit.screen import Screen
from imgkit.setup import Setup
from imgkit.signals import Watched
from imgkit.solve import MAX_BYTES, Solution, fits, machine_memory, solve_bytes, solve_head
from imgkit.trunk import Trunk, Uses

_LONG_S = 30.0  # of a solve, from which its time is told
_LOSS = {"single": ("cross_entropy", "cross-entropy"), "multilabel": ("bce", "the binary cross-entropy of each label")}


def solve_phase(setup: Setup, phase: PhasePlan, folder: Path, screen: Screen, watched: Watched) -> Solution:
    """Solve the head on features computed once, and say how it went.

    Too many features for the solver are kept in a file of `folder` meanwhile, and the head is trained on them.

    Raises:
        UsageError: if the model has no single linear head.
        WeightsError: if its features are not finite.
        DiskError: if there is no room for the file.
    """
    trunk = Trunk(setup)
    total, width = pictures_of(setup, phase), head_layer(setup.model).weight.shape[1]
    classes = len(setup.index.classes)
    if fits(total, width, classes):
        with memory_told(DeviceError(f"Out of memory on {setup.device} while the head was solved.", BY_SGD)):
            solution, done = _solve(setup, phase, trunk, screen, watched), "solved"
    else:
        sizes = total * width * 4, solve_bytes(total, width, classes), MAX_BYTES, machine_memory()
        size, solve, limit, memory = (f"{size / 2**30:.3g} GiB" for size in sizes)
        screen.note(
            f"{total:,} pictures × {width:,} features take {size} and their solve {solve}; the solver's limits are "
            f"{limit} of features and half of the machine's {memory}: the head is trained by mini-batch SGD (Adam, "
            f"{EPOCHS} passes over features in a temporary file)"
        )
        solution, done = _train(setup, phase, trunk, folder, watched), "trained"
    told = trunk.told(total)
    screen.note(f"head {done} on {total:,} pictures × {width:,} features{told}, C = {solution.c:g}")
    if not solution.converged:
        screen.warn(f"the solve of the head stopped after {MAX_ITERATIONS:,} iterations, before it reached its optimum")
    own, words = _LOSS[setup.index.task]
    if isinstance(phase.loss, LogitAdjusted):
        solution = adjusted(solution, phase.loss.tau * log_shares(setup.index.counts("train")))
        own, words = phase.loss.name, "the adjusted loss: its biases were shifted by the classes' shares of train"
    others = sorted({other.loss.name for other in setup.plan.phases if other.lr is not None} - {own})
    if others:
        screen.note(f"the solve minimises {words}, whatever the loss of other phases ({', '.join(others)})")
    return solution


def adjusted(solution: Solution, shift: Floats) -> Solution:
    """What minimises the loss of logits + shift (K,), of what minimises that of logits: biases have no penalty."""
    return replace(solution, bias=solution.bias - torch.from_numpy(shift).float())


def pictures_of(setup: Setup, phase: PhasePlan) -> int:
    """How many pictures the solve of a phase sees."""
    return len(setup.index.rows("train")) * (1 + phase.views)


def _solve(setup: Setup, phase: PhasePlan, trunk: Trunk, screen: Screen, watched: Watched) -> Solution:
    def left(seconds: float) -> None:
        if seconds > _LONG_S:
            screen.fact("Time", f"about {format_seconds(seconds)} more to solve the head")

    with watched("features") as progress:
        features = together(_features(setup, phase, trunk, progress))
    ids = features.ids.numpy()
    groups = ids if setup.index.groups is None else setup.index.groups[ids]  # an image's views are in one fold
    with watched("solving the head") as progress:
        return solve_head(
            features.values,
            features.targets,
            classes=len(setup.index.classes),
            groups=groups,
            weights=_weights(setup, phase, features),
            plain=len(setup.index.rows("train")),
            seed=setup.recipe.seed,
            progress=progress,
            left=left,
        )


def _train(setup: Setup, phase: PhasePlan, trunk: Trunk, folder: Path, watched: Watched) -> Solution:
    size = pictures_of(setup, phase) * head_layer(setup.model).weight.shape[1] * 4  # float32
    file = folder / f".features.tmp-{os.getpid():x}-{secrets.token_hex(4)}"  # a resume removes what a kill left
    try:
        with watched("features") as progress:
            stored = write_features(_features(setup, phase, trunk, progress), file, size)
        with watched("training the head") as progress:
            return train_head(
                stored,
                classes=len(setup.index.classes),
                weights=_weights(setup, phase, stored),
                seed=setup.recipe.seed,
                progress=progress,
            )
    finally:
        file.unlink(missing_ok=True)


def _weights(setup: Setup, phase: PhasePlan, pictures: Features | Stored) -> Floats | None:
    """What each picture (N,) counts as, by its class; None where the phase weighs none."""
    by_class = setup.about["loss_weights"].get(phase.name)
    if by_class is None:
        return None
    weights: Floats = np.array([by_class[name] for name in setup.index.classes])[pictures.targets.numpy()]
    return weights


def _features(setup: Setup, phase: PhasePlan, trunk: Trunk, progress: Callable[[int, int], None]) -> Iterator[Features]:
    """Each training image as in evaluation, then `views` times augmented."""
    rows: list[int] = setup.index.rows("train").tolist()
    epochs = range(phase.first_epoch, phase.first_epoch + phase.views)
    plain = Uses(setup.preprocessing, 0, [(0, row, 0) for row in rows])
    views = Uses(
        setup.transform(phase),
        key(setup.recipe.seed, "views"),  # other pictures than the first epoch's, which would teach it nothing
        [(epoch, row, 0) for epoch in epochs for row in rows],
    )
    done, total = 0, pictures_of(setup, phase)
    for uses in (plain, views):
        for features in trunk.features(uses):
            done += len(features.ids)
            progress(done, total)
            yield features
