import pytest
import torch
from torch import nn

from imgkit.models.networks.common import INITS, config, linear, one_of, run, sides


def test_sizes() -> None:
    assert sides(5) == (5, 5)
    assert sides([4, 6]) == sides((4, 6)) == (4, 6)


def test_changes_lie_over_the_usual_record() -> None:
    assert config(num_classes=3)["num_classes"] == 3
    assert config()["input_size"] == (3, 224, 224)


def test_a_word_that_is_none() -> None:
    assert one_of("init", "b", ("a", "b")) == "b"
    with pytest.raises(ValueError, match="init must be one of a, b, got 'c'"):
        one_of("init", "c", ("a", "b"))


def test_blocks_run_in_order_with_and_without_recomputation() -> None:
    calls: list[int] = []

    def block(number: int) -> nn.Module:
        class Block(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                calls.append(number)
                return x * x + number

        return Block()

    x = torch.ones(1, requires_grad=True)
    blocks = [block(1), block(2)]
    assert run(blocks, x, recompute=False).item() == run(blocks, x, recompute=True).item() == 6
    assert calls == [1, 2, 1, 2]
    run(blocks, x, recompute=True).backward()
    assert sorted(calls[4:]) == [1, 1, 2, 2], "each block is run again for the gradient"


def test_a_new_classifier_is_like_the_network() -> None:
    like = nn.Linear(2, 2, dtype=torch.float64).eval()
    made = linear(4, 3, like=like)
    assert made(torch.ones(1, 4, dtype=torch.float64)).shape == (1, 3)
    assert not made.training
    assert isinstance(linear(4, 0), nn.Identity)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 8, 1, bias=False), nn.Linear(64, 64))
    for module in model:
        nn.init.constant_(module.weight, 9)
    INITS["kaiming"](model)
    assert model[0].weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert model[3].weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert torch.equal(model[1].weight, torch.ones(64))
    INITS["paper"](model)
    assert model[0].weight.std().item() == pytest.approx(0.1, rel=0.02)
    assert model[3].weight.std().item() == pytest.approx(0.1, rel=0.03)
    assert all(not module.bias.any() for module in model if module.bias is not None)
