import pytest
import timm
import torch

from imgkit.model_names import OWN
from imgkit.models.networks.vgg_paper import default_cfgs

COUNTS = {
    "vgg_a": 132_863_336,
    "vgg_a_bn": 132_868_840,
    "vgg_a_lrn": 132_863_336,
    "vgg_b": 133_047_848,
    "vgg_b_bn": 133_053_736,
    "vgg_c": 133_638_952,
    "vgg_c_bn": 133_647_400,
    "vgg_d": 138_357_544,
    "vgg_d_bn": 138_365_992,
    "vgg_e": 143_667_240,
    "vgg_e_bn": 143_678_248,
}
"""Parameters for 1000 classes at 224 px: the paper's table 2, exactly."""
SMALL = {
    "vgg_a": 35_213_896,
    "vgg_a_bn": 35_219_400,
    "vgg_b": 35_398_408,
    "vgg_b_bn": 35_404_296,
    "vgg_c": 35_989_512,
    "vgg_c_bn": 35_997_960,
    "vgg_d": 40_708_104,
    "vgg_d_bn": 40_716_552,
    "vgg_e": 46_017_800,
    "vgg_e_bn": 46_028_808,
}
"""For the 200 classes of Tiny ImageNet at 64 px, whose head is the compact one."""
OF_TIMM = {"vgg_a": "vgg11", "vgg_b": "vgg13", "vgg_d": "vgg16", "vgg_e": "vgg19"}


def count(name: str, **options: object) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in timm.create_model(name, **options).parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_the_papers(name: str) -> None:
    assert count(name) == COUNTS[name]


@pytest.mark.parametrize("name", SMALL)
def test_parameters_for_tiny_imagenet(name: str) -> None:
    assert count(name, num_classes=200, img_size=64) == SMALL[name]
    assert count(name, num_classes=200, head="compact", last_pool="avg") == SMALL[name]


@pytest.mark.parametrize("letter", "abcde")
def test_batch_norm_is_an_option_of_both_names(letter: str) -> None:
    small = {"num_classes": 200, "head": "compact"}
    for name, norm in ((f"vgg_{letter}", True), (f"vgg_{letter}_bn", False)):
        other = f"vgg_{letter}_bn" if norm else f"vgg_{letter}"
        with torch.device("meta"):
            given = timm.create_model(name, norm=norm, **small).state_dict()
            named = timm.create_model(other, **small).state_dict()
        assert {key: value.shape for key, value in given.items()} == {key: value.shape for key, value in named.items()}
    assert count(f"vgg_{letter}", norm=True, **small) == SMALL[f"vgg_{letter}_bn"]


def test_every_name_of_the_paper_is_counted() -> None:
    assert sorted(COUNTS) == sorted(default_cfgs) == sorted(name for name in OWN if name.startswith("vgg_"))


@pytest.mark.parametrize("suffix", ["", "_bn"])
@pytest.mark.parametrize("name", OF_TIMM)
def test_timms_network_has_the_same_tensors_and_weights(name: str, suffix: str) -> None:
    with torch.device("meta"):
        ours, theirs = timm.create_model(name + suffix), timm.create_model(OF_TIMM[name] + suffix)
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }
    same = (
        "hf_hub_id",
        "license",
        "input_size",
        "mean",
        "std",
        "crop_pct",
        "interpolation",
        "first_conv",
        "classifier",
    )
    assert {key: ours.pretrained_cfg[key] for key in same} == {key: theirs.pretrained_cfg[key] for key in same}


@pytest.mark.parametrize("name", ["vgg_a_lrn", "vgg_c", "vgg_c_bn"])
def test_what_timm_lacks_has_no_weights(name: str) -> None:
    config = timm.get_pretrained_cfg(name)
    assert not config.has_weights
    assert config.tag is None
