"""Makes a network: timm's, seeded, with pretrained weights under a new head."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, resolve_input_data_config
from timm.models import PretrainedCfg, get_pretrained_cfg, split_model_name_tag
from torch import Tensor, nn

from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import UsageError, WeightsError
from imgkit.keys import key, seed_everything
from imgkit.model_names import resolve_name
from imgkit.models.freeze import classifier_names, classifier_prefixes
from imgkit.models.heads import set_head
from imgkit.models.options import check_options, options_refused, takes
from imgkit.models.part import load_part
from imgkit.models.weights import WeightSource, find_weights, load_state, mismatch
from imgkit.recipe.heads import LINEAR, HeadShape
from imgkit.recipe.schema import ModelSettings


@dataclass(frozen=True)
class Created:
    """A network ready to train.

    Attributes:
        model: images float32 (B, C, H, W) -> logits (B, K); on the CPU, in training mode.
        name: timm's, with the tag that says which weights and preprocessing were meant.
        preprocessing: how a picture becomes its input.
        weights: where the weights of all but the head come from.
        additions: parameters besides the head that these weights lack, and that are new; see `_additions`.
        notes: what the network chose by itself, and which part of weights it took, for people.
    """

    model: nn.Module
    name: str
    preprocessing: Preprocessing
    weights: WeightSource
    additions: int = 0
    notes: tuple[str, ...] = ()


def find_source(settings: ModelSettings) -> WeightSource:
    """Where the weights that `settings` name are; fetched, where they are not on this machine.

    Raises:
        UsageError: for an unknown name, and for an option that the network does not take.
        WeightsError: if they cannot be had.
    """
    assert settings.name is not None
    name = _full_name(resolve_name(settings.name))
    check_options(name, settings.options, size_options(name, settings))
    return find_weights(settings.weights, name)


def create_model(settings: ModelSettings, classes: int, seed: int, source: WeightSource | None = None) -> Created:
    """Make the network that `settings` name, with a new head for `classes` classes.

    What is not loaded depends on the seed alone: the same head with and without pretrained weights.

    Args:
        settings: name, weights, head, channels, image size, drop rates and options.
        classes: K, rows of the head.
        seed: of what is not loaded.
        source: of the weights, if `find_source` was asked before.

    Raises:
        UsageError: for an unknown name, a key that the network does not take, a head, an image size or a number of
            channels that it cannot have, or a network that does not give logits (B, K).
        WeightsError: if the weights cannot be had or do not fit.
    """
    assert settings.name is not None
    name = _full_name(resolve_name(settings.name))
    source = source or find_source(settings)
    options = {**size_options(name, settings), **settings.options}
    seed_everything(key(seed, "init"))
    model, replaced = _with_head(name, settings, options, classes)
    added, said = 0, tuple[str, ...]()
    if source.kind == "run":
        _load_whole(model, load_state(source, name), name, source)
    elif source.kind == "part":
        said = load_part(model, name, source)
    elif source.kind != "none":
        state = load_state(source, name)
        new = _additions(model, state)
        state, added = state | new, sum(value.numel() for value in new.values())
        _load_trunk(model, _pretrained(name, settings, options, source, state), replaced, name, source)
    preprocessing = _as_asked(_preprocessing(model, name, settings), settings)
    _check_logits(model, name, settings.head, classes, preprocessing)
    return Created(model, name, preprocessing, source, added, (*getattr(model, "notes", ()), *said))


def _full_name(name: str) -> str:
    """`name` with its default tag, where timm has one."""
    config = get_pretrained_cfg(name)
    arch = split_model_name_tag(name)[0]
    return f"{arch}.{config.tag}" if config is not None and config.tag else name


def size_options(name: str, settings: ModelSettings) -> dict[str, Any]:
    """What has to be told to a network that reads greys, whose input size is part of it, or that asks for it."""
    config = get_pretrained_cfg(name)
    fixed = (config is not None and config.fixed_input_size) or takes(name, "img_size")
    size = {"img_size": settings.image_size} if fixed and settings.image_size is not None else {}
    return size if settings.in_chans == 3 else size | {"in_chans": settings.in_chans}


def _with_head(
    name: str, settings: ModelSettings, options: dict[str, Any], classes: int
) -> tuple[nn.Module, frozenset[str]]:
    """The network with its new head, and the names of the tensors that this head replaced."""
    # Layers on a feature map have dropout of their own, and none before the first of them.
    pools = HeadShape.parse(settings.head).side is not None
    plain = settings.model_copy(update={"drop_rate": 0.0}) if pools else settings
    model = _build(name, plain, options | {"num_classes": classes})
    before = frozenset(model.state_dict())
    set_head(model, settings.head, classes, settings.drop_rate)
    return model, before.difference(model.state_dict())


def _additions(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the network adds to one whose weights it takes (`additions()` names it), where `state` has none of it."""
    names: Collection[str] = getattr(model, "additions", tuple)()
    own = model.state_dict()
    return {} if any(name in state for name in names) else {name: own[name].clone() for name in names}


