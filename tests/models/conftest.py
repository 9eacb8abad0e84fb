import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from timm.models import generate_default_cfgs, is_model, register_model
from timm.models.naflexvit import NaFlexVitCfg, _create_naflexvit
from torch import Tensor, nn

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_weights_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches, no hub."""
    for name in ("HF_HUB_CACHE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


class Tiny(nn.Module):
    """Three layers, registered from outside timm."""

    def __init__(self, num_classes: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Conv2d(3, 4, 3, stride=4)
        self.stem_drop = nn.Dropout(0.5)
        self.middle = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.drop = nn.Dropout(drop_rate)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.middle(self.stem_drop(self.stem(images))).mean((2, 3))
        logits: Tensor = self.fc(self.drop(features))
        return logits

    def get_classifier(self) -> nn.Module:
        return self.fc

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        return {"stem": r"^stem", "middle": r"^middle"}


class Nameless(nn.Module):
    """Knows neither its layers nor its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)


@pytest.fixture
def nameless() -> nn.Module:
    return Nameless()


@pytest.fixture
def registered() -> str:
    """The name of a network that a plugin registers."""

    def imgkit_test_tiny(pretrained: bool = False, num_classes: int = 7, drop_rate: float = 0.0, **_: object) -> Tiny:
        return Tiny(num_classes, drop_rate)

    def imgkit_test_maps(pretrained: bool = False, num_classes: int = 7, **_: object) -> nn.Module:
        return nn.Conv2d(3, num_classes, 1)

    def imgkit_test_wide(pretrained: bool = False, num_classes: int = 7, **_: object) -> nn.Module:
        model = Tiny(num_classes)
        model.register_buffer("seen", torch.zeros(num_classes))
        return model

    def imgkit_test_strict(
        pretrained: bool,
        num_classes: int = 7,
        pretrained_cfg: object = None,
        pretrained_cfg_overlay: object = None,
        cache_dir: object = None,
    ) -> nn.Module:
        return Tiny(num_classes)

    def imgkit_test_greys(pretrained: bool = False, num_classes: int = 7, in_chans: int = 1, **_: object) -> nn.Module:
        model = Tiny(num_classes)
        model.stem, model.in_chans = nn.Conv2d(1, 4, 3, stride=4), 1
        return model

    def imgkit_test_patches(pretrained: bool = False, **kwargs: object) -> nn.Module:
        small = NaFlexVitCfg(embed_dim=32, depth=1, num_heads=2)  # its first layer is linear, over patches
        return _create_naflexvit("imgkit_test_patches", pretrained, cfg=small, **kwargs)

    module = ModuleType("imgkit_test_plugin")
    patches = {"input_size": (3, 32, 32), "first_conv": "embeds.proj", "classifier": "head", "num_classes": 7}
    module.default_cfgs = generate_default_cfgs({"imgkit_test_patches.test": patches})
    sys.modules[module.__name__] = module
    for function in (
        *(imgkit_test_tiny, imgkit_test_maps, imgkit_test_wide),
        *(imgkit_test_strict, imgkit_test_greys, imgkit_test_patches),
    ):
        function.__module__ = module.__name__
        if not is_model(function.__name__):
            register_model(function)
    return "imgkit_test_tiny"
