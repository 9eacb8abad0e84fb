"""The trunk as a fixed function of training pictures: computed once, or taken from what earlier runs have kept."""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from inspect import getsource
from typing import Any

import numpy as np
import torch

from imgkit.data import augment, decode, effects, framing, prepared, preprocessing
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import Batch, Place, augment_key, batches_at, train_places
from imgkit.data.preprocessing import Preprocessing
from imgkit.data.sampling import row_weights
from imgkit.decode_once import keep_phase
from imgkit.device import describe, versions
from imgkit.errors import UsageError
from imgkit.feature_store import FeatureStore, Rows, name_of
from imgkit.features import BATCH, Features, check_solvable, digest, extract, head_layer, left_by_a_solve, together
from imgkit.quantity import about_bytes
from imgkit.recipe.plan import PhasePlan
from imgkit.scoring import of_model
from imgkit.screen import Screen
from imgkit.setup import Setup
from imgkit.shares import in_rounds, positions
from imgkit.signals import Watched
from imgkit.solve import MAX_BYTES, machine_memory
from imgkit.world import current

_CODE = (decode, prepared, preprocessing, framing, effects, augment)  # what makes pixels of a file


@dataclass(frozen=True)
class Uses:
    """Uses of training pictures that are made alike.

    Attributes:
        transform: as in evaluation, or augmented.
        seed: of the augmentation.
        places: of the uses.
    """

    transform: TrainTransform | Preprocessing
    seed: int
    places: Sequence[Place]

    def name(self, place: Place, digest: bytes) -> bytes:
        """What sets the features of one use apart from all others of a trunk; `digest` is of the picture's file."""
        if isinstance(self.transform, Preprocessing):
            return name_of(digest)
        settings, strength = self.transform.augment.model_dump_json(), self.transform.ramp.strength(place[0])
        side = self.transform.prepared
        return name_of(digest, f"{settings} {augment_key(self.seed, place)} {strength!r} {side}".encode())


class Trunk:
    """What the trunk of a setup's network says of pictures, while its weights stay as they are.

    Attributes:
        computed: rows that no earlier run has kept.
        store: where rows are kept; None: nowhere (`run.feature_cache = false`).
    """

    def __init__(self, setup: Setup) -> None:
        self.computed = 0
        self.store = FeatureStore(_about(setup)) if setup.recipe.run.feature_cache else None
        self._setup = setup

    def features(self, uses: Uses) -> Iterator[Features]:
        """The features of uses of pictures in their order, some at a time."""
        index, places, done = self._setup.index, uses.places, 0
        for values in self._values(uses):
            taken = [row for _, row, _ in places[done : done + len(values)]]
            done += len(values)
            targets = torch.stack([torch.from_numpy(index.target(row)) for row in taken])
            yield Features(torch.from_numpy(values), targets, torch.tensor(taken))

    def plain(self, rows: Sequence[int], watched: Watched) -> Features:
        """The features of pictures as evaluation sees them, of at least one row of the index, in their order."""
        parts, done = [], 0
        with watched("features") as progress:
            for part in self.features(Uses(self._setup.preprocessing, 0, [(0, row, 0) for row in rows])):
                parts.append(part)
                done += len(part.ids)
                progress(done, len(rows))
        return together(parts)

    def told(self, total: int) -> str:
        """What came from earlier runs, of `total` rows, and why new ones are not kept; for people."""
        known = total - self.computed
        words = f" ({'all' if known == total else f'{known:,}'} kept by earlier runs)" if known else ""
        unkept = "" if self.store is None else self.store.unkept
        return words + (f"; they are not kept for later runs: {unkept}" if unkept else "")

    def _values(self, uses: Uses) -> Iterator[Rows]:
        def compute(chosen: Sequence[int]) -> Iterator[Rows]:
            self.computed += len(chosen)
            found = computed(self._setup, Uses(uses.transform, uses.seed, [uses.places[n] for n in chosen]))
            return (values.numpy() for values in found)

        if self.store is None:
            return compute(range(len(uses.places)))
        hashes = self._setup.index.hashes
        names = [uses.name(place, hashes[place[1]].tobytes()) for place in uses.places]
        return self.store.rows(names, compute, head_layer(self._setup.model).weight.shape[1])


def computed(setup: Setup, uses: Uses) -> Iterator[torch.Tensor]:
    """What the trunk says of uses of pictures, float32 (B, D), batch by batch; several ranks share the work."""
    world, places, width = current(), uses.places, head_layer(setup.model).weight.shape[1]
    own = places
    if world is not None:
        own = [places[at] for at in positions(len(places), BATCH, world.rank, world.size)]
        if world.leads:
            names = [phase.name for phase in setup.plan.phases if setup.transform(phase) == uses.transform]
            tensors = {**of_model(setup.model), "places": torch.tensor(places)}
            world.send("features", tensors, seed=uses.seed, phase=names[0] if names else None)
    batches = batches_at(
        setup.index,
        own,
        transform=uses.transform,
        seed=uses.seed,
        batch_size=BATCH,
        workers=setup.workers,
        max_pixels=setup.recipe.data.max_pixels,
        in_turn=setup.in_turn,
        warn=setup.warn,
    )
    with closing(batches):
        found = extract(setup.model, batches, preprocessing=setup.preprocessing, device=setup.device)
        yield from in_rounds(found, len(places), BATCH, width, world)


