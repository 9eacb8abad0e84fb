"""A loss, a schedule, a source and a network of one's own, for imgkit: --plugin my_plugin.py."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from imgkit.plugin import Loss, Picture, Schedule, register_loss, register_model, register_schedule, register_source


@register_loss("tversky")
def tversky(alpha: float = 0.5, beta: float = 0.5) -> Loss:
    """Tversky loss over a softmax (Salehi et al. 2017): alpha weighs false positives, beta false negatives."""

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        p = logits.softmax(1)  # (B, K)
        true = functional.one_hot(targets, p.shape[1])
        hit, over, short = (p * true).sum(1), (p * (1 - true)).sum(1), ((1 - p) * true).sum(1)  # (B, K) -> (B,)
        return (1 - hit / (hit + alpha * over + beta * short)).mean()

    return loss


@register_schedule("halving")
def halving(times: int = 3) -> Schedule:
    """Half the rate after each equal part of the phase, so many times."""
    return lambda progress: 0.5 ** min(int(progress * (times + 1)), times)


@register_source("by_name")
def by_name(folder: str) -> Iterator[Picture]:
    """Pictures called CLASS_NUMBER.png in one folder."""
    for file in sorted(Path(folder).glob("*_*.png")):
        yield Picture(path=str(file.absolute()), label=file.stem.rpartition("_")[0])


class TinyNet(nn.Module):
    """Images (B, 3, H, W) -> logits (B, K)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 16, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(256, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """One image, one row of logits."""
        logits: Tensor = self.head(self.trunk(images))
        return logits

    def get_classifier(self) -> nn.Module:
        """What `train = "head"` trains."""
        return self.head


@register_model
def my_tiny_net(pretrained: bool = False, num_classes: int = 1000, **kwargs: object) -> TinyNet:
    """The network, as timm asks for it."""
    return TinyNet(num_classes)
