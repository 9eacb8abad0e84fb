"""`features_only` of each of imgkit's own networks, as of timm's: the maps are what `feature_info` says."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import FeatureListNet

from imgkit.model_names import OWN
from imgkit.models.networks.maps import Maps

registered = pytest.mark.parametrize("name", OWN)
own = pytest.mark.parametrize("name", ["lsvrc_residual", "multilabel_cnn", "vgg11_compact", "vgg19_res3", "vgg_c_bn"])
"""One of each kind that is not timm's ResNet."""
ADDING = ("lsvrc_residual", "vgg19_res3")
"""Networks whose maps are sums."""
OPTIONS: dict[str, dict[str, Any]] = {"multilabel_cnn": {"fc": (32, 16)}}
pytestmark = pytest.mark.usefixtures("narrow")

PYRAMIDS = {
    "lsvrc_residual": ([64, 64, 128, 256, 512], [4, 8, 16, 32, 128]),
    "multilabel_cnn": ([20, 40, 20, 50, 100], [2, 4, 4, 4, 4]),
    "vgg19_res3": ([64, 128, 256, 512, 512], [2, 4, 8, 16, 32]),
    "cbam_resnet18": ([64, 64, 128, 256, 512], [2, 4, 8, 16, 32]),
    "cbam_resnet50": ([64, 256, 512, 1024, 2048], [2, 4, 8, 16, 32]),
    "resnet50_mlp1000": ([64, 256, 512, 1024, 2048], [2, 4, 8, 16, 32]),
}
"""Channels and reduction of each map; the other networks are plain VGGs."""
PLAIN = ([64, 128, 256, 512, 512, 512], [1, 2, 4, 8, 16, 32])


def side_of(name: str, side: int, number: int, reduction: int) -> int:
    """Of a map: strided convolutions with padding round up, pools down, and multilabel_cnn has no padding."""
    if name == "multilabel_cnn":  # by its table of sides, kernels 3, 3, 1, 5, 7 and pools 2, 2, none, 1, 1
        first = (side - 2) // 2
        second = (first - 2) // 2
        return (first, second, second, second - 5, second - 12)[number]
    return side // reduction if name.startswith("vgg") else -(-side // reduction)


@registered
@pytest.mark.parametrize("sides", [(224, 256), (96, 128)])
def test_maps_have_the_channels_and_sides_that_are_told(name: str, sides: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, features_only=True, in_chans=5)
        maps = model(torch.empty(2, 5, *sides))
    channels, reductions = PYRAMIDS.get(name, PLAIN)
    assert (model.feature_info.channels(), model.feature_info.reduction()) == (channels, reductions)
    expected = [
        (2, width, *(side_of(name, side, number, reduction) for side in sides))
        for number, (width, reduction) in enumerate(zip(channels, reductions, strict=True))
    ]
    assert [tuple(one.shape) for one in maps] == expected
    assert not any("head" in key or "fc" in key for key in model.state_dict() if ".channel." not in key), "no head"


@registered
@pytest.mark.parametrize("indices", [(1, 3), (0,), (-1,), (2, -1)])
def test_the_maps_that_are_asked_for(name: str, indices: tuple[int, ...]) -> None:
    with torch.device("meta"):
        whole = timm.create_model(name, features_only=True)
        some = timm.create_model(name, features_only=True, out_indices=indices)
        images = torch.empty(1, 3, 128, 128)
        assert [one.shape for one in some(images)] == [whole(images)[index].shape for index in indices]
    assert some.feature_info.channels() == [whole.feature_info.channels()[index] for index in indices]
    assert some.feature_info.reduction() == [whole.feature_info.reduction()[index] for index in indices]
    lost = sum(one.numel() for one in whole.parameters()) - sum(one.numel() for one in some.parameters())
    assert (lost > 0) == (-1 not in indices), "what no map needs is left out"


