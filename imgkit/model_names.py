"""Names of networks: timm's and imgkit's own, with a few common spellings. No weights, no network access.

timm takes seconds to import, so the names are kept in the cache: a misspelt one is told at once.
"""

import fnmatch
import hashlib
import json
import os
import re
import shlex
import sys
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from imgkit import __version__
from imgkit.errors import UsageError, did_you_mean
from imgkit.files import cache_folder

OWN = (
    *("lsvrc_residual", "multilabel_cnn", "vgg11_compact", "vgg19_res3", "vgg_a", "vgg_a_bn", "vgg_a_lrn", "vgg_b"),
    *("vgg_b_bn", "vgg_c", "vgg_c_bn", "vgg_d", "vgg_d_bn", "vgg_e", "vgg_e_bn"),
    *("cbam_resnet18", "cbam_resnet50", "resnet50_mlp1000"),
)
"""imgkit's own networks, which `import imgkit.models` registers with timm."""

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

_REGISTERED = re.compile(r"^@register_model\ndef (\w+)\(", re.MULTILINE)


class _Known(NamedTuple):
    """What timm's registry knows, imgkit's own networks in it."""

    plain: list[str]  # in natural order, as all that follows
    tagged: list[str]  # a name for each tag; the plain name where there is none
    tags: dict[str, str | None]  # the default one by plain name
    replaced: dict[str, str | None]  # old names


def resolve_name(text: str) -> str:
    """The registered name that `text` means, with its tag (`resnet50.a1_in1k`) if it has one.

    Understood are timm's names and `OWN`, names that timm has replaced, other cases and separators ("ResNet-50"), and
    `ALIASES`.

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
    if _is_exact(wanted):
        return wanted
    name, _, tag = wanted.partition(".")
    known = _known()
    found = _resolve_plain(name, known)
    if found is None:
        _refuse_folder(text)
        raise _unknown(text, name, known.plain)
    name, _, default_tag = found.partition(".")
    try:
        return _with_tag(name, tag or default_tag, known)
    except UsageError:
        _refuse_folder(text)
        raise


def _is_exact(name: str) -> bool:
    """Whether timm, where it is imported, has this very name: asking that is a hundred times as quick as `_known`."""
    if "timm" not in sys.modules:
        return False
    from timm.models import get_deprecated_models, get_pretrained_cfg, is_model

    plain, _, tag = name.partition(".")
    with suppress(RuntimeError):  # for a tag that it does not have
        known = is_model(plain) and plain not in get_deprecated_models()
        return known and (name == plain or (tag != "" and get_pretrained_cfg(name) is not None))
    return False


def _refuse_folder(text: str) -> None:
    """See that `text` is no run and no folder of weights, which name their network themselves.

    Raises:
        UsageError: if it is; the hint names both.
    """
    for folder in (Path(text), Path(text) / "model"):
        weights = folder / "model.safetensors"
        if not weights.is_file():
            continue
        name = "NETWORK"
        with suppress(OSError, ValueError, KeyError, TypeError):  # of another origin
            name = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["architecture"])
        raise UsageError(
            f"{text!r} is a folder of weights, not the name of a network.",
            f"Name the network, and its weights apart; it gets a new head for the classes of your data:\n"
            f"imgkit finetune {name} --weights {shlex.quote(str(weights))}",
        )


def search(pattern: str) -> list[str]:
    """The names that match a shell pattern (`res*50*`), or contain a plain word; in natural order.

    Tags are searched and given only where the pattern has a dot.
    """
    wanted = pattern.strip().lower()
    if not any(char in wanted for char in "*?["):
        wanted = f"*{wanted}*"
    known = _known()
    return [
        name for name in (known.tagged if "." in wanted else known.plain) if fnmatch.fnmatchcase(name.lower(), wanted)
    ]


def begun(start: str) -> list[str]:
    """The names that begin with `start`, in milliseconds: never is timm imported. Tags are given where it has a dot.

    Where the cache has no names yet, they are read from the text of timm's source, without tags.
    """
    kept = _kept(_kept_file())
    if kept is None:
        return [name for name in (*OWN, *_in_source()) if name.startswith(start)]
    names = kept.tagged if "." in start else kept.plain
    return [name for name in names if name.startswith(start)]


def _in_source() -> list[str]:
    spec = find_spec("timm")  # looks for it, and imports nothing
    folder = Path(spec.origin).parent / "models" if spec is not None and spec.origin else None
    files = folder.glob("*.py") if folder is not None else ()
    return [name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))]


def _kept_file() -> Path:
    own = hashlib.sha256(" ".join(OWN).encode()).hexdigest()[:8]  # they change between versions, too
    return cache_folder() / f"names-timm-{version('timm')}-imgkit-{__version__}-{own}.json"


def _kept(file: Path) -> _Known | None:
    with suppress(OSError, ValueError, TypeError):  # none there, or not what was written
        return _Known(**json.loads(file.read_text(encoding="utf-8")))
    return None


def _known() -> _Known:
    """The names in timm's registry where it is imported (more may be there), else those kept in the cache."""
    file = _kept_file()
    untouched = "timm" not in sys.modules  # nobody has registered a network of their own
    if untouched and (kept := _kept(file)) is not None:
        return kept
    import_module("imgkit.models")  # which registers imgkit's own
    from timm.models import get_deprecated_models, get_pretrained_cfg, list_models

    plain = list_models()
    configs = {name: get_pretrained_cfg(name) for name in plain}
    tags = {name: None if config is None else config.tag for name, config in configs.items()}
    known = _Known(plain, list_models(include_tags=True), tags, get_deprecated_models())
    if untouched:
        with suppress(OSError):  # it is only slower without
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(f".tmp-{os.getpid():x}")
            temporary.write_text(json.dumps(known._asdict()), encoding="utf-8")
            temporary.replace(file)
    return known


