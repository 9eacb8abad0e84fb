"""multilabel_cnn: a small network for 14 labels of pictures of 128 x 128 pixels, by lists of its sizes."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from operator import mul

from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from imgkit.models.networks.common import FlatHead, Size, build, config, linear, run, sides
from imgkit.models.networks.maps import info

default_cfgs = generate_default_cfgs(
    {
        "multilabel_cnn": config(
            num_classes=14,
            input_size=(3, 128, 128),
            fixed_input_size=True,
            crop_pct=1.0,
            mean=(0.0, 0.0, 0.0),  # the original scales pixels to [0, 1] and does no more
            std=(1.0, 1.0, 1.0),
            first_conv="features.0.0",
            classifier="head",
        )
    }
)


class MultilabelCnn(FlatHead):
    """Images (B, 3, H, W) of one size -> logits (B, K). Convolutions without padding, ReLU after each, 2x2 max pools.

    As it stands, maps of sides 128, 126, 63, 61, 30, 30, 26, 25, 19, 18; 32,400 -> 2048 -> 512 -> K.

    Args:
        num_classes: K; 0 leaves out the classifier.
        in_chans: channels of the images.
        img_size: of the images, pixels.
        widths: channels of each convolution.
        kernels: their sides.
        pools: stride of the pool after each; 0 for none.
        fc: widths of the hidden layers; there may be none.
        drop_rate: dropout before the classifier.

    Raises:
        ValueError: for lists of different lengths, a number that cannot be, or an image of which nothing is left.
    """

    def __init__(
        self,
        num_classes: int = 14,
        in_chans: int = 3,
        img_size: Size = 128,
        widths: Sequence[int] = (20, 40, 20, 50, 100),
        kernels: Sequence[int] = (3, 3, 1, 5, 7),
        pools: Sequence[int] = (2, 2, 0, 1, 1),
        fc: Sequence[int] = (2048, 512),
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        _check(widths=widths, kernels=kernels, pools=pools, fc=fc)
        self.num_classes, self.in_chans = num_classes, in_chans
        height, width = (_last_side(side, kernels, pools) for side in sides(img_size))
        blocks = zip(pairwise((in_chans, *widths)), kernels, pools, strict=True)
        self.features = nn.Sequential(*(_block(of, to, kernel, pool) for (of, to), kernel, pool in blocks))
        self.num_features = widths[-1]
        strides = accumulate((pool or 1 for pool in pools), mul)
        self.feature_info = [
            info(width, stride, f"features.{k}") for k, (width, stride) in enumerate(zip(widths, strides, strict=True))
        ]
        through = (widths[-1] * height * width, *fc)
        layers = [layer for of, to in pairwise(through) for layer in (nn.Linear(of, to), nn.ReLU())]
        self.pre_logits = nn.Sequential(nn.Flatten(), *layers)
        self.drop = nn.Dropout(drop_rate)
        self.head_hidden_size = through[-1]
        self.head = linear(through[-1], num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> maps (B, C, h, w)."""
        return run(self.features, images, recompute=self.grad_checkpointing)

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """One after each convolution and its pool; kernels without padding take off their sides besides."""
        x = images
        for block in self.features:
            x = block(x)
            yield x

    def parts(self) -> list[list[str]]:
        """The convolutions one by one."""
        return [[f"features.{k}"] for k in range(len(self.features))]

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The convolutions one by one, then the hidden layers."""
        return {"blocks": r"^features\.(\d+)", "pre_logits": r"^pre_logits\."}


def _block(channels: int, to: int, kernel: int, pool: int) -> nn.Sequential:
    layers = [nn.Conv2d(channels, to, kernel), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2, stride=pool)] if pool else []))


def _check(**lists: Sequence[int]) -> None:
    """See that the lists belong together."""
    for name, values in lists.items():
        least = 0 if name == "pools" else 1
        whole = isinstance(values, list | tuple) and all(type(value) is int and value >= least for value in values)
        if not whole:
            raise ValueError(f"{name} must be whole numbers from {least} up, got {values!r}")
    lengths = {name: len(lists[name]) for name in ("widths", "kernels", "pools")}
    if len(set(lengths.values())) > 1 or not lists["widths"]:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(
            f"each convolution has a width, a kernel and a pool (0 for none), but their numbers are {said}"
        )


def _last_side(side: int, kernels: Sequence[int], pools: Sequence[int]) -> int:
    """Side of the last maps of an image of `side` pixels."""
    left = side
    for number, (kernel, pool) in enumerate(zip(kernels, pools, strict=True), start=1):
        left -= kernel - 1
        left = (left - 2) // pool + 1 if pool else left
        if left < 1:
            raise ValueError(f"of {side} px nothing is left after convolution {number}")
    return left


@register_model
def multilabel_cnn(pretrained: bool = False, **options: object) -> MultilabelCnn:
    """Five convolutions, two hidden layers, 14 labels."""
    return build(MultilabelCnn, "multilabel_cnn", pretrained, options)
