"""Three classifiers for a high score on ImageNet-1k: lsvrc_residual, vgg19_res3, vgg11_compact."""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import ClassVar

from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from imgkit.models.networks.common import INITS, Block, FlatHead, Size, build, config, linear, run, sides
from imgkit.models.networks.maps import info
from imgkit.models.networks.vgg import CONFIGS, HEADS, SMALLEST, Head, Layout, Vgg, create

POOLED_5X5 = Head(5, (4096, 2048))
"""12,800 -> 4096 -> 2048, over features pooled to 5x5."""
SPANS = ((0, 2), (2, 4), (4, 5))
"""The stages of `vgg19_res3` that a residual connection goes around, from the first to before the last."""

default_cfgs = generate_default_cfgs(
    {
        # The original resizes pictures to 224 x 224 and gives up their aspect ratio.
        "lsvrc_residual": config(
            fixed_input_size=True,
            crop_pct=1.0,
            crop_mode="squash",
            first_conv=("stem.0", "shortcuts.0"),
            classifier="head",
        ),
        "vgg19_res3": config(min_input_size=SMALLEST, first_conv=("features.0", "shortcuts.0.1"), classifier="head.fc"),
        "vgg11_compact.tv_in1k": config(
            min_input_size=SMALLEST,
            first_conv="features.0",
            classifier=("head.fc", "pre_logits.fc1", "pre_logits.fc2"),
            hf_hub_id="timm/vgg11.tv_in1k",
            license="bsd-3-clause",
        ),
    }
)


class LsvrcResidual(FlatHead):
    """Images (B, 3, H, W) of one size -> logits (B, K). Nine convolutions and three strided shortcuts.

    At 224 px the maps are 64@56 (stem), 64@28, 128@14, 256@7, 512@4, pooled to 512@2. A shortcut is a 3x3 convolution
    over several groups at once: image -> 64@28, 64@28 -> 256@7, 256@7 -> 512@2. The batch norm of a group comes after
    its last ReLU.

    Args:
        num_classes: K; 0 leaves out the classifier.
        in_chans: channels of the images.
        img_size: of the images, pixels.
        drop_rate: dropout before the classifier; 0.2 in the original.

    Raises:
        ValueError: for a size at which shortcuts do not meet what they are added to.
    """

    in_line: ClassVar[bool] = False

    def __init__(
        self, num_classes: int = 1000, in_chans: int = 3, img_size: Size = 224, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        area = _area(sides(img_size))
        self.num_classes, self.in_chans = num_classes, in_chans
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, 64, 7, stride=2, padding=3), nn.ReLU(), nn.BatchNorm2d(64), nn.MaxPool2d(2)
        )
        self.groups = nn.ModuleList(
            [_group(64, 64, 1, pool=True), _group(64, 128, 2), _group(128, 256, 2), _group(256, 512, 2, pool=True)]
        )
        self.shortcuts = nn.ModuleList(
            nn.Conv2d(of, to, 3, stride=stride, padding=1)
            for of, to, stride in ((in_chans, 64, 8), (64, 256, 4), (256, 512, 4))
        )
        self.num_features = 512
        places = ((64, 4, "stem"), (64, 8, "groups.0"), (128, 16, "groups.1"), (256, 32, "groups.2"))
        self.feature_info = [info(*place) for place in (*places, (512, 128, "groups.3"))]
        self.head_hidden_size = 2048
        self.pre_logits = nn.Sequential(nn.Flatten(), nn.Linear(512 * area, 2048), nn.ReLU())
        self.drop = nn.Dropout(drop_rate)
        self.head = linear(2048, num_classes)
        INITS["kaiming"](self)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> maps (B, 512, H/112, W/112)."""
        first, second, third, fourth = self.groups
        one, two, three = self.shortcuts
        joined = ((_then(self.stem, first), one), (_then(second, third), two), (fourth, three))
        return run(
            (partial(_add, span, shortcut) for span, shortcut in joined), images, recompute=self.grad_checkpointing
        )

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """One after the stem, and one after each group with what a shortcut adds to it.

        Raises:
            ValueError: for images of a size at which shortcuts do not meet what they are added to.
        """
        height, width = images.shape[-2:]
        try:
            _area((height, width))
        except ValueError as error:
            raise ValueError(f"images of {height}×{width} px: {error}") from None
        one, two, three = self.shortcuts
        x = self.stem(images)
        yield x
        first = x = self.groups[0](x) + one(images)
        yield x
        x = self.groups[1](x)
        yield x
        x = self.groups[2](x) + two(first)
        yield x
        yield self.groups[3](x) + three(x)

    def parts(self) -> list[list[str]]:
        """The stem, then the groups."""
        return [
            ["stem"],
            ["groups.0", "shortcuts.0"],
            ["groups.1"],
            ["groups.2", "shortcuts.1"],
            ["groups.3", "shortcuts.2"],
        ]

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Stem and four groups, each with the shortcut that is added to its maps; then the hidden layer."""
        return {
            "stem": r"^stem\.",
            "group1": r"^(?:groups|shortcuts)\.0\.",
            "group2": r"^groups\.1\.",
            "group3": r"^(?:groups\.2|shortcuts\.1)\.",
            "group4": r"^(?:groups\.3|shortcuts\.2)\.",
            "pre_logits": r"^pre_logits\.",
        }