def phase_batches(
    setup: Setup, phase: PhasePlan, start: int, screen: Screen, watched: Watched
) -> Generator[Batch, None, None]:
    """The batches of updates `start`..`phase.stop - 1` of the run: of features where they are the same in each epoch.

    That is so where the head alone trains, on its last layer, and sees a fixed number of versions of each picture.
    """
    why = whole_network(setup, phase)
    if why is not None:
        if why:
            screen.note(f"phase {phase.name!r}: every update goes through the whole network, {why}")
        keep_phase(setup, phase, start, screen, watched)
        return setup.batches(phase, start - phase.first_step, phase.stop - phase.first_step)
    trunk, total = Trunk(setup), _pictures(setup, phase)
    values = torch.empty(total, head_layer(setup.model).weight.shape[1])
    done = 0
    with watched("features") as progress:
        for features in trunk.features(_versions(setup, phase)):
            values[done : done + len(features.ids)] = features.values
            done += len(features.ids)
            progress(done, total)
    screen.note(f"phase {phase.name!r} trains on features of {total:,} pictures{trunk.told(total)}")
    return _feature_batches(setup, phase, start, values)


def whole_network(setup: Setup, phase: PhasePlan) -> str | None:
    """Why updates cannot be made on features; "" where nobody would expect it; None where they can."""
    why = stays(setup, phase)
    if why is not None:
        return why
    if phase.augment.mixes:
        return "since its pictures are mixed (augment.mixup, augment.cutmix)"
    if not phase.views and phase.augmentation != "none":
        return (
            f"since its pictures are new ones in each epoch; with --set phases.{phase.name}.views=2 they are two "
            "versions of each, whose features are computed once"
        )
    if setup.recipe.model.drop_rate:
        return "since it drops units before the head (model.drop_rate)"
    return _too_large(setup, _pictures(setup, phase))


def stays(setup: Setup, phase: PhasePlan, split: str | None = None) -> str | None:
    """Why features of a picture do not stay for a phase, or those of a `split` not in memory; None where they do.

    It is "" where nobody would expect it: layers below the head train, or no feature is to be kept.
    """
    if phase.train != "head" or not setup.recipe.run.feature_cache:
        return ""
    try:
        images = torch.zeros(2, setup.preprocessing.channels, *setup.preprocessing.size, device=setup.device)
        check_solvable(setup.model, images)
    except UsageError:
        return "since its head is not one linear layer over features"
    if left_by_a_solve(setup.model):
        return "since other layers train with the last one"
    return None if split is None else _too_large(setup, len(setup.index.rows(split)))


def _too_large(setup: Setup, pictures: int) -> str | None:
    """Why the features of so many pictures are not held; None where they are."""
    size = 4 * pictures * head_layer(setup.model).weight.shape[1]
    if size > min(MAX_BYTES, machine_memory() // 4):
        return f"since its features would take {about_bytes(size)} of memory"
    return None


def _versions(setup: Setup, phase: PhasePlan) -> Uses:
    """What the epochs of a phase see, one version of each training picture after the other."""
    rows: list[int] = setup.index.rows("train").tolist()
    if phase.augmentation == "none":
        return Uses(setup.preprocessing, 0, [(0, row, 0) for row in rows])
    epochs = range(phase.first_epoch, phase.first_epoch + min(phase.views, phase.epochs))
    places = [(epoch, row, 0) for epoch in epochs for row in rows]
    return Uses(setup.transform(phase), setup.recipe.seed, places)


def _pictures(setup: Setup, phase: PhasePlan) -> int:
    return len(setup.index.rows("train")) * (1 if phase.augmentation == "none" else min(phase.views, phase.epochs))


def _feature_batches(setup: Setup, phase: PhasePlan, start: int, values: torch.Tensor) -> Generator[Batch, None, None]:
    """As `Setup.batches`, of features instead of pictures; `values` (V * N, D) are those of `_versions`."""
    rows = setup.index.rows("train")
    for places in train_places(
        rows,
        seed=setup.recipe.seed,
        first_epoch=phase.first_epoch,
        batch_size=phase.settings.batch_size,
        steps_per_epoch=phase.steps_per_epoch,
        start=start - phase.first_step,
        stop=phase.stop - phase.first_step,
        weights=row_weights(setup.index, rows, phase.settings.sampler),
        views=len(values) // len(rows),
    ):
        epochs, taken, _ = np.array(places).T
        at = (epochs - phase.first_epoch) * len(rows) + np.searchsorted(rows, taken)
        targets = torch.stack([torch.from_numpy(setup.index.target(row)) for row in taken])
        yield Batch(values[at], targets, torch.from_numpy(taken))


def _about(setup: Setup) -> dict[str, Any]:
    """All that the features of a setup have in common."""
    model = setup.recipe.model
    return {
        "form": 1,  # another one is due where `extract` computes otherwise
        "weights": digest(setup.model),
        "network": [setup.about["model"], model.in_chans, dict(model.options)],
        "preprocessing": setup.preprocessing.to_dict(),
        "plugins": setup.about.get("plugins", []),
        "machine": describe(setup.device),
        "versions": versions(),
        "code": hashlib.sha256("".join(map(getsource, _CODE)).encode()).hexdigest(),
    }
