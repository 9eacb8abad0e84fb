"""Turns batches into better weights: the gradient step.

The trainer knows tensors and the plan of a phase; no files, names or printing. Everything random in step `s` is seeded
by (seed, s), and every rate is a function of `s`, so nothing has to be remembered but weights, optimizer and averages.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from imgkit.ahead import Ahead
from imgkit.compiled import Run, compiled, compiler_told
from imgkit.data.batches import Batch
from imgkit.data.preprocessing import Preprocessing
from imgkit.depthwise import quick_depthwise
from imgkit.features import answer, load_solution
from imgkit.hits import NO_HITS, Hits, hits_of
from imgkit.keys import key, seed_everything
from imgkit.loss_scale import LossScale
from imgkit.losses import Loss
from imgkit.mixing import Mix, draw_mix
from imgkit.models.freeze import set_trainable, train_mode
from imgkit.models.recompute import set_grad_checkpointing, statistics_kept
from imgkit.optimizers import make_optimizer, set_rates
from imgkit.recipe.plan import PhasePlan
from imgkit.schedules import make_schedule
from imgkit.shares import ALONE, Given, Shards, ShardSums, parts_of
from imgkit.solve import Solution
from imgkit.sync_norm import synced
from imgkit.update_faults import diverged, finite, one_image_told
from imgkit.world import World


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
        self._coming = Ahead(iter(()), device)
        self._run: Run | None = None
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
        self._run = compiled(self.model) if phase.settings.compile and phase.train != "head" else None
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
        self,
        phase: PhasePlan,
        batches: Iterator[Batch],
        start: int,
        lowered: Callable[[], float] = lambda: 1.0,
        shards: Shards = ALONE,
    ) -> Iterator[Update]:
        """Make the updates `start`..`phase.stop - 1` from `batches`, yielding after each one.

        The caller may evaluate or save between two updates: the next one seeds everything anew. Before each, `lowered`
        gives what the scheduled rate is multiplied by, in [0, 1]. `shards` says which part of each batch is given.

        Raises:
            DivergedError: if loss or gradient stop being finite; the weights are those before that step. In float16
                a gradient may overflow: that update is skipped, and only too many of them in a row are an error.
        """
        factor = make_schedule(phase.schedule, steps=phase.steps, steps_per_epoch=phase.steps_per_epoch)

        def rate(step: int) -> float:
            return (phase.lr or 0.0) * factor((step - phase.first_step) / phase.steps) * lowered()

        yield from self.train_at(phase, batches, start, rate, shards)

    def train_at(
        self,
        phase: PhasePlan,
        batches: Iterator[Batch],
        start: int,
        rate: Callable[[int], float],
        shards: Shards = ALONE,
    ) -> Iterator[Update]:
        """As `train`, at the rate of the head group that `rate` gives for each step; rank 0's decides for all."""
        loss_of, whole = self.loss_of(phase), phase.settings.micro_batch is None
        with closing(Ahead(batches, self.device, whole=whole)) as self._coming:
            for step in range(start, phase.stop):
                with shards.joint(rate(step)) as joint:
                    update = self._update(phase, next(self._coming), step, joint["lr"], loss_of, shards)
                    if phase.ends_epoch(update.step):
                        shards.check(self.model, update.step)
                yield update

    def _update(self, phase: PhasePlan, batch: Batch, step: int, lr: float, loss_of: Loss, shards: Shards) -> Update:
        assert self._optimizer is not None
        train_mode(self.model, batch_norm=phase.settings.batch_norm)
        set_rates(self._optimizer, lr)
        loss, hits = self._backward(phase, batch, step, loss_of, shards)
        if self._loss_scale is not None:
            self._loss_scale.unscale(self._optimizer)
        parameters = list(self.model.parameters())
        total = torch.nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])
        if phase.settings.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, phase.settings.clip_norm, total)
        norm = float(total)  # device sync
        overflowed = self._loss_scale is not None and not finite(norm)
        if not (finite(loss) and (finite(norm) or overflowed)):
            error = diverged(loss, norm, step, phase, lr, self.preprocessing.size, self.autocast)
            error.rows = shards.some(self._odd) or batch.ids.tolist()
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
        images, _ = shards.images(len(batch.ids), phase.settings.batch_size)
        return Update(step + 1, loss, norm, lr, images, overflowed, hits)

    def _backward(self, phase: PhasePlan, batch: Batch, step: int, loss_of: Loss, shards: Shards) -> tuple[float, Hits]:
        """Add up the gradient of the batch's mean loss over shards and micro-batches; returns that loss, and the hits.

        Where the phase mixes pictures, it is the whole batch that is mixed, so that a micro-batch changes nothing.
        """
        n, size = shards.images(len(batch.ids), phase.settings.batch_size)
        mix = draw_mix(phase.augment, key(self.seed, "mix", step), self.preprocessing.size, phase.strength(step))
        given = Given.of(batch, size * len(shards.own), mixed=mix is not None)
        parts, sums, found = parts_of(size, phase.settings.micro_batch or size), ShardSums(self.model, shards), []
        for place, shard in enumerate(shards.own):
            loss, hits = 0.0, NO_HITS
            for part, rows in enumerate(parts):
                seed_everything(key(self.seed, "step", step, shard * len(parts) + part))
                here = slice(place * size + rows.start, place * size + rows.stop)
                part_loss, part_hits = self._backward_part(phase, given, here, mix, loss_of, n, shards.world)
                loss, hits = loss + part_loss, hits.plus(part_hits)
            found.append([loss, *hits, sums.take()])
        every = shards.meet(found)
        assert all(row[-1] == found[0][-1] for row in every), "each shard has the gradient of the same parameters"
        sums.put()
        return sum(row[0] for row in every), Hits(*(int(sum(row[at] for row in every)) for at in (1, 2, 3)))

    def _backward_part(
        self, phase: PhasePlan, given: Given, rows: slice, mix: Mix | None, loss_of: Loss, n: int, world: World | None
    ) -> tuple[float, Hits]:
        """Add up the gradient of what some rows are of the mean loss of n; returns that loss, and the hits."""
        pixels, targets = self._pixels(given.own.images[rows]), self._sent(given.own.targets[rows])
        if mix is not None and given.partners is not None:
            pixels = mix.images(pixels, self._pixels(given.partners[0][rows]))
        autocast = torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None)
        sync = synced(world if phase.settings.batch_norm == "sync" else None)
        with autocast, one_image_told(phase), sync:
            logits = answer(self.model, pixels, self._run)
        if mix is not None and given.partners is not None:
            targets = mix.targets(targets, self._sent(given.partners[1][rows]), logits.shape[1])
        loss: Tensor = loss_of(logits.float(), targets) * (len(targets) / n)
        scaled = loss if self._loss_scale is None else self._loss_scale.scaled(loss)
        kept = statistics_kept(self.model) if self._recomputes else nullcontext()
        told = nullcontext() if self._run is None else compiler_told()
        again = synced(world if phase.settings.batch_norm == "sync" and self._recomputes else None)
        with kept, told, again, quick_depthwise(self.device, self.autocast):
            scaled.backward()
        self._coming.fetch()
        hits = NO_HITS
        if targets.dtype == torch.int64:
            part_loss, top1, topk = torch.cat([loss.detach()[None], hits_of(logits, targets)]).tolist()  # device sync
            hits = Hits(len(targets), int(top1), int(topk))
        else:
            part_loss = loss.item()  # device sync
        if not finite(part_loss):
            self._odd += given.own.ids[rows][~logits.detach().isfinite().all(dim=1).cpu()].tolist()
        return part_loss, hits

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
                        slot: _placed(slot, value, parameter, group) for slot, value in self._slots[name].items()
                    }


def _placed(slot: str, value: object, parameter: Tensor, group: Mapping[str, Any]) -> object:
    """A moment as the optimizer of a group keeps it: on the parameter's device and in its memory layout.

    A count of updates, `step`, stays where it is, but for a fused optimizer, whose kernel reads it.
    """
    if not isinstance(value, Tensor):
        return value
    if slot == "step":
        return value.to(parameter.device) if group.get("fused") else value
    like = parameter if value.shape == parameter.shape else value.to(parameter.device)
    return torch.empty_like(like, dtype=value.dtype).copy_(value)
