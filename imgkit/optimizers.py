"""Optimizers: timm's, by name, over what trains; each group of layers with its own rate and decay."""

from collections.abc import Collection
from fnmatch import fnmatch
from typing import Any

from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from imgkit.errors import RecipeError, suggestion
from imgkit.models.freeze import layer_groups
from imgkit.recipe.schema import TrainSettings
from imgkit.recipe.toml import value_text

_FUSED = (Adam, AdamW)  # SGD needs momenta of all parameters or of none, which a later phase may not have
_FUSED_ON = ("cpu", "cuda")


def make_optimizer(model: nn.Module, settings: TrainSettings, lr: float) -> Optimizer:
    """The optimizer of a phase over the parameters that ask for gradients.

    The rate of a group is `lr * lr_scale` with lr_scale = layer_decay ** (groups between it and the head), so the head
    has 1 (Clark et al. 2020). timm writes the scale into the groups too, but only its own schedulers apply it: here
    `set_rates` does. Weight decay leaves out vectors (norms), biases and the model's `no_weight_decay()`, unless
    `decay_all`.

    Args:
        model: after `set_trainable`.
        settings: optimizer, momentum, betas, eps, weight_decay, decay_all, layer_decay are read.
        lr: of the head.

    Returns:
        An optimizer whose groups have "lr_scale" and "names" (list[str], in the order of "params").

    Raises:
        RecipeError: for an unknown optimizer, one that cannot work here, or a value that it does not have.
        UsageError: for a layer decay of a model that does not know its layers.
    """
    check_optimizer(settings)
    name = settings.optimizer.lower()
    given = {"momentum": settings.momentum, "betas": settings.betas, "eps": settings.eps}
    values: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    groups = _groups(model, settings)
    assert groups, "set_trainable leaves at least the head"
    if get_optimizer_info(name).opt_class in _FUSED and groups[0]["params"][0].device.type in _FUSED_ON:
        values["fused"] = True  # all parameters in one pass of a kernel
    try:
        optimizer: Optimizer = create_optimizer_v2(groups, name, lr=lr, **values)
    except (AssertionError, ImportError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecipeError(f"The optimizer {name!r} cannot be made here: {reason}.", "Try adamw or sgd.") from error
    set_rates(optimizer, lr)
    return optimizer


def set_rates(optimizer: Optimizer, lr: float) -> None:
    """Give each group its rate: `lr * lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def check_optimizer(settings: TrainSettings) -> None:
    """See that there is such an optimizer and that it can work here, without a model.

    Raises:
        RecipeError: for an unknown optimizer, one that cannot work here, or a value that it does not have.
    """
    name = settings.optimizer.lower()
    known = [str(other) for other in list_optimizers()]
    if name not in known:
        raise RecipeError(
            f"Unknown optimizer {settings.optimizer!r}{suggestion(name, known)}.",
            f"Common are adamw, sgd, lamb, lion and muon; {len(known)} are known to timm.",
        )
    info = get_optimizer_info(name)
    if info.second_order:
        raise RecipeError(f"The optimizer {name!r} needs second derivatives, which are not computed.", "Try adamw.")
    if name.startswith("kron"):
        raise RecipeError(
            f"The optimizer {name!r} draws random numbers that a resumed run cannot repeat.", "Try adamw."
        )
    for key, value, has_it in (
        ("momentum", settings.momentum, info.has_momentum),
        ("betas", settings.betas, info.has_betas),
        ("eps", settings.eps, info.has_eps),
    ):
        if value is not None and not has_it:
            example = "adamw" if key != "momentum" else "sgd"
            raise RecipeError(
                f"The optimizer {name!r} has no {key}, but train.{key} is {value_text(value)}.",
                f"Leave it out, or take one that has it, such as {example}.",
            )
    if settings.betas is not None and len(settings.betas) != info.num_betas:
        raise RecipeError(
            f"The optimizer {name!r} has {info.num_betas} betas, but train.betas is {value_text(settings.betas)}.",
            "Give as many, or leave them out: then they are the optimizer's own.",
        )


def _groups(model: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """Parameter groups by depth and decay, from the stem to the head."""
    scales: dict[str, float] = {}
    if settings.layer_decay < 1.0:
        layers = layer_groups(model)
        scales = {
            name: settings.layer_decay ** (len(layers) - 1 - depth)
            for depth, names in enumerate(layers)
            for name in names
        }
    spared: Collection[str] = () if settings.decay_all else getattr(model, "no_weight_decay", tuple)()
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = settings.decay_all or not _is_spared(name, parameter.ndim, spared)
        scale, decay = scales.get(name, 1.0), settings.weight_decay if decays else 0.0
        group = groups.setdefault((scale, decay), {"params": [], "names": [], "lr_scale": scale, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    return [groups[place] for place in sorted(groups)]


def _is_spared(name: str, dimensions: int, patterns: Collection[str]) -> bool:
    return dimensions <= 1 or name.endswith(".bias") or any(fnmatch(name, pattern) for pattern in patterns)
