"""VGG (Simonyan and Zisserman 2015, arXiv 1409.1556) by table; tensors are called as timm's: features.N, head.fc …."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from timm.layers import ClassifierHead
from torch import Tensor, nn
from torch.nn import functional

from imgkit.models.networks.common import INITS, Size, build, one_of, run, sides
from imgkit.models.networks.maps import Maps, info
from imgkit.models.networks.vgg_weights import filter_weights, start_of_deeper

CONFIGS = {
    "a": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "a_lrn": "64 LRN M 128 M 256 256 M 512 512 M 512 512 M",
    "b": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "c": "64 64 M 128 128 M 256 256 256/1 M 512 512 512/1 M 512 512 512/1 M",
    "d": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "e": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
"""The paper's table 1: channels of each 3x3 convolution (256/1: of a 1x1 one), M a max pool, LRN a normalisation."""

SMALL = 96
"""Images of sides up to this, in pixels, get the compact head where nothing is said of it."""


@dataclass(frozen=True)
class Head:
    """The two fully connected layers before the classifier.

    Attributes:
        side: of the map that the first one reads.
        widths: of the two.
        pooled: whether every map is average pooled to `side`; else only a smaller one is, up, and over a larger one
            the layers are applied everywhere and averaged (section 3.2, as timm does).
    """

    side: int
    widths: tuple[int, int] = (4096, 4096)
    pooled: bool = True


SMALLEST = (3, 32, 32)
"""The smallest image that five pools leave something of, (C, H, W)."""
HEADS: Mapping[str, Head] = {"paper": Head(7, pooled=False), "compact": Head(2)}


@dataclass(frozen=True)
class Layout:
    """What makes one network of the family: a line of `CONFIGS`, batch norm after each convolution or none, a head."""

    convs: str
    norm: bool
    head: Head


