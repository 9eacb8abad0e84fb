"""What more images would bring: the score of a linear probe against the number of images, for `data learning-curve`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from imgkit.cells import Rows
from imgkit.curve_fit import Extrapolation, extrapolate
from imgkit.data.load import no_validation
from imgkit.errors import DataError, DeviceError, UsageError, disk_told, memory_told
from imgkit.features import BY_SGD, head_layer
from imgkit.files import whole_file
from imgkit.keys import key, splitmix64
from imgkit.logistic import Fit
from imgkit.plots.curves import TITLES
from imgkit.plots.growth import Growth, GrowthPlot
from imgkit.ranking import class_weights_of
from imgkit.scaled import Floats, Ints, Scaled
from imgkit.setup import Setup
from imgkit.signals import Watched
from imgkit.solve import TOLERANCE, fits, solve_head
from imgkit.trunk import Trunk

FRACTIONS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
SEEDS = 5
DRAWS = 400  # of the interval
POINTS, SUMMARY = "points.csv", "learning-curve.json"
Score = Literal["f1_macro", "top1"]
SCORES: tuple[Score, ...] = ("f1_macro", "top1")


@dataclass(frozen=True, eq=False)
class Probes:
    """Features of images and their labels.

    Attributes:
        values: float32 (n, D).
        labels: int64 (n,).
        groups: int64 (n,), images of one number come together; None: each by itself.
        weights: float64 (n,), what each counts in a fit; None: once.
    """

    values: torch.Tensor
    labels: Ints
    groups: Ints | None = None
    weights: Floats | None = None

    def select(self, rows: Ints) -> "Probes":
        """Some of the images."""
        groups = None if self.groups is None else self.groups[rows]
        weights = None if self.weights is None else self.weights[rows]
        return Probes(self.values[torch.from_numpy(rows)], self.labels[rows], groups, weights)


@dataclass(frozen=True, eq=False)
class Curve:
    """The score against the number of images.

    Attributes:
        fractions: of the training images, (J,).
        sizes: images, int64 (J,); the last one is all of them.
        strengths: C of each size.
        answers: of each size and seed to the held-out images, int64 (J, S, m).
        truth: int64 (m,).
        classes: K.
        computed: images whose features no earlier run had kept.
    """

    fractions: tuple[float, ...]
    sizes: Ints
    strengths: tuple[float, ...]
    answers: Ints
    truth: Ints
    classes: int
    computed: int = 0

    def scores(self, score: Score) -> Floats:
        """Of each size and seed, (J, S)."""
        found: Floats = self._drawn(score, np.ones((1, len(self.truth))))[0]
        return found

    @cached_property
    def extrapolated(self) -> dict[Score, Extrapolation | str]:
        """What twice the images would bring, or why nothing is said; see `extrapolate`."""
        rng, m = np.random.default_rng(0), len(self.truth)
        weights, sizes = rng.multinomial(m, np.full(m, 1 / m), DRAWS).astype(np.float64), self.sizes.astype(np.float64)
        return {one: extrapolate(sizes, self.scores(one), self._drawn(one, weights), images=m) for one in SCORES}

    def growth(self, model: str) -> GrowthPlot:
        """The curve as it is drawn."""
        growths = []
        for score in SCORES:
            scores, found = self.scores(score), self.extrapolated[score]
            if isinstance(found, str) or found.refused:
                growths.append(Growth(TITLES[score], scores))
                continue
            now, (low, high) = float(scores[-1, 0]), found.interval
            end = (found.factor * float(self.sizes[-1]), now + low, now + high)
            growths.append(Growth(TITLES[score], scores, found.law, end))
        note = f"{len(self.truth):,} validation images; a dot for each draw of so many images"
        return GrowthPlot(model, self.sizes.astype(np.float64), growths, note)

    def _drawn(self, score: Score, weights: Floats) -> Floats:
        """Scores (B, J, S) where held-out image i counts weights[:, i] times; macro F1 is over classes that occur."""
        right = self.answers == self.truth
        if score == "top1":
            found: Floats = np.einsum("bm,jsm->bjs", weights, right) / weights.sum(axis=1)[:, None, None]
            return found
        support = np.stack([weights[:, self.truth == k].sum(axis=1) for k in range(self.classes)])  # (K, B)
        total = np.zeros((len(weights), *self.answers.shape[:2]))
        for k, there in enumerate(support):
            hits = np.einsum("bm,jsm->bjs", weights, right & (self.truth == k))
            told = np.einsum("bm,jsm->bjs", weights, self.answers == k)
            total += (there > 0)[:, None, None] * 2 * hits / np.maximum(told + there[:, None, None], 1)
        averaged: Floats = total / (support > 0).sum(axis=0)[:, None, None]
        return averaged


def nested(labels: Ints, groups: Ints | None, fraction: float, seed: int) -> Ints:
    """Rows (n,), ascending, of a share of the images: of each class at least one; a larger share holds a smaller one.

    The order is keyed; images of one group follow each other, so that at most one group of a class is cut.
    """
    units = np.arange(len(labels)) if groups is None else groups
    hashed = splitmix64(units.astype(np.uint64) + np.uint64(key(seed, "learning-curve")))
    kept = []
    for code in np.unique(labels):
        own = np.flatnonzero(labels == code)
        first = np.lexsort((own, hashed[own]))[: int(np.ceil(round(fraction * len(own), 9)))]
        kept.append(own[first])
    return np.sort(np.concatenate(kept)).astype(np.int64)


def trace(
    train: Probes,
    held_out: Probes,
    *,
    classes: int,
    seed: int,
    seeds: int,
    watched: Watched,
    fractions: Sequence[float] = FRACTIONS,
) -> Curve:
    """Solve a head for each size and seed.

    C is chosen once a size, by cross-validation on the subset of the first seed. With all images there is one subset.
    """
    sizes, strengths, answers = [], [], []
    with watched("solving the heads") as progress, threadpool_limits(1, user_api="blas"):
        for place, fraction in enumerate(fractions):
            subsets = [nested(train.labels, train.groups, fraction, key(seed, number)) for number in range(seeds)]
            c = _strength(train.select(subsets[0]), classes, seed)
            told = list[Ints]()
            for number, rows in enumerate(subsets):
                progress(place * seeds + number, len(fractions) * seeds)
                alike = number > 0 and np.array_equal(rows, subsets[0])
                told.append(told[0] if alike else _answers(train.select(rows), held_out, classes, c))
            sizes.append(len(subsets[0]))
            strengths.append(c)
            answers.append(np.stack(told))
    shares = tuple(map(float, fractions))
    return Curve(shares, np.array(sizes), tuple(strengths), np.stack(answers), held_out.labels, classes)


def _strength(probes: Probes, classes: int, seed: int) -> float:
    """C, as a solved head has it."""
    about: dict[str, Any] = {"groups": probes.groups, "weights": probes.weights, "seed": seed}
    return solve_head(probes.values, torch.from_numpy(probes.labels), classes=classes, **about).c


def _answers(train: Probes, held_out: Probes, classes: int, c: float) -> Ints:
    """What a head that was fitted to some images answers to others, int64 (m,)."""
    taken = Scaled.of(train.values.numpy())
    fit = Fit(classes, TOLERANCE, lambda: None)
    weight, bias = fit(taken.rows(), train.labels, train.weights, c)
    weight = taken.back(weight) * taken.scale
    logits = held_out.values.numpy() @ weight.T + (bias - weight @ taken.mean)
    found: Ints = logits.argmax(axis=1).astype(np.int64)
    return found


def measure(setup: Setup, watched: Watched, *, seeds: int = SEEDS) -> Curve:
    """The curve of a data set: subsets of train, scored on validation. Test is not looked at.

    Raises:
        UsageError: if images have several labels.
        DataError: if there is no validation split.
        DeviceError: if the features are too many for the solver.
    """
    index, classes = setup.index, len(setup.index.classes)
    if index.task == "multilabel":
        raise UsageError(
            "learning-curve measures data with one label an image, and these have several (multi-label).",
            "Measure one label at a time, by a table that has a column for it:  --label-col COLUMN --task single",
        )
    rows = {split: index.rows(split) for split in ("train", "val")}
    if not len(rows["val"]):
        raise no_validation(index)
    if len(np.unique(index.labels()[rows["train"]])) < 2:
        raise DataError("There is one class, so there is nothing to learn.", "It takes images of two classes or more.")
    width, trunk = head_layer(setup.model).weight.shape[1], Trunk(setup)
    if not fits(len(rows["train"]), width, classes):
        raise DeviceError(
            f"{len(rows['train']):,} images × {width:,} features are too many to solve a head in memory.",
            "Measure fewer images: a table of some of them as --data.",
        )
    with memory_told(DeviceError(f"Out of memory on {setup.device} while the heads were solved.", BY_SGD)):
        features = trunk.plain(np.concatenate([rows["train"], rows["val"]]).tolist(), watched)
        n, labels = len(rows["train"]), features.targets.numpy()
        groups = None if index.groups is None else index.groups[rows["train"]]
        train = Probes(features.values[:n], labels[:n], groups, class_weights_of(setup, labels[:n]))
        held_out = Probes(features.values[n:], labels[n:])
        curve = trace(train, held_out, classes=classes, seed=setup.recipe.seed, seeds=seeds, watched=watched)
    return replace(curve, computed=trunk.computed)


def sentence(found: Extrapolation | str, name: str = "macro F1") -> str:
    """What more images would bring, or that nothing is said and why."""
    if isinstance(found, str) or found.refused:
        why = found if isinstance(found, str) else found.refused
        return f"No extrapolation of {name}: {why}."
    low, high = (_signed(end) for end in found.interval)
    times = "Twice" if found.factor == 2 else f"{found.factor:g} times"
    return f"{times} the images would bring about {_signed(found.gain)} {name} (95 % interval {low} to {high})."


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def write(curve: Curve, out: Path) -> None:
    """Write points.csv, a row a size and seed, and learning-curve.json, with the fits.

    Raises:
        DiskError: if they cannot be written.
    """
    with disk_told(out):
        out.mkdir(parents=True, exist_ok=True)
        with whole_file(out / POINTS, newline="") as stream:
            sheet = Rows(stream)
            sheet.writerow(("fraction", "images", "seed", "c", *SCORES))
            scores = [curve.scores(score) for score in SCORES]
            for place, fraction in enumerate(curve.fractions):
                for seed in range(curve.answers.shape[1]):
                    told = (f"{float(one[place, seed]):.6f}" for one in scores)
                    sheet.writerow((fraction, int(curve.sizes[place]), seed, curve.strengths[place], *told))
        with whole_file(out / SUMMARY) as stream:
            stream.write(json.dumps(summary(curve), indent=1, sort_keys=True, allow_nan=False) + "\n")


def summary(curve: Curve) -> dict[str, Any]:
    """The content of learning-curve.json."""
    fits_of: dict[str, Any] = {}
    for score in SCORES:
        found = curve.extrapolated[score]
        fits_of[score] = {"refused": found} if isinstance(found, str) else asdict(found)
        fits_of[score] |= {"mean": curve.scores(score).mean(axis=1).round(6).tolist()}
    about = {"fractions": curve.fractions, "images": curve.sizes.tolist(), "c": curve.strengths}
    return {"schema": 1, **about, "held_out": len(curve.truth), "seeds": curve.answers.shape[1], "scores": fits_of}
