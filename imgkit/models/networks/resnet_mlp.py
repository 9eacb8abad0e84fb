"""ResNet-50 with a head of two layers, 2048 -> 1000 -> classes, on the trunk that torchvision trained.

LSVRC-2012-highscore (lakaeso) trains this head on the frozen trunk. Its two layers have nothing in between, so they
amount to one matrix of rank 1000; `head_act="relu"` makes them two layers. Other widths, on any network:
`--head mlp:512`. (timm's own `resnet50_mlp` is another network, with a deep stem.)
"""

from collections.abc import Mapping
from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor

from imgkit.models.heads import mlp
from imgkit.models.networks.common import build, one_of, plain_config
from imgkit.recipe.heads import Activation, HeadShape

_ACTS: tuple[Activation, ...] = ("none", "relu")


class MlpResNet(ResNet):
    """A ResNet whose classifier `fc` is fc1, an activation or none, and fc2.

    Args:
        head_act: "none", as published, or "relu".
        **kwargs: of timm's ResNet.

    Raises:
        ValueError: for another activation.
    """

    def __init__(self, *, head_act: Activation = "none", **kwargs: object) -> None:
        one_of("head_act", head_act, _ACTS)
        options: dict[str, Any] = dict(kwargs)
        super().__init__(**options)
        self.head_shape = HeadShape((1000,), head_act)
        self._set_fc()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head of the same kind for `num_classes` classes; none at all for 0."""
        super().reset_classifier(num_classes, global_pool)
        self._set_fc()

    def _set_fc(self) -> None:
        if self.num_classes > 0:
            weight: Tensor = self.fc.weight
            self.fc = mlp(self.head_hidden_size, self.head_shape, self.num_classes).to(weight.device, weight.dtype)
            self.fc.train(self.training)


def own_head_kept(state: Mapping[str, Tensor], model: MlpResNet) -> dict[str, Tensor]:
    """Weights for timm to load strictly: with the model's own head where theirs is another.

    A plain ResNet's is one layer, and one for another number of classes does not fit either.
    """
    own = {name: value for name, value in model.state_dict().items() if name.startswith("fc.")}
    fits = all(name in state and state[name].shape == value.shape for name, value in own.items())
    return dict(state) if fits else {name: value for name, value in state.items() if not name.startswith("fc.")} | own


default_cfgs = generate_default_cfgs(
    {f"resnet50_mlp1000.{tag}": plain_config(f"resnet50.{tag}") for tag in ("tv_in1k", "tv2_in1k", "a1_in1k")}
)


@register_model
def resnet50_mlp1000(pretrained: bool = False, **kwargs: object) -> MlpResNet:
    """ResNet-50 with the head 2048 -> 1000 -> classes; `head_act` "none" or "relu"."""
    parts = {"block": Bottleneck, "layers": (3, 4, 6, 3), "pretrained_filter_fn": own_head_kept}
    return build(MlpResNet, "resnet50_mlp1000", pretrained, {**parts, **kwargs})
