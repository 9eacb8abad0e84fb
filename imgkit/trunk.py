"""The trunk as a fixed function of training pictures: computed once, or taken from what earlier runs have kept."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from inspect import getsource
from typing import Any

import torch

from imgkit.data import augment, decode, effects, framing, preprocessing
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import Place, augment_key, batches_at
from imgkit.data.preprocessing import Preprocessing
from imgkit.device import describe, versions
from imgkit.feature_store import FeatureStore, Rows, name_of
from imgkit.features import BATCH, Features, digest, extract, head_layer
from imgkit.setup import Setup

_CODE = (decode, preprocessing, framing, effects, augment)  # what makes pixels of a file


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
        return name_of(digest, f"{settings} {augment_key(self.seed, place)} {strength!r}".encode())


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

    def _values(self, uses: Uses) -> Iterator[Rows]:
        def compute(chosen: Sequence[int]) -> Iterator[Rows]:
            setup = self._setup
            batches = batches_at(
                setup.index,
                [uses.places[n] for n in chosen],
                transform=uses.transform,
                seed=uses.seed,
                batch_size=BATCH,
                workers=setup.workers,
                max_pixels=setup.recipe.data.max_pixels,
            )
            self.computed += len(chosen)
            with closing(batches):
                for values in extract(setup.model, batches, preprocessing=setup.preprocessing, device=setup.device):
                    yield values.numpy()

        if self.store is None:
            return compute(range(len(uses.places)))
        hashes = self._setup.index.hashes
        names = [uses.name(place, hashes[place[1]].tobytes()) for place in uses.places]
        return self.store.rows(names, compute, head_layer(self._setup.model).weight.shape[1])


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
