"""The solved head of a phase: from the pictures that it sees to weights."""

import math
from collections.abc import Iterator

from imgkit.data.batches import Batch, eval_batches, train_batches
from imgkit.data.transforms import TrainTransform
from imgkit.features import MAX_ITERATIONS, Solution, extract, solve_head
from imgkit.finish import Watched
from imgkit.prepare import Setup
from imgkit.recipe.plan import PhasePlan
from imgkit.screen import Screen

_BATCH = 32  # images at once where features are computed


def solve_phase(setup: Setup, phase: PhasePlan, screen: Screen, watched: Watched) -> Solution:
    """Solve the head on features computed once, and say how it went.

    Raises:
        UsageError: if the model has no single linear head.
        WeightsError: if its features are not finite.
    """
    solution = _solve(setup, phase, watched)
    width = solution.weight.shape[1]
    screen.note(f"head solved on {pictures_of(setup, phase):,} pictures × {width:,} features, C = {solution.c:g}")
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
        features = extract(
            setup.model,
            _pictures(setup, phase),
            preprocessing=setup.preprocessing,
            device=setup.device,
            progress=progress,
            total=pictures_of(setup, phase),
        )
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
