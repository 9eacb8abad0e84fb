"""VGG as in the paper's table 1, and with batch norm: vgg_a, vgg_a_lrn, vgg_b, vgg_c, vgg_d, vgg_e, and vgg_a_bn …."""

from collections.abc import Mapping
from typing import Any

from timm.models import generate_default_cfgs, register_model

from imgkit.models.networks.common import Size, config
from imgkit.models.networks.vgg import CONFIGS, HEADS, SMALLEST, Layout, Vgg, create

_OF_TIMM = {"vgg_a": "vgg11", "vgg_b": "vgg13", "vgg_d": "vgg16", "vgg_e": "vgg19"}
"""The same network in timm, with weights of torchvision."""


def _config(timms: str = "") -> dict[str, Any]:
    ends = config(min_input_size=SMALLEST, first_conv="features.0", classifier="head.fc")
    return ends | {"hf_hub_id": f"timm/{timms}.tv_in1k", "license": "bsd-3-clause"} if timms else ends


default_cfgs = generate_default_cfgs(
    {
        **{f"{name}{bn}.tv_in1k": _config(f"{timms}{bn}") for name, timms in _OF_TIMM.items() for bn in ("", "_bn")},
        **{name: _config() for name in ("vgg_a_lrn", "vgg_c", "vgg_c_bn")},
    }
)


def _vgg(variant: str, pretrained: bool, img_size: Size | None, head: str, options: Mapping[str, object]) -> Vgg:
    """A network by its name."""
    letter = variant.removeprefix("vgg_").removesuffix("_bn")
    layout = Layout(CONFIGS[letter], norm=variant.endswith("_bn"), head=HEADS["paper"])
    return create(variant, layout, pretrained, options, img_size=img_size, head=head)


@register_model
def vgg_a(pretrained: bool = False, img_size: Size | None = None, head: str = "auto", **options: object) -> Vgg:
    """Configuration A, 11 layers: timm's vgg11."""
    return _vgg("vgg_a", pretrained, img_size, head, options)


@register_model
def vgg_a_bn(pretrained: bool = False, img_size: Size | None = None, head: str = "auto", **options: object) -> Vgg:
    """Configuration A with batch norm."""
    return _vgg("vgg_a_bn", pretrained, img_size, head, options)


@register_model
def vgg_a_lrn(pretrained: bool = False, img_size: Size | None = None, head: str = "auto", **options: object) -> Vgg:
    """Configuration A-LRN, 11 layers with a local response normalisation after the first."""
    return _vgg("vgg_a_lrn", pretrained, img_size, head, options)


@register_model
def vgg_b(pretrained: bool = False, img_size: Size | None = None, head: str = "auto", **options: object) -> Vgg:
    """Configuration B, 13 layers: timm's vgg13."""
    return _vgg("vgg_b", pretrained, img_size, head, options)


@register_model
def vgg_b_bn(pretrained: bool = False, img_size: Size | None = None, head: str = "auto", **options: object) -> Vgg:
    """Configuration B with batch norm."""
    return _vgg("vgg_b_bn", pretrained, img_size, head, options)


@register_model
def vgg_c(pretrained: bool = False, img_size: Size | None = None, head: str = "auto", **options: object) -> Vgg:
    """Configuration C, 16 layers, three of them 1x1 convolutions."""
    return _vgg("vgg_c", pretrained, img_size, head, options)


@register_model
def vgg_c_bn(pretrained: bool = False, img_size: Size | None = None, head: str = "auto", **options: object) -> Vgg:
    """Configuration C with batch norm."""
    return _vgg("vgg_c_bn", pretrained, img_size, head, options)


@register_model
def vgg_d(pretrained: bool = False, img_size: Size | None = None, head: str = "auto", **options: object) -> Vgg:
    """Configuration D, 16 layers: timm's vgg16."""
    return _vgg("vgg_d", pretrained, img_size, head, options)


@register_model
def vgg_d_bn(pretrained: bool = False, img_size: Size | None = None, head: str = "auto", **options: object) -> Vgg:
    """Configuration D with batch norm."""
    return _vgg("vgg_d_bn", pretrained, img_size, head, options)


@register_model
def vgg_e(pretrained: bool = False, img_size: Size | None = None, head: str = "auto", **options: object) -> Vgg:
    """Configuration E, 19 layers: timm's vgg19."""
    return _vgg("vgg_e", pretrained, img_size, head, options)


@register_model
def vgg_e_bn(pretrained: bool = False, img_size: Size | None = None, head: str = "auto", **options: object) -> Vgg:
    """Configuration E with batch norm."""
    return _vgg("vgg_e_bn", pretrained, img_size, head, options)
