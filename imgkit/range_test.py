"""Which learning rate: the range test (Smith 2017), on a network that is thrown away.

The phases before the first one that takes gradients are done as in a run; then the rate grows from update to update, by
the same factor each time, until the loss rises. Pictures, order and dropout are those of the phase's first updates.

One batch is harder than another, and after a solved head that is more than what the updates change. So a second pass
over the same batches, at rate 0, gives the loss that each has before any update, and the difference is looked at.
"""

import copy
import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgkit.errors import DivergedError, UsageError, disk_told, memory_told
from imgkit.head import solve_phase
from imgkit.recipe.plan import PhasePlan
from imgkit.run import replace_text
from imgkit.screen import Screen
from imgkit.setup import Setup, trainer_of
from imgkit.trainer import Trainer

SHORTEST = 10  # updates from which there is a curve
_MEMORY = 0.8  # share of the smoothed loss that the next one keeps: about five updates are averaged
_RISE = 4.0  # times the lowest smoothed loss, where the test stops, if that is above the loss before; as in fastai
_NEAR = 0.05  # of the loss before, by which the smoothed loss may be above its lowest value before it counts as risen
_BELOW = 10.0  # how far below the edge of that range the suggestion is


@dataclass(frozen=True)
class LrCurve:
    """The loss over growing rates, one entry an update.

    Attributes:
        phase: whose rate it is.
        rates: of the head group, growing.
        losses: of the batch, before the update at that rate.
        untouched: of the same batch, with the weights before any update.
        smoothed: the running mean of their difference, plus the mean of `untouched`.
    """

    phase: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    untouched: tuple[float, ...]
    smoothed: tuple[float, ...]

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest."""
        return self.rates[int(np.argmin(self.smoothed))]

    @property
    def edge(self) -> float:
        """The last rate before the smoothed loss rises above its lowest value, by a twentieth of the loss before."""
        limit = min(self.smoothed) + _NEAR * sum(self.untouched) / len(self.untouched)
        after = range(int(np.argmin(self.smoothed)), len(self.rates))
        rise = next((place for place in after if self.smoothed[place] > limit), len(self.rates))
        return self.rates[rise - 1]

    @property
    def steepest(self) -> float | None:
        """The rate at which the smoothed loss falls fastest on its way to its lowest value; None if it never falls."""
        falling = int(np.argmin(self.smoothed)) + 1
        slopes = np.diff(self.smoothed[:falling]) / np.diff(np.log(self.rates[:falling]))
        return self.rates[int(np.argmin(slopes))] if len(slopes) else None

    @property
    def suggestion(self) -> float:
        """A tenth of the edge, to two digits.

        Smith and fastai go a tenth below the minimum. After a solved head there may be hardly any fall, so that chance
        places the minimum and the steepest fall within a flat stretch; where that ends, the rate decides.
        """
        return float(f"{self.edge / _BELOW:.1e}")


def smooth(values: Sequence[float]) -> list[float]:
    """The exponential running mean of `values`, each divided by the weight it has gathered (Kingma and Ba 2015)."""
    mean, found = 0.0, []
    for number, value in enumerate(values, start=1):
        mean = _MEMORY * mean + (1 - _MEMORY) * value
        found.append(mean / (1 - _MEMORY**number))
    return found


def run_range_test(setup: Setup, *, steps: int, min_lr: float, max_lr: float, out: Path, screen: Screen) -> LrCurve:
    """Do the test with the network of `setup`, which is changed by it, and write lr-find.csv and lr-find.png.

    Args:
        setup: what `prepare` made.
        steps: updates, at most; it stops where the smoothed loss is four times its lowest value.
        min_lr: first rate.
        max_lr: last rate.
        out: folder of the files; made if it is not there.
        screen: where to say what is going on.

    Raises:
        UsageError: if no phase takes gradients, or the loss rises before there is a curve.
        DiskError: if `out` cannot be written.
        DeviceError: if memory runs out.
    """
    target = next((phase for phase in setup.plan.phases if phase.lr is not None), None)
    if target is None:
        raise UsageError(
            f"No phase of {setup.recipe.name!r} takes gradients, so it has no learning rate.",
            "Choose a recipe that trains: --recipe finetune",
        )
    with disk_told(out):
        out.mkdir(parents=True, exist_ok=True)
    trainer = trainer_of(setup)
    for phase in setup.plan.phases[: setup.plan.phases.index(target)]:
        screen.phase(phase.name)
        trainer.begin(phase)
        trainer.solve(solve_phase(setup, phase, out, screen, screen.progress))
    # Averages score nothing here.
    phase = replace(target, steps=steps, settings=target.settings.model_copy(update={"ema": 0.0}))
    rates = np.geomspace(min_lr, max_lr, steps).tolist()
    reference = trainer_of(replace(setup, model=copy.deepcopy(setup.model)))
    untouched = list(_losses(setup, reference, phase, [0.0] * steps, screen, "loss before"))
    level, losses = sum(untouched) / steps, list[float]()
    with suppress(DivergedError):  # a rate far too large: the curve ends before it
        for loss in _losses(setup, trainer, phase, rates, screen, "loss at growing rates"):
            losses.append(loss)
            smoothed = _smoothed(losses, untouched)
            if smoothed[-1] > max(_RISE * min(smoothed), level):
                break
    if len(losses) < SHORTEST:
        raise UsageError(
            f"The loss rose after {len(losses)} updates, at a rate of {rates[len(losses) - 1]:.3g}.",
            f"Begin with a smaller one: --min-lr {min_lr / 1000:.1g}",
        )
    untouched = untouched[: len(losses)]
    smoothed = _smoothed(losses, untouched)
    curve = LrCurve(target.name, tuple(rates[: len(losses)]), tuple(losses), tuple(untouched), tuple(smoothed))
    _write_csv(curve, out / "lr-find.csv")
    if not _draw(curve, out / "lr-find.png"):
        screen.note('no lr-find.png: matplotlib is not installed (pip install "imgkit-timm[plot]")')
    return curve


def _smoothed(losses: Sequence[float], untouched: Sequence[float]) -> list[float]:
    """The running mean of what updates changed, at the level of the mean loss before any."""
    level = sum(untouched) / len(untouched)
    return [level + mean for mean in smooth([loss - own for loss, own in zip(losses, untouched, strict=False)])]


def _losses(
    setup: Setup, trainer: Trainer, phase: PhasePlan, rates: Sequence[float], screen: Screen, label: str
) -> Iterator[float]:
    """The loss of each batch before an update at its rate."""
    batches = setup.batches(phase, 0, phase.steps)
    trainer.begin(phase)
    first = phase.first_step
    with closing(batches), memory_told(setup.no_memory(phase)), screen.progress(label) as progress:
        for update in trainer.train_at(phase, batches, first, lambda step: rates[step - first], setup.shards(phase)):
            progress(update.step - first, len(rates))
            yield update.loss


def _write_csv(curve: LrCurve, file: Path) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["lr", "loss", "untouched", "smoothed"])
    rows.writerows(zip(curve.rates, curve.losses, curve.untouched, curve.smoothed, strict=True))
    replace_text(file, text.getvalue())


def _draw(curve: LrCurve, file: Path) -> bool:
    """Draw the curve, if matplotlib is there."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="loss")
    axes.plot(curve.rates, curve.losses, color="0.8", label="loss of the batch")
    axes.plot(curve.rates, curve.smoothed, color="C0", label="smoothed")
    axes.axvline(curve.edge, color="0.5", linestyle=":", label=f"rises after {curve.edge:.1e}")
    axes.axvline(curve.suggestion, color="C1", label=f"suggestion {curve.suggestion:.1e}")
    level = sum(curve.untouched) / len(curve.untouched)
    low = max(min(curve.smoothed), -level)  # a difference may fall below 0; what is far below would flatten the rest
    axes.set_ylim(bottom=low - 0.1 * level, top=2 * max(*curve.untouched, curve.smoothed[0]))
    axes.legend()
    with disk_told(file):
        figure.savefig(file, dpi=150)
    return True
