"""Options of a network, `[model.options]`: what it takes besides what a recipe has keys of its own for."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import timm
import torch
from timm.models import model_entrypoint, split_model_name_tag
from torch import nn

from imgkit.errors import UsageError, suggestion
from imgkit.recipe.toml import value_text

_ELSEWHERE = {
    "num_classes": "Leave it out: the data say how many classes there are.",
    "in_chans": "Write  --set model.in_chans=1  for a network that reads greys.",
    "img_size": "Write  --image-size PIXELS  (model.image_size).",
    "drop_rate": "Write  --set model.drop_rate=X",
    "drop_path_rate": "Write  --set model.drop_path=X",
    **dict.fromkeys(
        ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"),
        "Write  --weights auto, none, FILE, part:FILE, package:NAME or hub:OWNER/NAME",
    ),
    **dict.fromkeys(
        ("features_only", "out_indices", "feature_cfg", "feature_cls", "pruned", "model_cfg", "kwargs_filter"),
        "Leave it out: what is trained is a network that gives logits.",
    ),
    **dict.fromkeys(
        ("device", "dtype", "scriptable", "exportable", "no_jit", "pretrained_strict", "pretrained_filter_fn"),
        "Leave it out: imgkit sets it.",
    ),
    "pretrained_model_args": "Leave it out: imgkit sets it.",
}
"""Arguments of networks that are no options: each with what to do about it."""


def takes(name: str, argument: str) -> bool:
    """Whether the function that is registered under a network's name names this argument itself."""
    return argument in inspect.signature(model_entrypoint(split_model_name_tag(name)[0])).parameters


def check_options(name: str, options: Mapping[str, Any], sizes: Mapping[str, Any]) -> None:
    """See that a network takes these options: it is laid out with them, without memory and without weights.

    Args:
        name: timm's, with or without tag.
        options: argument to value.
        sizes: further arguments that the network needs.

    Raises:
        UsageError: for an option that the network does not take, or a value that it cannot be made with.
    """
    for option in options:
        if option in _ELSEWHERE:
            raise UsageError(f"model.options.{option} is not an option of a network.", _ELSEWHERE[option])
    if not options:
        return
    made = _lay_out(name, {**sizes, **options})
    if isinstance(made, nn.Module):
        _see_taken(made, name, options)
    elif isinstance(_lay_out(name, sizes), nn.Module):  # else something other than the options is in the way
        raise options_refused(made, name, options)


def options_refused(error: Exception, name: str, options: Mapping[str, Any]) -> UsageError:
    """What to say where a network could not be made with `options`."""
    arch, text = split_model_name_tag(name)[0], str(error)
    unknown = re.search(r"unexpected keyword argument '(\w+)'", text)
    if unknown is not None and unknown[1] in options:
        return _unknown(arch, unknown[1])
    twice = re.search(r"multiple values for (?:keyword )?argument '(\w+)'", text)
    if twice is not None and twice[1] in options:
        return UsageError(
            f"{arch} sets {twice[1]} itself: model.options.{twice[1]} cannot change it.",
            "Leave it out, or name another network:  imgkit models",
        )
    given = ", ".join(f"{option} = {value_text(value)}" for option, value in options.items())
    reason = (text.splitlines() or [""])[0]
    if isinstance(error, ValueError | AssertionError) and reason:
        said = reason
    elif isinstance(error, TypeError):
        said = f"a value is of a kind that the option does not take (TypeError: {reason})"
    else:
        said = f"{type(error).__name__}: {reason}"
    return UsageError(f"{arch} cannot be made with model.options ({given}): {said}", _listed(arch))


def _lay_out(name: str, options: Mapping[str, Any]) -> nn.Module | Exception:
    """The network on the meta device, or why there is none."""
    try:
        with torch.device("meta"):
            model: nn.Module = timm.create_model(name, **options)
    except Exception as error:  # networks say in many ways what they cannot be made with
        return error
    return model


def _see_taken(model: nn.Module, name: str, options: Mapping[str, Any]) -> None:
    """A function that takes `**kwargs` and drops them would let a wrong option pass; timm's own pass theirs on.

    Raises:
        UsageError: for an option that neither the function nor the network's class names.
    """
    if hasattr(model, "pretrained_model_args"):  # timm's builder made it
        return
    arch = split_model_name_tag(name)[0]
    known = set(_names(model_entrypoint(arch), type(model)))
    for option in options:
        if option not in known:
            raise _unknown(arch, option)


def _unknown(arch: str, option: str) -> UsageError:
    near = suggestion(option, _options(arch))
    return UsageError(f"{arch} does not take the option {option!r} (model.options.{option}){near}.", _listed(arch))


def _listed(arch: str) -> str:
    known = _options(arch)
    return f"Its options: {', '.join(known)}." if known else f"{arch} has no options: leave them out."


def _options(arch: str) -> list[str]:
    """The options of a network, in its own order."""
    made = _lay_out(arch, {})
    return list(dict.fromkeys(_names(model_entrypoint(arch), type(made) if isinstance(made, nn.Module) else None)))


def _names(entrypoint: Callable[..., object], kind: type[nn.Module] | None) -> Iterator[str]:
    """Named parameters of the function, and of the classes up to the first that takes no others."""
    owners: list[Callable[..., object]] = [entrypoint]
    for owner in kind.__mro__ if kind is not None else ():
        if owner is nn.Module:
            break
        owners.append(owner)
        if not any(one.kind is one.VAR_KEYWORD for one in inspect.signature(owner).parameters.values()):
            break
    for function in owners:
        with suppress(ValueError):  # one without a signature
            for parameter in inspect.signature(function).parameters.values():
                named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
                if named and parameter.name not in (*_ELSEWHERE, "cfg"):
                    yield parameter.name
