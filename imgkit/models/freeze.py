"""What "frozen" means: no gradient, no decay, and batch norm, dropout and drop path as in evaluation."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from imgkit.errors import UsageError


def classifier_names(model: nn.Module) -> list[str]:
    """Names of the parameters of the head: the last layer, the one that gives the logits, or the several of `--head`.

    Raises:
        UsageError: if the model does not say which layer that is.
    """
    prefixes = classifier_prefixes(model)
    names = [name for name, _ in model.named_parameters() if name.startswith(prefixes)]
    if not names:
        raise UsageError(
            f"{type(model).__name__} does not say which layer is its classifier.",
            "Give the network a method get_classifier() that returns its last layer.",
        )
    return names


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """What the names of the head's tensors begin with ("fc."); empty where the model does not say."""
    get_classifier = getattr(model, "get_classifier", None)
    found = get_classifier() if get_classifier is not None else ()
    layers = {id(layer) for layer in (found if isinstance(found, tuple | list) else (found,))}
    prefixes = [name for name, layer in model.named_modules() if id(layer) in layers]
    # Some networks have a second classifier that get_classifier leaves out (volo's aux_head).
    listed = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    prefixes += [listed] if isinstance(listed, str) else list(listed)
    return tuple(f"{prefix}." for prefix in prefixes)


def layer_groups(model: nn.Module) -> list[list[str]]:
    """Parameter names by layer, from the stem to the head: timm's `group_matcher`, the classifier last and alone.

    What timm leaves beside the classifier is a group of its own, unless it is only norms and biases: those belong to
    the layer before them. Each parameter is in exactly one group; no group is empty.

    Raises:
        UsageError: if the model has no `group_matcher`.
    """
    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        raise UsageError(
            f"{type(model).__name__} does not say what its layers are (it has no group_matcher).",
            'Use train = "head" or "all", with layer_decay = 1.',
        )
    shapes = {name: parameter.ndim for name, parameter in model.named_parameters()}
    head = classifier_names(model)
    found: Mapping[int, list[str]] = group_parameters(model, matcher(coarse=False))
    last = max(found)
    groups: list[list[str]] = []
    for depth in sorted(found):
        group = [name for name in found[depth] if name not in head]
        if depth == last and groups and all(shapes[name] <= 1 for name in group):
            groups[-1] += group
        elif group:
            groups.append(group)
    return [*groups, head]


def set_trainable(model: nn.Module, what: str) -> None:
    """Ask for gradients of "head", "last:N" (the last N of `layer_groups`; 1 is the head) or "all", and of no others.

    Raises:
        UsageError: if there are fewer than N groups, or the model does not say what its head or layers are.
    """
    if what == "all":
        chosen = {name for name, _ in model.named_parameters()}
    elif what == "head":
        chosen = set(classifier_names(model))
    else:
        count = int(what.removeprefix("last:"))
        groups = layer_groups(model)
        if count > len(groups):
            raise UsageError(
                f"train = {what!r}: {type(model).__name__} has {len(groups)} groups of layers, the head among them.",
                f'Write "all", or "last:N" with N from 1 to {len(groups)}.',
            )
        chosen = {name for group in groups[-count:] for name in group}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)


def train_mode(model: nn.Module, *, batch_norm: str) -> None:
    """Put what trains into training mode and the rest into evaluation mode.

    A module with a trainable parameter anywhere below it trains; one whose parameters are all frozen does not. A module
    without parameters (dropout, drop path) goes with what it feeds: the next layer of its parent that has parameters,
    else the one before it, else its parent. So the dropout before a trained head works, and that of a frozen stem not.

    Args:
        model: after `set_trainable`.
        batch_norm: "train", "sync", or "frozen": statistics stay as they are even where scale and shift train. Norms
            that keep no statistics are not touched.
    """
    if _place(model) is None:
        model.eval()
    if batch_norm == "frozen":
        for module in model.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                _switch(module, False)


def learns_statistics(model: nn.Module) -> bool:
    """Whether some batch norm would take up statistics in training, after `set_trainable`; sets the modes for it."""
    train_mode(model, batch_norm="train")
    return any(
        module.training and isinstance(module, _BatchNorm) and module.running_mean is not None
        for module in model.modules()
    )


class _Learns(NamedTuple):
    """Whether any, the first and the last of a module's layers with parameters train."""

    any: bool
    first: bool
    last: bool


def _place(module: nn.Module) -> _Learns | None:
    """Set the mode of `module` and all below it; None (and nothing set) if there is no parameter."""
    own = [parameter.requires_grad for parameter in module._parameters.values() if parameter is not None]
    children = [(child, _place(child)) for child in module.children()]
    states = [state for _, state in children if state is not None]
    if not own and not states:
        return None
    learns = _Learns(
        any=any(own) or any(state.any for state in states),
        first=states[0].first if states else any(own),
        last=states[-1].last if states else any(own),
    )
    _switch(module, learns.any)
    for position, (child, state) in enumerate(children):
        if state is None:
            after = _states(children[position + 1 :])
            before = _states(reversed(children[:position]))
            following, preceding = next(after, None), next(before, None)
            mode = following.first if following else preceding.last if preceding else learns.any
            for part in child.modules():
                _switch(part, mode)
    return learns


def _switch(module: nn.Module, mode: bool) -> None:
    """Set `training`, unless it is so already: this runs at each step, and setting costs a microsecond or two."""
    if module.training is not mode:
        module.training = mode


def _states(children: Iterable[tuple[nn.Module, _Learns | None]]) -> Iterator[_Learns]:
    return (state for _, state in children if state is not None)
