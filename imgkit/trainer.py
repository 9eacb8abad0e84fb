"""Turns batches into better weights: the gradient step.

The trainer knows tensors and the plan of a phase; no files, names or printing. Everything random in step `s` is seeded
by (seed, s), and every rate is a function of `s`, so nothing has to be remembered but weights, optimizer and averages.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from imgkit.data.batches import Batch
from imgkit.data.preprocessing import Preprocessing
from imgkit.depthwise import quick_depthwise
from imgkit.errors import DivergedError, UsageError
from imgkit.features import answer, load_solution
from imgkit.hits import NO_HITS, Hits, hits_of
from imgkit.keys import key, seed_everything
from imgkit.loss_scale import WIDER, LossScale
from imgkit.losses import Loss
from imgkit.mixing import draw_mix, partners
from imgkit.models.freeze import set_trainable, train_mode
from imgkit.models.recompute import set_grad_checkpointing, statistics_kept
from imgkit.optimizers import make_optimizer, set_rates
from imgkit.recipe.plan import PhasePlan
from imgkit.schedules import make_schedule
from imgkit.solve import Solution

_SMALLEST = 32  # px: most networks halve an image five times, so nothing is left of a smaller one


@dataclass(frozen=True)
class Update:
    """What one optimizer update did. `step` counts updates done; `loss` is the mean over `images` images.

    A `skipped` update changed no weight: its gradient overflowed in float16, and its norm is not finite. `hits` are of
    the pictures as they were trained on, before the update; of none where these were mixed or have sets of labels.
    """

    step: int
    loss: float
    grad_norm: float
    lr: float
    images: int
    skipped: bool = False
    hits: Hits = NO_HITS


class Trainer:
    """The network while it learns.

    Args:
        model: gives logits (B, K); lies on `device`.
        preprocessing: normalises images on the device.
        device: where the arithmetic happens.
        autocast: dtype of mixed precision, or None for float32 throughout; float16 has a loss scale.
        seed: of the run.
        loss_of: makes the loss of a phase.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        preprocessing: Preprocessing,
        device: torch.device,
        autocast: torch.dtype | None,
        seed: int,
        loss_of: Callable[[PhasePlan], Loss],
    ) -> None:
        self.model = model
        self.preprocessing = preprocessing
        self.device = device
        self.autocast = autocast
        self.seed = seed
        self.loss_of = loss_of
        self.averaged: ModelEmaV3 | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._slots: dict[str, dict[str, Any]] = {}
        self._slots_of = ""
        self._loss_scale = LossScale(device) if autocast is torch.float16 else None
        self._recomputes = False
        self._odd: list[int] = []  # rows whose answers were not finite
        self._count: int | Tensor = 0  # some of timm's optimizers count their steps in the group: adan, lamb

    @property
    def scored_model(self) -> nn.Module:
        """The network whose weights are evaluated and kept: the averaged one where averaging is on."""
        return self.model if self.averaged is None else self.averaged.module

    def begin(self, phase: PhasePlan) -> None:
        """Enter a phase: what trains, the averages, and an optimizer that keeps the moments of parameters it knew.

        Rate, momentum, decay and all else that a recipe sets are the phase's: of the state before, only moments are
        taken over, whether they were in memory or in a checkpoint.
        """
        self._remember_moments()
        set_trainable(self.model, phase.train)
        self._recomputes = phase.settings.grad_checkpointing
        set_grad_checkpointing(self.model, self._recomputes)
        self._optimizer = None
        if phase.settings.ema == 0.0:
            self.averaged = None
        elif self.averaged is None:
            self.averaged = ModelEmaV3(self.model, decay=phase.settings.ema, use_warmup=True)
        if self.averaged is not None:
            self.averaged.decay = phase.settings.ema
        if phase.lr is not None:
            self._optimizer = make_optimizer(self.model, phase.settings, phase.lr)
            if self._slots_of != phase.settings.optimizer:
                self._slots_of, self._slots, self._count = phase.settings.optimizer, {}, 0
            self._restore_moments(self._optimizer)

    def forget(self) -> None:
        """Drop the moments of every parameter, and the count of updates beside them: the next phase begins anew."""
        self._optimizer, self._slots, self._count = None, {}, 0

    def solve(self, solution: Solution) -> None:
        """Put a solved head in place; the averages start again from it."""
        load_solution(self.model, solution)
        if self.averaged is not None:
            self.averaged.set(self.model)

    def train(
        self, phase: PhasePlan, batches: Iterator[Batch], start: int, lowered: Callable[[], float] = lambda: 1.0
    ) -> Iterator[Update]:
        """Make the updates `start`..`phase.stop - 1` from `batches`, yielding after each one.

        The caller may evaluate or save between two updates: the next one seeds everything anew. Before each, `lowered`
        gives what the scheduled rate is multiplied by, in [0, 1].

        Raises:
            DivergedError: if loss or gradient stop being finite; the weights are those before that step. In float16
                a gradient may overflow: that update is skipped, and only too many of them in a row are an error.
        """
        factor = make_schedule(phase.schedule, steps=phase.steps, steps_per_epoch=phase.steps_per_epoch)

        def rate(step: int) -> float:
            return (phase.lr or 0.0) * factor((step - phase.first_step) / phase.steps) * lowered()

        yield from self.train_at(phase, batches, start, rate)

    def train_at(
        self, phase: PhasePlan, batches: Iterator[Batch], start: int, rate: Callable[[int], float]
    ) -> Iterator[Update]:
        """As `train`, at the rate of the head group that `rate` gives for each step."""
        loss_of = self.loss_of(phase)
        for step in range(start, phase.stop):
            yield self._update(phase, next(batches), step, rate(step), loss_of)

    def _update(self, phase: PhasePlan, batch: Batch, step: int, lr: float, loss_of: Loss) -> Update:
        assert self._optimizer is not None
        train_mode(self.model, batch_norm=phase.settings.batch_norm)
        set_rates(self._optimizer, lr)
        loss, hits = self._backward(phase, batch, step, loss_of)
        if self._loss_scale is not None:
            self._loss_scale.unscale(self._optimizer)
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        largest = phase.settings.clip_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, largest))  # device sync
        overflowed = self._loss_scale is not None and not _finite(norm)
        if not (_finite(loss) and (_finite(norm) or overflowed)):
            error = _diverged(loss, norm, step, phase, lr, self.preprocessing.size, self.autocast)
            error.rows = self._odd or batch.ids.tolist()
            raise error
        if self._loss_scale is None:
            self._optimizer.step()
        else:
            self._loss_scale.step(
                self._optimizer, overflowed=overflowed, place=f"step {step + 1} of phase {phase.name!r}"
            )
        self._optimizer.zero_grad(set_to_none=True)
        if self.averaged is not None and not overflowed:
            self.averaged.update(self.model, step=step)
        return Update(step + 1, loss, norm, lr, len(batch.ids), overflowed, hits)

    def _backward(self, phase: PhasePlan, batch: Batch, step: int, loss_of: Loss) -> tuple[float, Hits]:
        """Add up the gradient of the batch's mean loss, a micro-batch at a time; returns that loss, and the hits.

        Where the phase mixes pictures, it is the whole batch that is mixed, so that a micro-batch changes nothing.
        """
        total, hits, n = 0.0, NO_HITS, len(batch.ids)
        mix = draw_mix(phase.augment, key(self.seed, "mix", step), self.preprocessing.size, phase.strength(step))
        others = None if mix is None else (partners(batch.images), partners(batch.targets))
        for part, rows in enumerate(_parts(n, phase.settings.micro_batch or n)):
            seed_everything(key(self.seed, "step", step, part))
            pixels, targets = self._pixels(batch.images[rows]), self._sent(batch.targets[rows])
            if mix is not None and others is not None:
                pixels = mix.images(pixels, self._pixels(others[0][rows]))
            autocast = torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None)
            with autocast, _one_image_told(phase):
                logits = answer(self.model, pixels)
            if mix is not None and others is not None:
                targets = mix.targets(targets, self._sent(others[1][rows]), logits.shape[1])
            loss: Tensor = loss_of(logits.float(), targets) * (len(targets) / n)
            scaled = loss if self._loss_scale is None else self._loss_scale.scaled(loss)
            kept = statistics_kept(self.model) if self._recomputes else nullcontext()
            with kept, quick_depthwise(self.device, self.autocast):
                scaled.backward()
            if targets.dtype == torch.int64:
                part_loss, top1, topk = torch.cat(
                    [loss.detach()[None], hits_of(logits, targets)]
                ).tolist()  # device sync
                hits = hits.plus(Hits(len(targets), int(top1), int(topk)))
            else:
                part_loss = loss.item()  # device sync
            total += part_loss
            if not _finite(part_loss):
                self._odd += batch.ids[rows][~logits.detach().isfinite().all(dim=1).cpu()].tolist()
        return total, hits

    def _pixels(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> float32 on the device, normalised; features (B, D) -> the same on the device."""
        sent = self._sent(images)
        return self.preprocessing.normalise(sent) if sent.dtype == torch.uint8 else sent

    def _sent(self, values: Tensor) -> Tensor:
        return values.to(self.device, non_blocking=True)

    def tensors(self) -> dict[str, Tensor]:
        """The optimizer's and the averages' tensors by name: `opt/PARAMETER/SLOT` and `ema/NAME`."""
        self._remember_moments()
        found = {
            f"opt/{name}/{slot}": value
            for name, slots in self._slots.items()
            for slot, value in slots.items()
            if isinstance(value, Tensor)
        }
        if self.averaged is not None:
            found |= {f"ema/{name}": value for name, value in self.averaged.module.state_dict().items()}
        return found

    def numbers(self) -> dict[str, Any]:
        """What is kept besides tensors, as JSON: the optimizer's name, its numbers by parameter, the loss scale."""
        self._remember_moments()
        plain = {
            name: {slot: value for slot, value in slots.items() if not isinstance(value, Tensor)}
            for name, slots in self._slots.items()
        }
        return {
            "optimizer": self._slots_of,
            "count": int(self._count),
            "count_is_tensor": isinstance(self._count, Tensor),
            "slots": {name: slots for name, slots in plain.items() if slots},
            "loss_scale": None if self._loss_scale is None else self._loss_scale.numbers(),
        }

    def restore(
        self, model: Mapping[str, Tensor], tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], phase: PhasePlan
    ) -> None:
        """Take up the state that `tensors` and `numbers` described, in the phase that it was saved in."""
        self.model.load_state_dict(model, strict=True)
        self._slots_of = numbers["optimizer"]
        self._count = torch.tensor(float(numbers["count"])) if numbers["count_is_tensor"] else numbers["count"]
        self._slots = {name: dict(slots) for name, slots in numbers["slots"].items()}
        if self._loss_scale is not None and numbers["loss_scale"] is not None:  # None: of a run in another format
            self._loss_scale.restore(numbers["loss_scale"])
        for path, value in tensors.items():
            kind, rest = path.split("/", 1)
            if kind == "opt":
                name, slot = rest.rsplit("/", 1)
                self._slots.setdefault(name, {})[slot] = value
        averages = {path[4:]: value for path, value in tensors.items() if path.startswith("ema/")}
        if averages:
            self.averaged = ModelEmaV3(self.model, decay=phase.settings.ema, use_warmup=True)
            self.averaged.module.load_state_dict(averages, strict=True)
        self.begin(phase)

    def _remember_moments(self) -> None:
        if self._optimizer is None:
            return
        self._slots |= {  # beside those of parameters that an earlier phase trained and a later one may train again
            name: dict(self._optimizer.state[parameter])
            for group in self._optimizer.param_groups
            for name, parameter in zip(group["names"], group["params"], strict=True)
            if self._optimizer.state.get(parameter)
        }
        self._count = deepcopy(self._optimizer.param_groups[0].get("step", 0))

    def _restore_moments(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            if int(self._count):
                group["step"] = deepcopy(self._count)
            for name, parameter in zip(group["names"], group["params"], strict=True):
                if name in self._slots:
                    optimizer.state[parameter] = {
                        slot: _placed(value, parameter) for slot, value in self._slots[name].items()
                    }


def _parts(n: int, size: int) -> list[slice]:
    """The rows of each micro-batch of a batch of `n`."""
    return [slice(start, start + size) for start in range(0, n, size)]


def _placed(value: object, parameter: Tensor) -> object:
    """A moment as the optimizer keeps it: on the parameter's device and in its memory layout."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    like = parameter if value.shape == parameter.shape else value.to(parameter.device)
    return torch.empty_like(like, dtype=value.dtype).copy_(value)


def _finite(number: float) -> bool:
    return number - number == 0.0


@contextmanager
def _one_image_told(phase: PhasePlan) -> Iterator[None]:
    """Batch norm has no variance of a single number: say which part of a batch has one image, and what to do."""
    try:
        yield
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        batch, micro = phase.settings.batch_size, phase.settings.micro_batch
        parts = f"a batch of {batch}" if micro is None else f"a batch of {batch} in parts of {micro}"
        raise UsageError(
            f"Batch norm in training mode needs two images at once where maps are 1×1, and phase {phase.name!r} takes "
            f"{parts}.",
            f"Keep its statistics: --set phases.{phase.name}.batch_norm=frozen; or take other parts, or larger images.",
        ) from error


def _diverged(
    loss: float,
    norm: float,
    step: int,
    phase: PhasePlan,
    lr: float,
    size: tuple[int, int],
    autocast: torch.dtype | None,
) -> DivergedError:
    what, value = ("gradient", norm) if _finite(loss) else ("loss", loss)
    small = f" Images of {size[0]}×{size[1]} px are likely too small: try --image-size {_SMALLEST} or more."
    # A loss scale acts on gradients alone: what overflows on the way to the loss, no smaller scale mends.
    narrow = f"\nIn float16 numbers above 65504 overflow. {WIDER}" * (autocast is torch.float16)
    rate = f"--set phases.{phase.name}.lr={(phase.lr or lr) / 10:.1g}"
    kind = "float32" if autocast is None else str(autocast).removeprefix("torch.")
    exact = "" if autocast in (None, torch.float16) else ", or with more exact numbers: --set train.precision=float32"
    return DivergedError(
        f"The {what} is {value} at step {step + 1} of phase {phase.name!r}, lr {lr:.3g}, in {kind}.",
        f"Start again with a tenth of the rate: {rate}{exact}{small * (min(size) < _SMALLEST)}{narrow}",
    )