def _resolve_plain(name: str, known: _Known) -> str | None:
    if name in known.plain:
        return name
    if name in known.replaced:
        return known.replaced[name]
    if name.lower() in ALIASES:
        return ALIASES[name.lower()]
    same = [other for other in known.plain if _squeezed(other) == _squeezed(name)]
    if len(same) == 1:
        return same[0]
    aliases = {target for alias, target in ALIASES.items() if _squeezed(alias) == _squeezed(name)}
    return aliases.pop() if len(aliases) == 1 else None


def _with_tag(name: str, tag: str, known: _Known) -> str:
    if not tag:
        return name
    full = f"{name}.{tag}"
    tags = [other.removeprefix(f"{name}.") for other in known.tagged if other.startswith(f"{name}.")]
    if tag in tags:
        return full
    if not tags:
        raise UsageError(f"The model {name!r} has no tag {tag!r}: it has none at all.", f"Write  {name}")
    near = [other for other in did_you_mean(tag, tags) if other]
    guess = f" Did you mean {name}.{near[0]}?" if near else ""
    raise UsageError(
        f"The model {name!r} has no tag {tag!r}.{guess}",
        f"Its tags, the default first: {', '.join(sorted(tags, key=lambda tag: tag != known.tags.get(name)))}.",
    )


def _unknown(text: str, name: str, known: list[str]) -> UsageError:
    near = did_you_mean(name, known)
    guess = f" Did you mean {', '.join(near)}?" if near else ""
    start = re.match(r"[A-Za-z]{3,}", near[0] if near else name)
    word = start[0].lower() if start is not None and search(start[0]) else ""
    folder = f"Pictures are given by  --data {shlex.quote(text)}\n" * Path(text).is_dir()
    return UsageError(
        f"Unknown model {text!r}.{guess}", f"{folder}{len(known):,} models are known:  imgkit models {word}".rstrip()
    )


def _squeezed(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())