@own
def test_maps_are_those_on_the_way_to_the_logits(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, **OPTIONS.get(name, {})).eval()
    side = {"lsvrc_residual": 96, "multilabel_cnn": 64}.get(name, 32)
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        end = model.forward_features(images)
        last, maps = model.forward_intermediates(images)
        assert torch.equal(last, end)
        assert torch.equal(maps[-1], end)
        (only,) = model.forward_intermediates(images, indices=[2], intermediates_only=True)
        assert torch.equal(only, maps[2])
        early, (same,) = model.forward_intermediates(images, indices=[2], stop_early=True)
        assert torch.equal(early, same)
        assert torch.equal(same, maps[2])
        for number in range(len(maps) - 1):
            torch.manual_seed(0)
            cut = timm.create_model(name, **OPTIONS.get(name, {})).eval()
            assert cut.prune_intermediate_layers([number]) == [number]
            assert torch.equal(cut.forward_features(images), maps[number])
            assert torch.equal(cut(images), maps[number]), "no head is left"
            assert cut.num_features == maps[number].shape[1]
    with pytest.raises(ValueError, match="maps are NCHW, not NLC"):
        model.forward_intermediates(images, output_fmt="NLC")


@pytest.mark.parametrize(("name", "timms"), [("vgg_a", "vgg11"), ("vgg_d_bn", "vgg16_bn")])
def test_vggs_have_timms_maps(name: str, timms: str) -> None:
    theirs = timm.create_model(timms, features_only=True, mlp_ratio=0.01).eval()
    ours = timm.create_model(name, features_only=True).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert all(map(torch.equal, ours(images), theirs(images)))
    assert ours.feature_info.get_dicts() == theirs.feature_info.get_dicts()
    in_line = timm.create_model(name, features_only=True, feature_cls="list", out_indices=(0, 1, 2, 3, 4, 5))
    assert isinstance(in_line, FeatureListNet)
    assert list(in_line.state_dict()) == list(theirs.state_dict()), "timm's own class, where it is asked for"


def test_options_change_the_maps() -> None:
    with torch.device("meta"):
        images = torch.empty(1, 3, 64, 64)
        average = timm.create_model("vgg_b", features_only=True, img_size=64, last_pool="avg")
        assert [one.shape[-1] for one in average(images)] == [64, 32, 16, 8, 4]
        assert average.feature_info.reduction() == [1, 2, 4, 8, 16]
        lists = {"widths": (8, 16, 32), "kernels": (3, 3, 3), "pools": (2, 0, 2)}
        small = timm.create_model("multilabel_cnn", features_only=True, **lists)
        assert (small.feature_info.channels(), small.feature_info.reduction()) == ([8, 16, 32], [2, 2, 4])
        assert [one.shape[-1] for one in small(images)] == [31, 29, 13]
        for placement in ("stages", "stem+stages"):
            gated = timm.create_model("cbam_resnet18", features_only=True, placement=placement)
            assert sum(".gate." in key for key in gated.state_dict()) > 0
            assert [one.shape[-1] for one in gated(images)] == [32, 16, 8, 4, 2]


@pytest.mark.parametrize("name", ADDING)
@pytest.mark.parametrize("chosen", ["list", "hook", FeatureListNet])
def test_a_class_of_features_that_would_lose_the_sums_is_refused(name: str, chosen: object) -> None:
    with pytest.raises(ValueError, match=rf"{name} adds shortcuts to its maps, which feature_cls = .* write 'getter'"):
        timm.create_model(name, features_only=True, feature_cls=chosen)


def test_images_at_which_shortcuts_do_not_meet_are_told() -> None:
    model = timm.create_model("lsvrc_residual", features_only=True)
    with pytest.raises(
        ValueError, match=r"images of 64×64 px: the maps of its trunk .* from 72 to 128, or from 200 to 256"
    ):
        model(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    "name", ["vgg_a", "vgg11_compact", "vgg19_res3", "lsvrc_residual", "resnet50_mlp1000", "cbam_resnet18"]
)
def test_weights_are_loaded_before_the_head_goes(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = timm.create_model(name).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    overlay = {"file": str(tmp_path / "model.safetensors"), "custom_load": False}
    features = timm.create_model(name, pretrained=True, features_only=True, pretrained_cfg_overlay=overlay).eval()
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(features(images)[-1], model.forward_features(images))


def test_every_own_network_but_resnets_is_of_the_kind() -> None:
    with torch.device("meta"):
        kinds = {name: isinstance(timm.create_model(name), Maps) for name in OWN}
    assert [name for name, kind in kinds.items() if not kind] == ["cbam_resnet18", "cbam_resnet50", "resnet50_mlp1000"]
