import pytest
import torch

from imgkit.models.networks import lsvrc, vgg

torch.set_num_threads(1)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fully connected layers of VGG that cost nothing: the trunks are as they are."""
    heads = {"paper": vgg.Head(7, (24, 16), pooled=False), "compact": vgg.Head(2, (24, 16))}
    monkeypatch.setattr(vgg, "HEADS", heads)
    monkeypatch.setattr(lsvrc, "POOLED_5X5", vgg.Head(5, (24, 16)))
