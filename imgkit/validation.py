"""What a network answers on validation after each epoch; on features computed once, where the trunk stays as it is."""

import torch
from torch import nn

from imgkit.features import BATCH, answer, head_layer, together
from imgkit.recipe.plan import PhasePlan
from imgkit.scoring import Scores
from imgkit.setup import Setup
from imgkit.signals import Watched
from imgkit.trunk import Trunk, Uses, stays


class Validation:
    """Scores validation in the phases of a run, one after the other.

    Which way is taken follows from the phase and from the weights at that step alone, so a resume takes the same.
    """

    def __init__(self, setup: Setup, watched: Watched) -> None:
        self._setup, self._watched = setup, watched
        self._phase: PhasePlan | None = None
        self._stays = False
        self._features: torch.Tensor | None = None
        self._reader = setup.reader()

    def close(self) -> None:
        """End the processes that read pictures; until then they stay from one evaluation to the next."""
        self._reader.close()

    def begin(self, phase: PhasePlan) -> None:
        """Start the processes that read pictures, if a phase needs them, before its updates make this one large."""
        self._enter(phase)
        if not self._stays:
            self._reader.start()

    def _enter(self, phase: PhasePlan) -> None:
        if phase is not self._phase:
            self._phase, self._stays, self._features = phase, stays(self._setup, phase, "val") is None, None
            self._reader.close()

    def scores(self, model: nn.Module, phase: PhasePlan) -> Scores:
        """What `model` answers, at a step of `phase`: the setup's network, or the average of its weights.

        Without the cost of scoring where features are used, since that is not the network's.
        """
        setup = self._setup
        self._enter(phase)
        if not self._stays or not same_trunk(model, setup.model):
            return setup.score(model, "val", self._watched, reader=self._reader)
        if self._features is None:
            self._features = self._computed()
        rows = setup.index.rows("val")
        with torch.inference_mode():
            model = model.to(setup.device).eval()
            parts = [answer(model, part).float().cpu() for part in self._features.split(BATCH)]
        return Scores(torch.cat(parts)[: len(rows)].numpy(), setup.index.select(rows).targets(), rows)

    def _computed(self) -> torch.Tensor:
        """The features of all validation pictures, float32 (N, D), the last one again to whole batches."""
        setup = self._setup
        uses = Uses(setup.preprocessing, 0, [(0, row, 0) for row in setup.index.rows("val").tolist()])
        chunks, done = [], 0
        with self._watched("features of val") as progress:
            for chunk in Trunk(setup).features(uses):
                chunks.append(chunk)
                done += len(chunk.ids)
                progress(done, len(uses.places))
        values = together(chunks).values
        return torch.cat([values, values[-1:].expand(-len(values) % BATCH, -1)]).to(setup.device)


def same_trunk(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks of one kind have the same weights but for their head layers."""
    if one is other:
        return True
    head = {id(tensor) for tensor in head_layer(one).parameters()}
    theirs = other.state_dict()
    return all(
        id(tensor) in head or torch.equal(tensor, theirs[name])
        for name, tensor in one.state_dict(keep_vars=True).items()
    )