class FcLayers(nn.Module):
    """Maps (B, C, H, W) -> (B, D, h, w), h and w one but over maps larger than the first layer reads."""

    def __init__(self, channels: int, head: Head, drop_rate: float) -> None:
        super().__init__()
        self.side, self.pooled = head.side, head.pooled
        first, second = head.widths
        self.fc1 = nn.Conv2d(channels, first, head.side)
        self.act1 = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(drop_rate)
        self.fc2 = nn.Conv2d(first, second, 1)
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Pool where the head says so, then both layers."""
        height, width = x.shape[-2:]
        wanted = (self.side, self.side) if self.pooled else (max(height, self.side), max(width, self.side))
        if wanted != (height, width):
            x = _pool(x, wanted)
        x = self.drop(self.act1(self.fc1(x)))
        found: Tensor = self.act2(self.fc2(x))
        return found


def _pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Average pool (B, C, H, W) to `size`, by an operation with a deterministic gradient where there is one."""
    height, width = x.shape[-2:]
    if height % size[0] == 0 and width % size[1] == 0:
        return functional.avg_pool2d(x, (height // size[0], width // size[1]))
    return functional.adaptive_avg_pool2d(x, size)


class Vgg(Maps):
    """Images (B, 3, H, W), sides from 32 px -> logits (B, K).

    Args:
        cfg: which network.
        num_classes: K; 0 leaves out the classifier.
        in_chans: channels of the images.
        init: "kaiming" as timm's, or "paper": N(0, variance 0.01).
        last_pool: "avg" leaves the fifth pool to the average pool of a head that has one.
        global_pool: of what the head says at each place of an image larger than it reads.
        drop_rate: dropout after each of the two fully connected layers; 0.5 in the paper.
        width: times the channels of all convolutions and the units of both hidden layers, rounded, at least 1.
        norm: batch norm after each convolution; None: as the name says.

    Attributes:
        settled: arguments that were chosen by themselves, with what was chosen; a model folder keeps them.
        notes: what is said of that.
    """

    def __init__(
        self,
        cfg: Layout,
        num_classes: int = 1000,
        in_chans: int = 3,
        init: str = "kaiming",
        last_pool: str = "max",
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        width: float = 1.0,
        norm: bool | None = None,
    ) -> None:
        super().__init__()
        if not width > 0:
            raise ValueError(f"width must be above 0, got {width:g}")
        self.width = width
        self.init = one_of("init", init, tuple(INITS))
        if one_of("last_pool", last_pool, ("max", "avg")) == "avg" and not cfg.head.pooled:
            raise ValueError("last_pool = 'avg' needs a head that pools; head = 'compact' does")
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.grad_checkpointing = False
        self.settled: dict[str, Any] = {}
        self.notes: tuple[str, ...] = ()
        parts = cfg.convs.split()[: -1 if last_pool == "avg" else None]
        norm = cfg.norm if norm is None else norm
        self.features, self.stage_ends, self.num_features = _features(parts, in_chans, norm, width)
        self.taps = [*(end - 1 for end in self.stage_ends[: parts.count("M")]), len(self.features)]
        self.feature_info = [
            info(_channels(self.features[:tap]), 2**k, f"features.{tap - 1}") for k, tap in enumerate(self.taps)
        ]
        first, second = (_scaled(units, width) for units in cfg.head.widths)
        self.pre_logits: nn.Module = FcLayers(self.num_features, replace(cfg.head, widths=(first, second)), drop_rate)
        self.head_hidden_size = second
        self.head = ClassifierHead(self.head_hidden_size, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        INITS[init](self)

    def stages(self, first: int, last: int) -> nn.Sequential:
        """The stages first … last - 1, each with the pool that closes it; there are five."""
        ends = [0, *self.stage_ends]
        return self.features[ends[first] : ends[last]]

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """As timm's: one before each pool, and one at the end."""
        x = images
        for first, last in pairwise((0, *self.taps)):
            x = self.features[first:last](x)
            yield x

    def parts(self) -> list[list[str]]:
        """The layers up to each map."""
        return [[f"features.{k}" for k in range(first, last)] for first, last in pairwise((0, *self.taps))]

    def drop_head(self) -> None:
        """Leave out all fully connected layers."""
        self.pre_logits, self.num_classes, self.head_hidden_size = nn.Identity(), 0, self.num_features
        self.head = ClassifierHead(self.num_features, 0, pool_type="", drop_rate=self.drop_rate).train(self.training)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> maps (B, 512, H/32, W/32)."""
        if self.grad_checkpointing:
            return run((self.stages(k, k + 1) for k in range(5)), images, recompute=True)
        found: Tensor = self.features(images)
        return found

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps -> logits (B, K), or what the classifier reads, (B, D)."""
        found: Tensor = self.head(self.pre_logits(x), pre_logits=pre_logits)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, K)."""
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        classifier: nn.Module = self.head.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give it a new last layer."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def part_of(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What it takes of the weights of a trained A: see `start_of_deeper`."""
        return start_of_deeper(state, self)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The five stages, then the fully connected layers."""
        return {f"stage{k + 1}": self.stage_names(k, k + 1) for k in range(5)} | {"pre_logits": r"^pre_logits\."}

    def stage_names(self, first: int, last: int) -> str:
        """A pattern for names in the stages first … last - 1."""
        ends = [0, *self.stage_ends]
        return rf"^features\.(?:{'|'.join(map(str, range(ends[first], ends[last])))})\."

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only what lies between stages for the gradient."""
        self.grad_checkpointing = enable


def _scaled(units: int, width: float) -> int:
    return max(1, round(units * width))


def _channels(layers: nn.Sequential) -> int:
    """Of what the last convolution gives."""
    return [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)][-1]


def _features(parts: list[str], in_chans: int, norm: bool, width: float) -> tuple[nn.Sequential, list[int], int]:
    """The layers, where each stage ends among them, and the channels of the last."""
    layers: list[nn.Module] = []
    ends, channels = [], in_chans
    for part in parts:
        if part == "M":
            layers.append(nn.MaxPool2d(2))
            ends.append(len(layers))
        elif part == "LRN":  # Krizhevsky et al. 2012: k = 2, n = 5, alpha = 1e-4, which torch divides by n
            layers.append(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))
        else:
            count, _, kernel = part.partition("/")
            side, out = int(kernel or 3), _scaled(int(count), width)
            layers.append(nn.Conv2d(channels, out, side, padding=side // 2))
            channels = out
            layers += [nn.BatchNorm2d(channels)] if norm else []
            layers.append(nn.ReLU(inplace=True))
    if parts[-1] != "M":
        ends.append(len(layers))
    return nn.Sequential(*layers), ends, channels


def create(
    variant: str,
    layout: Layout,
    pretrained: bool,
    options: Mapping[str, object],
    *,
    img_size: Size | None = None,
    head: str | None = None,
    kind: type[Vgg] = Vgg,
) -> Vgg:
    """Build a network of the family.

    Args:
        variant: its name.
        layout: what makes it.
        pretrained: whether to load weights.
        options: what timm's registry and the caller gave, for `kind` and timm's builder.
        img_size: of the images that it is to see; decides where the head is "auto".
        head: "auto" or one of `HEADS`; None: that of the layout.
        kind: its class.

    Raises:
        ValueError: for a head or another word that is none.
    """
    settled: dict[str, Any] = {}
    notes: list[str] = []
    given = {"model_cfg": layout, "pretrained_filter_fn": filter_weights, **options}
    if head is not None:
        chosen = one_of("head", head, ("auto", *HEADS))
        if chosen == "auto":
            size = sides(img_size or 224)
            chosen = "compact" if max(size) <= SMALL else "paper"
            notes += [_compact_note(size, options.get("width", 1.0))] if chosen == "compact" else []
        layout = given["model_cfg"] = replace(layout, head=HEADS[chosen])
        settled = {"head": chosen}
    if layout.head.pooled:  # all three layers are new over a pretrained trunk, so all are its classifier
        overlay = options.get("pretrained_cfg_overlay")
        layers = {"classifier": ("head.fc", "pre_logits.fc1", "pre_logits.fc2")}
        given["pretrained_cfg_overlay"] = layers | overlay if isinstance(overlay, dict) else layers
    model = build(kind, variant, pretrained, given)
    model.settled, model.notes = settled, tuple(notes)
    return model


def _compact_note(size: tuple[int, int], scale: object) -> str:
    height, width = size
    more = "with 94 M parameters more" if scale == 1 else "with many more parameters"
    return (
        f"images of {height}×{width} px leave maps of {height // 32}×{width // 32}, so the head reads 2×2 "
        f"(head = compact); --set model.options.head=paper pools them up to 7×7, {more}"
    )
