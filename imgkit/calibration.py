"""A model's calibration: one temperature for its logits and, in a multi-label task, a threshold for each label.

Both are fitted on the validation logits of the best weights, after training. They change no weight and no ranking of an
image's classes; probabilities shown to people are calibrated.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgkit.data.rows import listed
from imgkit.multilabel import USUAL_THRESHOLD, log_loss
from imgkit.probabilities import Floats, sigmoid, softmax

SCHEMA = 1
FEWEST = 30  # images of validation below which nothing is fitted; assumed, the usual rule of thumb
FEWEST_WITH = 5  # of them with a label, below which its threshold stays; assumed, the rule of thumb of Cochran 1954
BOUNDS = (0.1, 10.0)  # of the temperature
_PRECISION = 1e-6  # of log T: the same temperature in about seven digits


@dataclass(frozen=True)
class Calibration:
    """How logits become the probabilities and labels that people see.

    Args:
        temperature: T > 0: probabilities are softmax(logits / T), or sigmoid(logits / T) in a multi-label task.
        thresholds: by label: it is answered where its probability is at least this; None in a single-label task.
        fitted_on: the split.
        n: images of that split.
        notes: what was not fitted, and why.
    """

    temperature: float
    thresholds: Mapping[str, float] | None
    fitted_on: str
    n: int
    notes: tuple[str, ...] = ()

    def probabilities(self, logits: npt.NDArray[np.floating]) -> Floats:
        """Probabilities (N, K) in [0, 1] of logits (N, K): over the classes, or of each label."""
        scaled = logits.astype(np.float64) / self.temperature
        return softmax(scaled) if self.thresholds is None else sigmoid(scaled)

    def to_dict(self) -> dict[str, Any]:
        """As calibration.json has it."""
        return {
            "schema": SCHEMA,
            "temperature": self.temperature,
            "thresholds": None if self.thresholds is None else dict(self.thresholds),
            "fitted_on": self.fitted_on,
            "n": self.n,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """What `to_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: if it is something else.
        """
        temperature, thresholds = float(values["temperature"]), values["thresholds"]
        if values["schema"] != SCHEMA or not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"schema {values['schema']}, temperature {temperature}")
        if thresholds is not None:
            thresholds = {str(name): float(value) for name, value in thresholds.items()}
        return cls(temperature, thresholds, str(values["fitted_on"]), int(values["n"]), tuple(values["notes"]))


def calibrate(
    logits: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int64] | npt.NDArray[np.float32],
    classes: Sequence[str],
    split: str = "val",
) -> Calibration:
    """The calibration that fits logits (N, K) to targets: int64 (N,), or zeros and ones (N, K) of a multi-label task.

    The temperature minimises the mean negative log-likelihood (temperature scaling, Guo et al. 2017), or the mean
    binary cross-entropy over all labels, within BOUNDS. It stays 1, with a note, for fewer than FEWEST images; where
    they are of one class, or hold no label; and where all are right, since the likelihood then grows without end as T
    falls.
    Thresholds are `fitted_threshold`s on the calibrated probabilities; that of a label of fewer than FEWEST_WITH images
    stays 0.5, with a note.
    """
    n, many = len(targets), targets.ndim == 2
    reason = _reason_to_keep(logits, targets)
    temperature = 1.0 if reason else fitted_temperature(logits, targets)
    notes = [f"the temperature stays 1: {reason}"] if reason else []
    if not many:
        return Calibration(temperature, None, split, n, tuple(notes))
    hot = targets.astype(np.bool_)
    thresholds = dict.fromkeys(classes, USUAL_THRESHOLD)
    if n < FEWEST:
        notes.append(f"the thresholds stay {USUAL_THRESHOLD:g}: there are fewer than {FEWEST} images")
    else:
        probs = sigmoid(logits.astype(np.float64) / temperature)
        few = {name for name, count in zip(classes, hot.sum(axis=0), strict=True) if count < FEWEST_WITH}
        thresholds |= {
            name: fitted_threshold(probs[:, k], hot[:, k]) for k, name in enumerate(classes) if name not in few
        }
        if few:
            kept = listed(name for name in classes if name in few)
            notes.append(
                f"the threshold stays {USUAL_THRESHOLD:g} for labels of fewer than {FEWEST_WITH} images: {kept}"
            )
    return Calibration(temperature, thresholds, split, n, tuple(notes))


def _reason_to_keep(logits: npt.NDArray[np.float32], targets: npt.NDArray[Any]) -> str:
    """Why no temperature can be fitted; "" where one can."""
    n = len(targets)
    if n < FEWEST:
        return f"{n} images are too few to fit it (fewer than {FEWEST})"
    if targets.ndim == 1 and len(np.unique(targets)) < 2:
        return "all images are of one class"
    if targets.ndim == 2 and not targets.any():
        return "no image has a label"
    right = (logits >= 0) == (targets > 0) if targets.ndim == 2 else logits.argmax(axis=1) == targets
    return "every answer is right, so the images set no limit to confidence" if right.all() else ""


def fitted_temperature(
    logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64] | npt.NDArray[np.float32]
) -> float:
    """The T within BOUNDS that makes the loss of logits / T smallest; the loss is convex in 1 / T, so there is one."""
    return _fit(logits, targets)[0]


def calibrated_loss(logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64] | npt.NDArray[np.float32]) -> float:
    """The loss of logits (N, K) at their own `fitted_temperature`: what no temperature can mend.

    A network that ranks better but is too sure has a greater loss, until its temperature is fitted; choosing a
    checkpoint by this value leaves confidence to the calibration after training (Berta et al. 2025, "Rethinking Early
    Stopping: Refine, Then Calibrate").
    """
    return _fit(logits, targets)[1]


def _fit(
    logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64] | npt.NDArray[np.float32]
) -> tuple[float, float]:
    """The fitted temperature, and the loss at it."""
    from scipy.optimize import minimize_scalar

    values, rows = logits.astype(np.float64), np.arange(len(targets))

    def loss(log_temperature: float) -> float:
        scaled = values * math.exp(-log_temperature)
        if targets.ndim == 2:
            return log_loss(scaled, targets)
        scaled -= scaled.max(axis=1, keepdims=True)
        return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[rows, targets.astype(np.int64)]).mean())

    low, high = (math.log(end) for end in BOUNDS)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": _PRECISION})
    best = min((0.0, float(found.x), low, high), key=loss)  # the search ends beside an end, not at it
    return math.exp(best), loss(best)


def fitted_threshold(probs: Floats, present: npt.NDArray[np.bool_]) -> float:
    """The threshold in (0, 1) nearest 0.5 whose F1 is within one standard error of the greatest; the lower of two.

    The one-standard-error rule of Breiman et al. 1984 (Classification and Regression Trees, 3.4.3), with 0.5 as the
    plain choice: of some hundred thresholds the one with the greatest F1 is partly so by chance, and what it gains on
    these images is not gained on others. So a threshold leaves 0.5 only for more than chance, and goes no further than
    that needs.

    Tried are 0.5, the middles between neighbouring probabilities, and one below all of them.

    Args:
        probs: of one label, (N,).
        present: whether the image has it, (N,); at least one has.
    """
    levels, group = np.unique(probs, return_inverse=True)  # ascending
    below = np.concatenate([[0.0], levels[:-1]])
    middles = below + (levels - below) / 2
    hits = np.bincount(group, weights=present, minlength=len(levels))[::-1].cumsum()[::-1]
    answered = np.bincount(group, minlength=len(levels))[::-1].cumsum()[::-1]
    middles = np.where(middles > below, middles, levels)  # not where rounding puts it onto the one below
    distinct = middles > 0  # a threshold of 0 would be none
    tried = np.append(middles[distinct], USUAL_THRESHOLD)
    over = probs >= USUAL_THRESHOLD
    hits = np.append(hits[distinct], (present & over).sum())
    answered = np.append(answered[distinct], over.sum())
    nearest = np.lexsort((tried, np.abs(tried - USUAL_THRESHOLD)))
    tried, hits, total = tried[nearest], hits[nearest], present.sum() + answered[nearest]
    f1 = 2 * hits / total
    best = f1.argmax()
    return float(tried[(f1 >= f1[best] - f1_error(hits[best], total[best])).argmax()])


def f1_error(hits: float, total: float) -> float:
    """The standard error of F1 = 2 hits / total over images, by the delta method; `total` is present + answered.

    To first order a hit adds (2 - 2 F1) / total, a miss or a false answer -F1 / total, and an image that is neither
    nothing: the squares add up to F1 (1 - F1) (2 - F1) / total. One hit and two errors are added first, as Laplace's
    rule does with shares: by the plain formula an F1 of 1 on five images would be beyond doubt.
    """
    hits, total = hits + 1, total + 4
    f1 = 2 * hits / total
    return math.sqrt(f1 * (1 - f1) * (2 - f1) / total)
