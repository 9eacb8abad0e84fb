"""What imgkit's own networks share: timm's record of them, sizes, initial weights, recomputed activations."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import get_device_dtype
from timm.models import PretrainedCfg, build_model_with_cfg, checkpoint_seq, get_pretrained_cfg
from torch import Tensor, nn

from imgkit.errors import suggestion
from imgkit.models.networks.maps import Maps, features_options

Size = int | Sequence[int]
"""Side of a square image, or (height, width); pixels."""
Block = Callable[[Tensor], Tensor]
Network = TypeVar("Network", bound=nn.Module)


def config(**changes: object) -> dict[str, Any]:
    """The record of a network that timm keeps: ImageNet's classes, size and preprocessing but for `changes`."""
    return {
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        **changes,
    }


def plain_config(name: str) -> PretrainedCfg:
    """Timm's record of the network that one of imgkit's own is built on: where its weights are, and what for."""
    found = get_pretrained_cfg(name)
    assert found is not None, f"timm has no weights {name}"
    return found


def build(kind: type[Network], variant: str, pretrained: bool, options: Mapping[str, object]) -> Network:
    """A network by timm's builder, which loads weights where it is asked to.

    Args:
        kind: its class.
        variant: its name.
        pretrained: whether to load weights.
        options: what timm's registry and the caller gave, for `kind` and for the builder.

    Returns:
        The network; with `features_only` timm's class of its maps.
    """
    given = features_options(kind, variant, options)
    model: Network = build_model_with_cfg(kind, variant, pretrained, **given)
    return model


def sides(size: Size) -> tuple[int, int]:
    """Height and width."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def run(blocks: Iterable[Block], x: Tensor, *, recompute: bool) -> Tensor:
    """`x` through the blocks; with `recompute` only what lies between them is kept for the gradient (Chen et al. 2016).

    Args:
        blocks: the first is given `x`.
        x: (B, C, H, W).
        recompute: whether activations are computed again.
    """
    if recompute:
        found: Tensor = checkpoint_seq(list(blocks), x)
        return found
    for block in blocks:
        x = block(x)
    return x


def linear(width: int, num_classes: int, like: nn.Module | None = None) -> nn.Module:
    """A classifier of features (B, width), or nothing for no classes; where and of the type that `like` is."""
    made = nn.Linear(width, num_classes) if num_classes else nn.Identity()
    return made if like is None else made.to(**get_device_dtype(like)).train(like.training)


class FlatHead(Maps):
    """What networks of one input size share: hidden layers on flattened maps (`pre_logits`), dropout, a classifier.

    Attributes:
        num_classes: K; 0: no classifier.
        head_hidden_size: width of what the classifier reads.
        grad_checkpointing: whether activations are computed again for the gradient.
    """

    pre_logits: nn.Module
    drop: nn.Module
    head: nn.Module
    num_classes: int
    head_hidden_size: int
    grad_checkpointing: bool = False

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> maps (B, C, h, w); each network has its own."""
        raise NotImplementedError

    def drop_head(self) -> None:
        """Leave out the hidden layers and the classifier."""
        self.pre_logits, self.num_classes, self.head_hidden_size = nn.Identity(), 0, self.num_features
        self.head = nn.Identity()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps -> logits (B, K), or what the classifier reads, (B, `head_hidden_size`)."""
        found: Tensor = self.drop(self.pre_logits(x))
        return found if pre_logits else self.head(found)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, K)."""
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give it a new last layer; it has no pool that could be another."""
        self.num_classes = num_classes
        self.head = linear(self.head_hidden_size, num_classes, like=self)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only what lies between blocks for the gradient."""
        self.grad_checkpointing = enable


def one_of(option: str, value: str, words: Sequence[str]) -> str:
    """`value`, if it is one of `words`.

    Raises:
        ValueError: if not, naming them.
    """
    if value not in words:
        raise ValueError(f"{option} must be one of {', '.join(words)}, got {value!r}{suggestion(str(value), words)}")
    return value


def _init_kaiming(model: nn.Module) -> None:
    """Convolutions from He's normal distribution by fan-out, as timm's VGG; batch norms at one, biases at zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _init_paper(model: nn.Module) -> None:
    """All weights from N(0, variance 0.01), biases zero (Simonyan and Zisserman 2015, section 3.1)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


INITS: Mapping[str, Callable[[nn.Module], None]] = {"kaiming": _init_kaiming, "paper": _init_paper}
"""Initial weights by name."""