class VggRes3(Vgg):
    """VGG-19 with three residual connections that tile its trunk: over the stages 1 and 2, 3 and 4, and 5.

    At 224 px: image -> 128@56 -> 512@14 -> 512@7. The first two shortcuts are an average pool and a 1x1
    convolution, with a batch norm in place of the convolution's bias; the last is a pool alone.

    Args: as `Vgg`.
    """

    in_line: ClassVar[bool] = False

    def __init__(
        self,
        cfg: Layout,
        num_classes: int = 1000,
        in_chans: int = 3,
        init: str = "kaiming",
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(cfg, num_classes, in_chans, init, global_pool=global_pool, drop_rate=drop_rate)
        self.shortcuts = nn.ModuleList(
            [_projection(in_chans, 128, cfg.norm), _projection(128, 512, cfg.norm), nn.AvgPool2d(2)]
        )
        INITS[init](self.shortcuts)
        self.feature_info = [
            info(one["num_chs"], 2 * one["reduction"], f"features.{end - 1}")
            for one, end in zip(self.feature_info, self.stage_ends, strict=False)
        ]

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """One after each stage and its pool, with what a shortcut adds to the second, fourth and last."""
        x = images
        for (first, last), shortcut in zip(SPANS, self.shortcuts, strict=True):
            before = x
            for stage in range(first, last):
                x = self.stages(stage, stage + 1)(x)
                if stage + 1 == last:
                    x = x + shortcut(before)
                yield x

    def parts(self) -> list[list[str]]:
        """The stages, each last one of a span with its shortcut."""
        ends = [last for _, last in SPANS]
        own = [[f"features.{k}" for k in range(first, last)] for first, last in pairwise((0, *self.stage_ends))]
        return [
            names + ([f"shortcuts.{ends.index(stage)}"] if stage in ends else [])
            for stage, names in enumerate(own, start=1)
        ]

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> maps (B, 512, H/32, W/32)."""
        spans = zip(SPANS, self.shortcuts, strict=True)
        joined = (partial(_add, self.stages(first, last), shortcut) for (first, last), shortcut in spans)
        return run(joined, images, recompute=self.grad_checkpointing)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The three spans, each with its shortcut, then the fully connected layers."""
        return {
            "span1": rf"{self.stage_names(0, 2)}|^shortcuts\.0\.",
            "span2": rf"{self.stage_names(2, 4)}|^shortcuts\.1\.",
            "span3": self.stage_names(4, 5),
            "pre_logits": r"^pre_logits\.",
        }


def _group(channels: int, to: int, stride: int, *, pool: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(channels, to, 3, stride=stride, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(to, to, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(to)]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


def _projection(channels: int, to: int, norm: bool) -> nn.Sequential:
    layers = [nn.AvgPool2d(4), nn.Conv2d(channels, to, 1, bias=not norm)]
    return nn.Sequential(*layers, *([nn.BatchNorm2d(to)] if norm else []))


def _then(first: Block, second: Block) -> Block:
    return lambda x: second(first(x))


def _add(span: Block, shortcut: Block, x: Tensor) -> Tensor:
    return span(x) + shortcut(x)


def _area(size: tuple[int, int]) -> int:
    """Places in the last maps, 4 at 224 px."""
    last = [_last_side(side) for side in size]
    return last[0] * last[1]


def _last_side(side: int) -> int:
    """Side of the last maps of an image of `side` pixels."""

    def halved(pixels: int) -> int:
        return (pixels + 1) // 2  # by a strided convolution

    def shortcut(pixels: int, stride: int) -> int:
        return (pixels - 1) // stride + 1

    first = halved(side) // 2 // 2
    second = halved(halved(first))
    third = halved(second) // 2
    if third and (first, second, third) == (shortcut(side, 8), shortcut(first, 4), shortcut(second, 4)):
        return third
    where = "sides that are multiples of 8 from 72 to 128, or from 200 to 256, are fine"
    raise ValueError(f"the maps of its trunk and of its shortcuts would differ in size; {where}")


@register_model
def lsvrc_residual(pretrained: bool = False, **options: object) -> LsvrcResidual:
    """The author's own network: nine convolutions, three strided shortcuts."""
    return build(LsvrcResidual, "lsvrc_residual", pretrained, options)


@register_model
def vgg19_res3(
    pretrained: bool = False, img_size: Size | None = None, head: str = "auto", norm: bool = True, **options: object
) -> Vgg:
    """VGG-19 with three residual connections, and with batch norm unless `norm` is false."""
    layout = Layout(CONFIGS["e"], norm, HEADS["paper"])
    return create("vgg19_res3", layout, pretrained, options, img_size=img_size, head=head, kind=VggRes3)


@register_model
def vgg11_compact(pretrained: bool = False, **options: object) -> Vgg:
    """The features of VGG-11, pooled to 5x5, under three new layers: 12,800 -> 4096 -> 2048 -> classes."""
    layout = Layout(CONFIGS["a"], norm=False, head=POOLED_5X5)
    return create("vgg11_compact", layout, pretrained, options)
