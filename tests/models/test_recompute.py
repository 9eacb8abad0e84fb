import pytest
import timm
import torch
from torch import nn

from imgkit.errors import UsageError
from imgkit.models.freeze import set_trainable, train_mode
from imgkit.models.recompute import set_grad_checkpointing, statistics_kept


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext"])
@pytest.mark.parametrize("what", ["all", "last:2"])
def test_loss_gradient_and_statistics_are_the_same(name: str, what: str) -> None:
    found = []
    for on in (False, True):
        torch.manual_seed(0)
        options = {"img_size": 32} if name == "test_vit" else {}
        model = timm.create_model(name, num_classes=3, drop_rate=0.2, drop_path_rate=0.2, **options)
        set_trainable(model, what)
        train_mode(model, batch_norm="train")
        set_grad_checkpointing(model, on)
        loss = model(torch.randn(4, 3, 32, 32)).square().mean()
        with statistics_kept(model):
            loss.backward()
        grads = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        found.append((loss.detach(), grads, model.state_dict()))
    (loss, grads, state), (again, grads_again, state_again) = found
    assert torch.allclose(loss, again, rtol=1e-6)
    assert grads.keys() == grads_again.keys()
    assert all(torch.allclose(grads[name], grads_again[name], rtol=1e-4, atol=1e-6) for name in grads)
    assert all(torch.equal(state[name], state_again[name]) for name in state), "no batch is counted twice"


def test_a_network_without_it_is_told() -> None:
    set_grad_checkpointing(nn.Linear(1, 1), False)
    with pytest.raises(UsageError, match="Linear has no gradient checkpointing") as caught:
        set_grad_checkpointing(nn.Linear(1, 1), True)
    assert "--micro-batch" in caught.value.hint
    timm_without = timm.create_model("vgg11", num_classes=2)
    with pytest.raises(UsageError, match="VGG has no gradient checkpointing"):
        set_grad_checkpointing(timm_without, True)
    set_grad_checkpointing(timm_without, False)
