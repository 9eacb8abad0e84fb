"""The mean of the best checkpoints' weights, if validation likes it better than the best one.

A model soup in its uniform form (Wortsman et al. 2022), of checkpoints of one run. What it makes follows from the
checkpoints alone, so that it may be repeated after a kill.
"""

import copy
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from imgkit import checkpoint
from imgkit.errors import DiskError
from imgkit.evaluations import weights_label
from imgkit.progress import best_first, best_row
from imgkit.recipe.monitors import is_better
from imgkit.run import RunFolder
from imgkit.scoring import store
from imgkit.screen import Screen
from imgkit.setup import Setup
from imgkit.signals import Watched


@dataclass(frozen=True, eq=False)
class Chosen:
    """Weights that become `model/`.

    Attributes:
        step: of the best checkpoint.
        value: the monitored score of these weights on validation.
        state: every tensor of the network by name.
        mean_of: steps of the checkpoints that they are the mean of, the best one first; empty: those of `step` alone.
    """

    step: int
    value: float
    state: Mapping[str, Tensor]
    mean_of: tuple[int, ...] = ()

    @property
    def about(self) -> dict[str, Any]:
        """What names these weights in JSON."""
        return {"step": self.step} | ({"mean_of": list(self.mean_of)} if self.mean_of else {})

    @property
    def label(self) -> str:
        """What names their evaluations, after "val@"."""
        return weights_label(self.about)


def choose_weights(
    folder: RunFolder, setup: Setup, history: Sequence[Mapping[str, Any]], screen: Screen, watched: Watched
) -> Chosen:
    """The best checkpoint's weights, or the mean of the `save.average_best` best ones where that scores better.

    Raises:
        DiskError: if a checkpoint that is needed is damaged.
    """
    best, monitor = best_row(history), setup.recipe.monitor
    chosen = Chosen(best["step"], best[monitor], _read_scored(folder, best["step"]))
    wanted = setup.recipe.save.average_best
    if wanted is None:
        return chosen
    there = checkpoint.steps(folder.path / "checkpoints")
    steps = [step for step in best_first(history, monitor, setup.index.task) if step in there][:wanted]
    if len(steps) < wanted:
        screen.note(f"save.average_best is {wanted}, but there are only {len(steps)} evaluated checkpoints")
    if len(steps) < 2:
        return chosen
    mean = mean_state(_read_scored(folder, step) for step in steps)
    value = _score(folder, setup, steps, mean, watched)[monitor.removeprefix("val/")]
    averaged = Chosen(best["step"], value, mean, tuple(steps))
    better = is_better(averaged.value, chosen.value, monitor, setup.index.task)
    screen.note(
        f"the mean of the {len(steps)} best checkpoints (steps {', '.join(map(str, sorted(steps)))}) has {monitor} "
        f"{averaged.value:.4f}, the best one {chosen.value:.4f}: the {'mean' if better else 'best one'} is kept"
    )
    return averaged if better else chosen


def mean_state(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor over `states` (at least one), summed in float64; whole numbers are those of the first."""
    first: Mapping[str, Tensor] = {}
    sums: dict[str, Tensor] = {}
    n = 0
    for state in states:
        first = first or state
        n += 1
        for name, value in state.items():
            if value.is_floating_point():
                sums[name] = sums[name] + value.double() if name in sums else value.double()
    return {name: (sums[name] / n).to(value.dtype) if name in sums else value for name, value in first.items()}


def _score(
    folder: RunFolder, setup: Setup, steps: Sequence[int], state: Mapping[str, Tensor], watched: Watched
) -> dict[str, Any]:
    """The metrics of the mean on validation; stored ones, where a run was cut after it."""
    label = weights_label({"step": steps[0], "mean_of": steps})
    place = folder.path / "evaluations" / f"val@{label}"
    stored = folder.evaluations().get(place.name, {})
    if stored.get("mean_of") == list(steps):
        return stored
    model = copy.deepcopy(setup.model)
    model.load_state_dict(state, strict=True)
    scores = setup.score(model, "val", watched, what="the mean on ")
    about: dict[str, Any] = {"step": steps[0], "seed": setup.recipe.seed, "mean_of": list(steps)}
    return store(place, scores, setup.index, split="val", fit_loss=setup.fits_loss, **about)


def _read_scored(folder: RunFolder, step: int) -> Mapping[str, Tensor]:
    place = folder.path / "checkpoints"
    try:
        return checkpoint.read(place, step).scored
    except DiskError as error:
        # A resume repeats a run bit for bit, so training again from before it gives the same weights.
        gone = [shlex.quote(str(place / f"step-{later:08d}")) for later in checkpoint.steps(place) if later >= step]
        remove = f"rm -r {' '.join(gone)}\n" if gone else ""
        raise DiskError(
            f"The best weights, of step {step}, cannot be read. {error.message}",
            "Put the file back from a copy, or train these weights again from the checkpoint before, if there is one:\n"
            f"{remove}imgkit resume {shlex.quote(folder.address)}",
        ) from error
