"""What is measured of a run's model."""

from pathlib import Path

import pytest
import timm
import torch

import imgkit
from imgkit.budget import forward_seconds
from imgkit.screen import Screen
from imgkit.studies.measure import measure_run

WAY = {"batch_size": 4, "warm_up": 1, "passes": 3}


@pytest.mark.parametrize("recipe", ["probe", "scratch"])
def test_trainable_parameters_are_those_of_some_phase(tmp_path: Path, recipe: str) -> None:
    sets = ["run.workers=0", "model.weights=none"] + (["phases.all.epochs=1"] if recipe == "scratch" else [])
    run = imgkit.finetune(
        "test_resnet", recipe=recipe, data="synthetic:3x12", image_size=32, sets=sets, out=tmp_path, name="r"
    )
    entry = measure_run(run.folder, train_images=None, inference=WAY, screen=Screen(quiet=True))
    model = timm.create_model("test_resnet", num_classes=3)
    parameters = sum(weight.numel() for weight in model.parameters())
    assert entry["trainable"] == (parameters if recipe == "scratch" else 3 * model.num_features + 3)
    stored = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    assert entry["size_bytes"] == stored, "buffers are part of it"
    assert entry["train"] == f"train@{entry['label']}"
    assert run.metrics[entry["train"]]["n"] == run.folder.read_json("run.json")["data"]["n"]["train"]
    assert entry["inference"]["seconds"] > 0
    threads = torch.get_num_threads()
    again = measure_run(run.folder, train_images=None, inference=WAY, screen=Screen(quiet=True))
    assert torch.get_num_threads() == threads
    assert again["trainable"] == entry["trainable"]


def test_the_time_of_a_batch_is_the_median_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Size] = []

    class Net(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images.shape)
            assert not self.training
            return images.mean((1, 2, 3))

    ticks = iter([0.0, 9.0, 0.0, 8.0, 0.0, 1.0, 0.0, 5.0, 0.0, 2.0])
    monkeypatch.setattr("imgkit.budget.time.perf_counter", lambda: next(ticks))
    net = Net().train()
    assert forward_seconds(net, (4, 3, 8, 8), torch.device("cpu"), warm_up=2, passes=3) == 2.0
    assert seen == [torch.Size([4, 3, 8, 8])] * 5
    assert net.training
