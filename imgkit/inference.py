"""The network of `predict`: float32 at first, then the fastest format whose answers are those of float32."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from imgkit.device import has_half, memory_format
from imgkit.errors import UsageError, ran_out, suggestion
from imgkit.metrics import check_finite
from imgkit.models.fold import fold_batch_norms
from imgkit.precision import FORMATS, format_name

if TYPE_CHECKING:
    from imgkit.models.folder import LoadedModel

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Probabilities = npt.NDArray[np.float64]

FEW = 64
"""Images that `auto` answers in float32 before it looks for a faster format: on fewer, looking takes longer."""
WITHIN = {None: 1e-4, torch.bfloat16: 0.02, torch.float16: 0.02}
"""How far a probability may be from float32's, by autocast; None: float32 with folded batch norms."""
WITHIN_QUICK = 0.02
"""The same where pictures were resized by torch, too."""
_FASTER = 0.9  # share of float32's time that a narrower format may take
_TRIALS = 3  # passes of each, in turn; the first one warms up
_TRIED = 8  # images of a trial pass on a CPU


def check_precision(name: str) -> None:
    """See that a format is known.

    Raises:
        UsageError: if it is none of `Precision`.
    """
    known = get_args(Precision)
    if name not in known:
        raise UsageError(
            f"--precision {name!r} is not known{suggestion(name, known)}.", f"Use one of: {', '.join(known)}."
        )


