"""A head of several layers in place of a network's last one; the network stays what timm made."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from timm.layers import ClassifierHead, SelectAdaptivePool2d
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from imgkit.errors import UsageError
from imgkit.recipe.heads import LINEAR, HeadShape

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}
_LEAVE_OUT = f"Leave --head out, or write  --head {LINEAR}"


class GridPool(SelectAdaptivePool2d):
    """Average pooling of a map (B, C, H, W) to (B, C, side, side), or flattened to (B, C * side * side).

    Its `pool_type` is no word of timm's, so that `reset_classifier(K, "avg")` makes the network's own pooling again.

    Args:
        side: N, pixels.
        flatten: whether what follows is a vector.
        channels_last: whether maps come as (B, H, W, C).
    """

    def __init__(self, side: int, *, flatten: bool, channels_last: bool = False) -> None:
        super().__init__(output_size=side, pool_type="avg", flatten=flatten)
        self.pool_type = f"avg{side}"
        self.side, self.channels_last = side, channels_last

    def forward(self, x: Tensor) -> Tensor:
        """Pool the map (B, C, H, W), or (B, H, W, C)."""
        maps = x.permute(0, 3, 1, 2) if self.channels_last else x
        height, width = maps.shape[-2:]
        if height % self.side == 0 and width % self.side == 0:  # an operation whose gradient is deterministic on GPUs
            pooled = avg_pool2d(maps, (height // self.side, width // self.side))
        else:
            pooled = self.pool(maps)
        flat: Tensor = self.flatten(pooled)
        return flat

    def feat_mult(self) -> int:
        """Features that each channel gives."""
        return self.side**2


def mlp(width: int, shape: HeadShape, classes: int, drop_rate: float = 0.0, *, flatten: bool = False) -> nn.Sequential:
    """Layers fc1, fc2, …: features (B, width) -> logits (B, classes), of `shape`'s widths in between.

    Args:
        width: of the features.
        shape: of the hidden layers.
        classes: K.
        drop_rate: dropout after each hidden layer.
        flatten: whether the features come as maps (B, C, H, W), width = C * H * W.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if flatten:
        layers["flatten"] = nn.Flatten(1)
    for number, hidden in enumerate(shape.widths, start=1):
        layers[f"fc{number}"] = nn.Linear(width, hidden)
        if shape.act != "none":
            layers[f"act{number}"] = _ACTIVATIONS[shape.act]()
        if drop_rate > 0:
            layers[f"drop{number}"] = nn.Dropout(drop_rate)
        width = hidden
    layers[f"fc{len(shape.widths) + 1}"] = nn.Linear(width, classes)
    return nn.Sequential(layers)


def set_head(model: nn.Module, text: str, classes: int, drop_rate: float = 0.0) -> None:
    """Put a head in place of the model's last layer; "linear" leaves it as it is.

    `poolN-mlp` takes the map that `forward_features` gives: VGG's own two layers of 4096 go. Weights are new.

    Args:
        model: with timm's own head for any number of classes; changed in place.
        text: a head, as `HeadShape.parse` reads it.
        classes: K.
        drop_rate: dropout after each hidden layer; what timm itself drops before the head is the model's own.

    Raises:
        UsageError: if the model has no single linear classifier, or no feature map that can be pooled to N × N.
    """
    shape = HeadShape.parse(text)
    if not shape.widths:
        return
    place = _place(model, text)
    layer: Any = model.get_submodule(place)
    width = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
    flatten = isinstance(layer, nn.Conv2d)
    if shape.side is not None:
        width = _pool(model, text, shape.side, width)
        flatten = True
    head = mlp(width, shape, classes, drop_rate, flatten=flatten)
    _replace(model, place, head.to(layer.weight.device, layer.weight.dtype))


def _place(model: nn.Module, text: str) -> str:
    """The name of the one layer that gives the logits: a linear one, or a 1 x 1 convolution."""
    modules = dict(model.named_modules())
    network: Any = model
    found = network.get_classifier() if hasattr(model, "get_classifier") else None
    record: str | Sequence[str] = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    listed = [record] if isinstance(record, str) else [*record]
    several = sum(not name.startswith("pre_logits") for name in listed) > 1  # deit's and volo's second one
    names = [name for name, module in modules.items() if module is found]
    names += listed  # some give a module that has the layer within
    place: str | None = next((name for name in names if _is_layer(modules.get(name))), None)
    if place is None or several:
        what = "several classifiers" if several else "no linear classifier"
        raise UsageError(f"{type(model).__name__} has {what}, so it cannot have the head {text!r}.", _LEAVE_OUT)
    return place


def _is_layer(module: object) -> bool:
    return isinstance(module, nn.Linear) or (
        isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
    )


def _pool(model: nn.Module, text: str, side: int, width: int) -> int:
    """Let the model average its map to `side` pixels a side; how many features that gives."""
    pools = [(name, module) for name, module in model.named_modules() if isinstance(module, SelectAdaptivePool2d)]
    if len(pools) != 1 or pools[0][1].is_identity():
        raise UsageError(
            f"{type(model).__name__} pools no feature map that {text!r} could take.",
            f"Take the features that it pools itself:  --head {text.partition('-')[2]}",
        )
    [(place, pool)] = pools
    width //= pool.feat_mult()
    network: Any = model
    if hasattr(model, "pre_logits") and isinstance(network.head, ClassifierHead):
        network.pre_logits = nn.Identity()
        width = network.head.in_features = network.head_hidden_size = network.num_features
    own: Any = pool.pool
    flatten = isinstance(pool.flatten, nn.Flatten) or bool(getattr(own, "flatten", False))
    _replace(model, place, GridPool(side, flatten=flatten, channels_last=getattr(own, "dim", None) == (1, 2)))
    return width * side**2


def _replace(model: nn.Module, place: str, module: nn.Module) -> None:
    parent, _, name = place.rpartition(".")
    before = model.get_submodule(place)
    setattr(model.get_submodule(parent), name, module.train(before.training))
