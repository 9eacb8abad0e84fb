from collections.abc import Iterator

import numpy as np
import pytest
import timm
import torch
from tally import share
from threadpoolctl import threadpool_limits
from torch import nn

from imgkit.data.batches import Batch
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import UsageError
from imgkit.features import check_solvable, digest, extract, head_layer, left_by_a_solve, load_solution, pooled
from imgkit.solve import solve_head

FAMILIES = (
    "test_resnet",
    "test_vit",
    "test_efficientnet",
    "test_convnext",
    "test_nfnet",
    "test_byobnet",
    "test_maxvit",
    "test_mambaout",
    "mobilenetv3_small_050",  # convolution and activation after pooling
    "regnetx_002",
)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with threadpool_limits(1):  # for scikit-learn's own fits
        yield


def make(name: str, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=classes, drop_rate=0.5)
    for parameter in head_layer(model).parameters():  # some families begin with zeros
        nn.init.normal_(parameter, std=0.1)
    return model


def rule(model: nn.Module) -> Preprocessing:
    return Preprocessing.from_timm(timm.data.resolve_model_data_config(model))


def pictures(preprocessing: Preprocessing, n: int = 5) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 3, *preprocessing.size), dtype=torch.uint8, generator=generator)
    ids = torch.arange(n) + 10
    return [Batch(images[i : i + 2], ids[i : i + 2] % 3, ids[i : i + 2]) for i in range(0, n, 2)]


def blobs(n: int, width: int, classes: int, seed: int = 0, spread: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % classes
    centres = rng.normal(size=(classes, width))
    x = (centres[targets] + spread * rng.normal(size=(n, width))) * rng.uniform(0.1, 9, width) + rng.normal(size=width)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(targets)


# Features


@pytest.mark.parametrize("name", FAMILIES)
def test_a_solve_of_one_layer_leaves_none(name: str) -> None:
    assert left_by_a_solve(make(name)) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_what_the_head_multiplies(name: str) -> None:
    model = make(name)
    preprocessing = rule(model)
    batches = pictures(preprocessing)
    model.train()
    values = torch.cat(list(extract(model, batches, preprocessing=preprocessing, device=CPU)))
    assert not any(module.training for module in model.modules())
    assert values.dtype == torch.float32
    assert not values.requires_grad
    solution = solve_head(values, torch.cat([batch.targets for batch in batches]), classes=3, seed=0)
    load_solution(model, solution)
    with torch.inference_mode():
        logits = torch.cat([model(preprocessing.normalise(batch.images)) for batch in batches])
    assert torch.allclose(logits, values @ solution.weight.T + solution.bias, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", share(FAMILIES, FAMILIES[:6], pytest.mark.slow))
def test_features_of_a_picture_do_not_depend_on_those_beside_it(name: str) -> None:
    """To the last bit: what one run has kept is what another one would compute."""
    model = make(name)
    preprocessing = rule(model)
    images = torch.cat([batch.images for batch in pictures(preprocessing, 70)])

    def features(order: torch.Tensor, size: int) -> torch.Tensor:
        batches = [Batch(images[ids], ids % 3, ids) for ids in order.split(size)]
        return torch.cat(list(extract(model, batches, preprocessing=preprocessing, device=CPU)))

    order = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    plain = features(torch.arange(70), 32)
    assert torch.equal(plain[order], features(order, 32))
    assert torch.equal(plain[order[:40]], features(order[:40], 9))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_digest_is_of_the_trunk_alone(name: str) -> None:
    model = make(name)
    before = digest(model)
    nn.init.ones_(head_layer(model).weight)
    assert digest(model) == before == digest(make(name))
    for tensor in list(model.state_dict().values())[:-2]:
        if tensor.is_floating_point():
            tensor.view(-1)[-1] += 1
            assert digest(model) != before
            tensor.view(-1)[-1] -= 1
            break


def test_vgg_has_layers_of_its_own_before_the_head() -> None:
    from timm.models.vgg import VGG

    torch.manual_seed(0)
    model = VGG(cfg=[8, "M", 8, "M"], num_classes=3, mlp_ratio=0.01, drop_rate=0.5).eval()
    images = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        features = pooled(model, images)
        assert torch.allclose(head_layer(model)(features), model(images), atol=1e-5)


def test_convolution_of_one_pixel_as_the_head() -> None:
    from timm.models.dla import DLA

    torch.manual_seed(0)
    model = DLA(levels=[1] * 6, channels=[4, 4, 8, 8, 16, 16], num_classes=3).eval()
    assert isinstance(head_layer(model), nn.Conv2d)
    solution = solve_head(*blobs(12, 16, 3), classes=3, seed=0)
    load_solution(model, solution)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = pooled(model, images) @ solution.weight.T + solution.bias
        assert torch.allclose(model(images), expected, atol=1e-5)


class Plain(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "plain", "headless"])
def test_heads_that_cannot_be_solved(name: str) -> None:
    if name == "plain":
        model: nn.Module = Plain()
    else:
        model = timm.create_model(
            "test_resnet" if name == "headless" else name, num_classes=0 if name == "headless" else 3
        )
    with pytest.raises(UsageError, match="only a single linear head can be solved") as caught:
        head_layer(model)
    assert "phases.head.solver=sgd" in caught.value.hint


def test_head_without_a_bias() -> None:
    model = make("test_resnet")
    check_solvable(model, torch.randn(2, 3, 64, 64))
    head_layer(model).bias = None
    with pytest.raises(UsageError, match="has no bias"):
        check_solvable(model, torch.randn(2, 3, 64, 64))


def test_a_network_that_answers_with_more_than_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("test_vit")
    images, forward = torch.randn(2, 3, *rule(model).size), model.forward
    check_solvable(model, images)
    monkeypatch.setattr(model, "forward", lambda x: forward(x) * 1.1)
    with pytest.raises(UsageError, match="adds to what its head answers") as caught:
        check_solvable(model, images)
    assert "phases.head.solver=sgd" in caught.value.hint
