import pytest
import timm
import torch
from torch import nn

from imgkit.models.relatives import Weight, family, lighter, weigh
from imgkit.recipe.schema import ModelSettings


@pytest.mark.parametrize(
    ("name", "some", "none"),
    [
        ("resnet50", {"resnet18", "resnet34", "resnet152"}, {"resnet50d", "cbam_resnet18", "resnext50_32x4d"}),
        ("cbam_resnet50", {"cbam_resnet18"}, {"resnet18"}),
        ("vit_base_patch16_224", {"vit_tiny_patch16_224"}, {"vit_base_patch16_384", "vit_small_patch32_224"}),
        ("convnext_tiny", {"convnext_atto", "convnext_base"}, {"convnext_tiny_hnf"}),
        ("mobilenetv3_large_100", {"mobilenetv3_small_050"}, {"mobilenetv3_rw"}),
        ("vgg19_bn", {"vgg11_bn"}, {"vgg11"}),
        ("efficientnet_b4", {"efficientnet_b0"}, {"efficientnet_lite0"}),
    ],
)  # fmt: skip
def test_a_family_differs_in_sizes_of_the_network_alone(name: str, some: set[str], none: set[str]) -> None:
    found = set(family(name))
    assert some <= found
    assert not found & none
    assert name not in found
    assert all(name in family(other) for other in some), "it is mutual"


def test_lighter_ones_have_the_classes_and_the_head() -> None:
    found = {one.name: one for one in lighter("resnet50", ModelSettings(head="mlp:10"), 7)}
    assert set(found) == {"resnet18", "resnet26", "resnet34"}
    assert all(one.options == {} for one in found.values())
    features = {"resnet18": 512, "resnet26": 2048, "resnet34": 512}
    for name, width in features.items():
        with torch.device("meta"):
            trunk = timm.create_model(name, num_classes=0)
        head = width * 10 + 10 + 10 * 7 + 7
        assert found[name].weight.parameters == sum(weight.numel() for weight in trunk.parameters()) + head


def test_a_network_offers_its_own_options_first() -> None:
    settings = ModelSettings(options={"placement": "blocks", "kernel": 7})
    found = list(lighter("cbam_resnet50.tv2_in1k", settings, 5))
    assert [one.name for one in found] == ["cbam_resnet50"] * 3 + ["cbam_resnet18"]
    assert [one.options.get("reduction") for one in found] == [256, 512, None, None]
    assert found[2].options == {"placement": "stages", "kernel": 7}


def test_what_cannot_be_laid_out_is_no_suggestion() -> None:
    assert list(lighter("vit_base_patch16_224", ModelSettings(head="pool2-mlp:4"), 5)) == []
    assert list(lighter("resnet50", ModelSettings(options={"no_such": 1}), 5)) == []


def test_they_are_laid_out_for_the_same_images() -> None:
    with torch.device("meta"):
        small = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=96)
    found = {one.name: one.weight for one in lighter("vit_small_patch16_224", ModelSettings(image_size=96), 5)}
    assert found == {"vit_tiny_patch16_224": weigh(small)}


class Shared(nn.Module):
    """A weight under two names, a counter, and a buffer that no file holds."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("short", torch.zeros(5, dtype=torch.float16))
        self.register_buffer("table", torch.zeros(100), persistent=False)


def test_what_is_counted() -> None:
    assert weigh(Shared()) == Weight(9 + 3 + 3, 4 * (9 + 3 + 3) + 8 + 4 * 5)
    with torch.device("meta"):
        assert weigh(timm.create_model("resnet50")) == Weight(25_557_032, 102_441_032)