def _build(name: str, settings: ModelSettings, options: dict[str, Any]) -> nn.Module:
    """`timm.create_model`, with the drop rates that the network takes."""
    rates: dict[str, Any] = {"drop_rate": settings.drop_rate, "drop_path_rate": settings.drop_path}
    while True:
        try:
            model: nn.Module = timm.create_model(name, **rates, **options)
            return model
        except TypeError as error:
            refused = next((option for option in (*rates, "img_size", "in_chans") if f"'{option}'" in str(error)), None)
            if refused is None:
                if settings.options:
                    raise options_refused(error, name, settings.options) from error
                raise
            if refused == "img_size":
                raise _wrong_size(name, settings.image_size) from None
            if refused == "in_chans":
                raise _no_greys(name) from None
            value = rates.pop(refused)
            if value > 0:
                key_name = "model.drop_path" if refused == "drop_path_rate" else "model.drop_rate"
                raise UsageError(
                    f"{name} does not take {key_name}, which is {value:g}.", f"Leave it out: --set {key_name}=0"
                ) from None
        except (AssertionError, ValueError) as error:
            if "img_size" not in options:
                if settings.options:
                    raise options_refused(error, name, settings.options) from error
                raise
            raise _wrong_size(name, settings.image_size, str(error)) from error


def _wrong_size(name: str, size: int | None, reason: str = "", head: str = LINEAR) -> UsageError:
    config = get_pretrained_cfg(name)
    own = config.input_size[-1] if config is not None else 224
    why = f" ({reason.splitlines()[0]})" if reason.strip() else ""
    hint = f"It was made for {own} px:  --image-size {own}"
    least = config.min_input_size[-1] if config is not None and config.min_input_size else 0
    if size is not None and size < least:
        hint = f"It takes images from {least} px:  --image-size {least}"
    if head == LINEAR:
        return UsageError(f"{name} cannot take images of {size} px{why}.", hint)
    return UsageError(
        f"{name} with the head {head} cannot take images of {size} px{why}.",
        f"{hint}\nOr leave the head as it is:  --head {LINEAR}",
    )


def _no_greys(name: str) -> UsageError:
    return UsageError(
        f"{name} cannot be made to read greys (model.in_chans = 1).",
        "With 3 channels it reads grey pictures, too, repeated in each:  --set model.in_chans=3",
    )