class Network:
    """Calibrated probabilities of batches of pictures.

    "float32" is the network as `evaluate` has it, always. "bfloat16" and "float16" are autocast, batch norms folded,
    unchecked. "auto" begins as float32. After `FEW` images it folds batch norms, and computes in half precision where
    that is measured to be faster, and asks for pictures that torch resized; each only if a batch has the answers that
    float32 gave, `WITHIN` its probabilities. Once it has chosen, several threads may ask it at once. In each a picture
    whose answer is not finite, as where float16 overflows, is asked again as float32.

    Attributes:
        loaded: as given.
        device: where it runs.
        settled: whether what is left to choose is chosen, and answers need not be the bits of `evaluate`.
        quick: whether pictures may be made by `Preprocessing.quick`.

    Args:
        loaded: the network and its calibration; the network is moved to `device` and put into evaluation mode.
        device: where it runs.
        precision: see above.
        told: told once which format `auto` found, and why, and whether torch resizes.

    Raises:
        UsageError: if there is no such precision.
    """

    def __init__(
        self,
        loaded: "LoadedModel",
        device: torch.device,
        precision: Precision = "auto",
        told: Callable[[str], object] | None = None,
    ) -> None:
        check_precision(precision)
        self.loaded, self.device, self._told = loaded, device, told
        loaded.model.to(device, memory_format=memory_format(device)).eval()  # type: ignore[call-overload]
        self._model, self._autocast = loaded.model, FORMATS.get(precision)
        self._seen, self.quick = 0, False
        self._open, self._to_fold = precision == "auto", self._autocast is not None

    @property
    def settled(self) -> bool:
        """See above."""
        chosen = not self._open and not self._to_fold
        return chosen and (self._model is not self.loaded.model or self._autocast is not None)

    def __call__(
        self, images: Sequence[torch.Tensor], again: Callable[[], Sequence[torch.Tensor | str]] | None = None
    ) -> Probabilities:
        """Images, each uint8 (C, H, W) -> probabilities (B, K).

        `again` makes the same images by `Preprocessing.quick`, or says why one is gone.

        Raises:
            DivergedError: if an answer is not finite in float32 either.
        """
        if not images:
            return np.empty((0, len(self.loaded.classes)))
        batch = torch.stack(list(images)).to(self.device)
        if self._to_fold:
            self._to_fold, self._model = False, self._folded(batch)
        answers = self._answers(self._model, batch, self._autocast)
        lost = ~np.isfinite(answers).all(axis=1)
        if lost.any() and (self._model is not self.loaded.model or self._autocast is not None):
            answers[lost] = self._answers(self.loaded.model, batch[torch.from_numpy(lost)], None)
        check_finite(answers)
        self._seen += len(images)
        if self._open and self._seen >= FEW:
            self._open = False
            why = self._choose(batch, answers)
            if again is not None and self.settled:
                quick = [image for image in again() if not isinstance(image, str)]
                self.quick = len(quick) == len(batch) and self._agrees(
                    self._model, torch.stack(quick).to(self.device), answers, self._autocast, WITHIN_QUICK
                )
            if self._told is not None:
                why += "; images resized by torch" * self.quick
                self._told(f"precision after {self._seen} images: {why} (--precision float32: exact)")
        return answers

    def _folded(self, batch: torch.Tensor) -> nn.Module:
        """A copy with folded batch norms, as one picture of the batch shows them; else the network as it is."""
        try:
            return fold_batch_norms(self.loaded.model, self._input(batch[:1]))[0]
        except Exception as error:  # a plugin's network may not be one to copy, and works all the same
            if ran_out(error):
                raise
            return self.loaded.model

    def _input(self, batch: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> float32, what the network reads."""
        return self.loaded.preprocessing.normalise(batch).contiguous(memory_format=memory_format(self.device))

    def _answers(self, model: nn.Module, batch: torch.Tensor, autocast: torch.dtype | None) -> Probabilities:
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=autocast, enabled=autocast is not None):
            logits = model(self._input(batch)).float().cpu().numpy()  # device sync
        return self.loaded.calibration.probabilities(logits)

    def _choose(self, batch: torch.Tensor, answers: Probabilities) -> str:
        """Take the fastest format that gives `answers` to the batch, where memory runs out the one that is; say why."""
        try:
            model = self._folded(batch)
            half = has_half(self.device)
            fits = self._agrees(model, batch, answers, None)
            words = "as it is" if model is self.loaded.model else "batch norms folded"
            if not fits:
                model, words = self.loaded.model, "as it is: folded batch norms changed its answers"
            self._model, why = model, f"float32, {words}"
            if half is not None:
                why = self._try(half, batch, answers) or f"{why}: {format_name(half)} is not faster"
        except Exception as error:
            why = "no memory to try another format" if ran_out(error) else f"another format failed ({error!r:.80})"
            self._model, self._autocast, why = self.loaded.model, None, f"float32: {why}"
        return why

    def _try(self, half: torch.dtype, batch: torch.Tensor, answers: Probabilities) -> str:
        """Take half precision if it is faster and agrees, and say why or why not; "" where it is not faster."""
        slow, fast = self._seconds((None, half), batch)
        if fast > _FASTER * slow:
            return ""
        name = format_name(half)
        if not self._agrees(self._model, batch, answers, half):
            return f"float32: {name} gave other answers, or probabilities {WITHIN[half]} away"
        self._autocast = half
        checked = f"same answers within {WITHIN[half]} on {len(batch)} images, checked on those alone"
        return f"{name}, {fast / slow:.0%} of float32's time; {checked}"

    def _agrees(
        self,
        model: nn.Module,
        batch: torch.Tensor,
        answers: Probabilities,
        autocast: torch.dtype | None,
        within: float | None = None,
    ) -> bool:
        """Whether a format has the same top classes, or sets of labels, and probabilities `within` or as `WITHIN`."""
        found, thresholds = self._answers(model, batch, autocast), self.loaded.calibration.thresholds
        if not np.abs(found - answers).max() <= (within or WITHIN[autocast]):  # NaN is not
            return False
        if thresholds is None:
            return np.array_equal(found.argmax(1), answers.argmax(1))
        least = np.array([thresholds[name] for name in self.loaded.classes])
        return np.array_equal(found >= least, answers >= least)

    def _seconds(self, formats: Sequence[torch.dtype | None], batch: torch.Tensor) -> tuple[float, ...]:
        """The quickest pass of the network in each format."""
        images = batch[:_TRIED] if self.device.type == "cpu" else batch
        best = [float("inf")] * len(formats)
        for number in range(_TRIALS):
            for place, autocast in enumerate(formats):
                began = time.perf_counter()
                self._answers(self._model, images, autocast)
                if number:
                    best[place] = min(best[place], time.perf_counter() - began)
        return tuple(best)
