"""Names of networks: timm's, with a few common spellings. No weights, no network access."""

import fnmatch
import re

from timm.models import get_deprecated_models, get_pretrained_cfg, is_model, list_models, split_model_name_tag

from imgkit.errors import UsageError, did_you_mean

ALIASES = {
    "vit": "vit_base_patch16_224",
    "vit-b": "vit_base_patch16_224",
    "vit-b/16": "vit_base_patch16_224",
    "vit-b/32": "vit_base_patch32_224",
    "vit-s/16": "vit_small_patch16_224",
    "vit-ti/16": "vit_tiny_patch16_224",
    "vit-l/16": "vit_large_patch16_224",
    "deit": "deit_base_patch16_224",
    "deit-s": "deit_small_patch16_224",
    "dinov2": "vit_small_patch14_dinov2",
    "swin": "swin_tiny_patch4_window7_224",
    "swin-t": "swin_tiny_patch4_window7_224",
    "swin-s": "swin_small_patch4_window7_224",
    "swin-b": "swin_base_patch4_window7_224",
    "convnext": "convnext_tiny",
    "convnext-t": "convnext_tiny",
    "resnet": "resnet50",
    "densenet": "densenet121",
    "vgg": "vgg16",
    "efficientnet": "efficientnet_b0",
    "efficientnetv2-s": "efficientnetv2_rw_s",
    "mobilenet": "mobilenetv3_large_100",
    "mobilenetv2": "mobilenetv2_100",
    "mobilenetv3": "mobilenetv3_large_100",
    "efficientnet-lite0": "tf_efficientnet_lite0",
}


def resolve_name(text: str) -> str:
    """The timm name that `text` means, with its tag (`resnet50.a1_in1k`) if it has one.

    Understood are timm's names, names that timm has replaced, other cases and separators ("ResNet-50"), and `ALIASES`.

    Raises:
        UsageError: for an unknown name or tag, with the nearest ones, and for a folder or a repository.
    """
    wanted = text.strip()
    if wanted.lower().startswith(("hf-hub:", "hf_hub:", "local-dir:")):
        where = wanted.partition(":")[2]
        raise UsageError(
            f"{text!r} is not the name of a network: imgkit builds only the networks that timm knows.",
            f"Name the network, and its weights apart:  --weights hub:{where or 'OWNER/NAME'}  or  --weights FILE",
        )
    name, tag = split_model_name_tag(wanted)
    known = _resolve_plain(name)
    if known is None:
        raise _unknown(text, name)
    name, default_tag = split_model_name_tag(known)
    return _with_tag(name, tag or default_tag)


def search(pattern: str) -> list[str]:
    """The names that match a shell pattern (`res*50*`), or contain a plain word; in natural order.

    Tags are searched and given only where the pattern has a dot.
    """
    wanted = pattern.strip().lower()
    if not any(char in wanted for char in "*?["):
        wanted = f"*{wanted}*"
    names: list[str] = list_models(include_tags="." in wanted)
    return [name for name in names if fnmatch.fnmatchcase(name.lower(), wanted)]


def _resolve_plain(name: str) -> str | None:
    if name in list_models():
        return name
    if is_model(name):  # a name that timm has replaced
        replacement: str | None = get_deprecated_models()[name]
        return replacement
    if name.lower() in ALIASES:
        return ALIASES[name.lower()]
    same = [known for known in list_models() if _squeezed(known) == _squeezed(name)]
    if len(same) == 1:
        return same[0]
    aliases = {target for alias, target in ALIASES.items() if _squeezed(alias) == _squeezed(name)}
    return aliases.pop() if len(aliases) == 1 else None


def _with_tag(name: str, tag: str) -> str:
    if not tag:
        return name
    full = f"{name}.{tag}"
    known = list_models(f"{name}.*", include_tags=True)
    if full in known:
        return full
    tags = [split_model_name_tag(other)[1] for other in known]
    if not tags:
        raise UsageError(f"The model {name!r} has no tag {tag!r}: it has none at all.", f"Write  {name}")
    near = [other for other in did_you_mean(tag, tags) if other]
    guess = f" Did you mean {name}.{near[0]}?" if near else ""
    raise UsageError(
        f"The model {name!r} has no tag {tag!r}.{guess}",
        f"Its tags, the default first: {', '.join(_ordered(name, tags))}.",
    )


def _ordered(name: str, tags: list[str]) -> list[str]:
    """`tags` with the default of `name` first."""
    config = get_pretrained_cfg(name)
    default = config.tag if config is not None else None
    return sorted(tags, key=lambda tag: tag != default)


def _unknown(text: str, name: str) -> UsageError:
    known = list_models()
    near = did_you_mean(name, known)
    guess = f" Did you mean {', '.join(near)}?" if near else ""
    start = re.match(r"[A-Za-z]{3,}", near[0] if near else name)
    word = start[0].lower() if start is not None and search(start[0]) else ""
    return UsageError(
        f"Unknown model {text!r}.{guess}", f"{len(known):,} models are known:  imgkit models {word}".rstrip()
    )


def _squeezed(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())