def _pretrained(
    name: str, settings: ModelSettings, options: dict[str, Any], source: WeightSource, state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of `source` with the names and shapes that the network has, their own old head included.

    timm loads them into a second network with its own rules for each family (other names, resized position
    embeddings). It does so strictly only if the head fits, so this network has the head of the file. A head of
    several layers was put there by imgkit, and such a file has the network's own names.
    """
    config = get_pretrained_cfg(name)
    classifier = () if config is None or not config.classifier else config.classifier
    if isinstance(classifier, str) and f"{classifier}.fc1.weight" in state:
        return state
    rows = None if source.kind == "package" else _head_rows(state, config)
    overlay: dict[str, Any] = {"state_dict": state, "custom_load": False}
    if rows is not None:
        overlay["num_classes"] = rows
        options = options | {"num_classes": rows}
    try:
        model = _build(name, settings, options | {"pretrained": True, "pretrained_cfg_overlay": overlay})
        if "state_dict" not in getattr(model, "pretrained_cfg", {}):  # not built by timm's builder: nothing was loaded
            model.load_state_dict(state, strict=True)
    except (RuntimeError, KeyError, IndexError, AttributeError, ValueError) as error:
        raise _does_not_fit(name, settings, options, source, state, error) from error
    if settings.in_chans == 1:
        _check_first_layer(model, name)
    return dict(model.state_dict())


def _check_first_layer(model: nn.Module, name: str) -> None:
    """See that timm adapted the weights: those of a convolution it sums, any other first layer it leaves random."""
    stems = getattr(model, "pretrained_cfg", {}).get("first_conv") or ()
    for stem in [stems] if isinstance(stems, str) else stems:
        if model.get_parameter(f"{stem}.weight").dim() != 4:
            raise _no_greys(name)


def _head_rows(state: dict[str, Tensor], config: PretrainedCfg | None) -> int | None:
    """Classes of the head in a file with the network's own names; 0 for a file without head; None for other names."""
    if config is None or not config.classifier:
        return None
    names = [config.classifier] if isinstance(config.classifier, str) else config.classifier
    weight = state.get(f"{names[0]}.weight")
    if weight is not None:
        return len(weight)
    stems = [config.first_conv] if isinstance(config.first_conv, str) else config.first_conv or ()
    return 0 if any(f"{stem}.weight" in state for stem in stems) else None


def _does_not_fit(
    name: str,
    settings: ModelSettings,
    options: dict[str, Any],
    source: WeightSource,
    state: dict[str, Tensor],
    error: Exception,
) -> WeightsError:
    listed = mismatch(state, _build(name, settings, options).state_dict())
    hint = "Name the network that these weights were made for:  imgkit models"
    if not listed:
        reason = (str(error).splitlines() or [""])[0]
        message = f"timm cannot put these weights into {name} ({source.detail}), although names and shapes fit"
        return WeightsError(f"{message}: {type(error).__name__} {reason}", hint)
    return WeightsError(
        f"The weights do not fit {name} ({source.detail}). Missing (-) and surplus (+):\n{listed}", hint
    )


def _load_trunk(
    model: nn.Module, state: dict[str, Tensor], replaced: frozenset[str], name: str, source: WeightSource
) -> None:
    """Copy all but the head from `state` into `model`, and make sure that nothing else is left out.

    The heads differ where one of them has several layers: what the new one replaced, and layers of the old one that
    the new one has not, are left out too.
    """
    own = model.state_dict()
    old = {name for name in state if name not in own and name.startswith(classifier_prefixes(model))}
    head = {*classifier_names(model), *replaced, *old}
    trunk = {name: value for name, value in state.items() if name not in head}
    expected = {name: value for name, value in own.items() if name not in head}
    listed = mismatch(trunk, expected)
    if listed:
        raise WeightsError(
            f"The weights do not fit {name} ({source.detail}). Missing (-) and surplus (+):\n{listed}",
            "Name the network that these weights were made for:  imgkit models",
        )
    model.load_state_dict(trunk, strict=False)


def _load_whole(model: nn.Module, state: dict[str, Tensor], name: str, source: WeightSource) -> None:
    """Copy all of `state` into `model`, the head too."""
    listed = mismatch(state, model.state_dict())
    if listed:
        raise WeightsError(
            f"{source.detail} does not fit {name} as it is asked for. Missing (-) and surplus (+):\n{listed}",
            "Leave out what changes the network: --head, --image-size, model.in_chans, model.options.",
        )
    model.load_state_dict(state, strict=True)


def _preprocessing(model: nn.Module, name: str, settings: ModelSettings) -> Preprocessing:
    """The evaluation rule of the network as it was built; `resolve_model_data_config` would ignore its real size.

    For greys mean and std are the means of those of the three channels, whatever timm makes of them.
    """
    image_size, config = settings.image_size, dict(getattr(model, "pretrained_cfg", {}))
    greys: dict[str, tuple[float]] = {}
    if settings.in_chans == 1:
        for key_name, usual in (("mean", IMAGENET_DEFAULT_MEAN), ("std", IMAGENET_DEFAULT_STD)):
            greys[key_name] = (fmean(config.get(key_name) or usual),)
    asked = {} if image_size is None else {"img_size": image_size}
    try:
        resolved = resolve_input_data_config(model, args=asked, pretrained_cfg=config | greys)
    except ValueError as error:
        if image_size is None:
            raise
        raise _wrong_size(name, image_size, str(error)) from error
    channels, *size = resolved["input_size"]
    if greys:  # a network from a plugin need not say how many channels it has; `_check_logits` tries it
        resolved |= greys | {"input_size": (1, *size)}
    elif channels == 1:
        raise UsageError(f"{name} reads greys alone, and model.in_chans is 3.", "Add  --set model.in_chans=1")
    return Preprocessing.from_timm(resolved)


def _as_asked(rule: Preprocessing, settings: ModelSettings) -> Preprocessing:
    """The rule of a network with what `[model]` says otherwise; of greys, the means over the three colours."""
    rule = rule if settings.fit is None else rule.with_fit(settings.fit)
    asked: dict[str, Any] = {} if settings.crop_pct is None else {"crop_pct": settings.crop_pct}
    for key_name, colours in (("mean", settings.mean), ("std", settings.std)):
        if colours is not None:
            asked[key_name] = colours if rule.channels == 3 else (fmean(colours),)
    return replace(rule, **asked)


def _check_logits(model: nn.Module, name: str, head: str, classes: int, rule: Preprocessing) -> None:
    """One image through the network: it must give logits (1, classes)."""
    model.eval()
    try:
        with torch.no_grad():
            logits = model(torch.zeros(1, rule.channels, *rule.size))
    except (RuntimeError, AssertionError, ValueError) as error:
        if rule.channels == 1 and _takes_colours(model, rule):
            raise _no_greys(name) from error
        raise _wrong_size(name, rule.size[0], str(error), head) from error
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (1, classes):
        raise UsageError(
            f"{name} gives {shape} for one image, not logits (1, {classes}).",
            "Choose a network for classification:  imgkit models",
        )
    model.train()


def _takes_colours(model: nn.Module, rule: Preprocessing) -> bool:
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, *rule.size))
    except (RuntimeError, AssertionError, ValueError):
        return False
    return True
