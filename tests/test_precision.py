"""Which number format a run gets: by a measurement, if the answers agree; remembered, and written into the recipe."""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from oracle import fingerprint, short_run, write_recipe
from torch import nn

from imgkit import device, finetune, precision
from imgkit.data.builtin import cache_folder
from imgkit.precision import Format, choose_format, measure_format
from imgkit.recipe.load import load_recipe

CPU = torch.device("cpu")
SMALL = (4, 3, 8, 8)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Has steps take given seconds, first one to warm up and then three of each format in turn; counts the steps."""
    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: True)

    def take(*seconds: float) -> list[int]:
        times, steps = iter(seconds), [0]

        def step(*_: object) -> float:
            steps[0] += 1
            return next(times)

        monkeypatch.setattr(precision, "step_seconds", step)
        return steps

    return take


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ([9, 9, 1.0, 0.7, 1.0, 0.9, 1.0, 0.9], torch.bfloat16),
        ([9, 1, 1.0, 0.85, 1.0, 0.85, 1.0, 0.85], None),
        ([9, 9, 1.0, 0.7, 0.8, 0.9, 1.0, 0.9], None),  # the quickest of each counts
    ],
)
def test_bfloat16_has_to_be_clearly_faster(
    timed: Callable[..., list[int]], seconds: list[float], chosen: torch.dtype | None
) -> None:
    steps = timed(*seconds)
    found = measure_format(nn.Flatten(), CPU, SMALL)
    assert (found.autocast, found.measured) == (chosen, True)
    assert found.why.startswith("bfloat16: " if chosen else "float32: ")
    assert steps == [len(seconds)]


@pytest.mark.parametrize(
    ("kind", "batch", "room", "tried"),
    [
        ("cpu", 64, 999, [8]),
        ("cpu", 1, 999, [2]),  # batch norm wants two
        ("cuda", 64, 999, [64]),
        ("cuda", 64, 20, [64, 32, 16]),
        ("cuda", 6, 1, [6, 3, 2]),
    ],
)
def test_the_format_is_tried_on_as_many_images_as_an_update_takes(
    monkeypatch: pytest.MonkeyPatch, kind: str, batch: int, room: int, tried: list[int]
) -> None:
    seen: list[int] = []

    def step(model: nn.Module, images: torch.Tensor, dtype: torch.dtype | None) -> float:
        if len(images) not in seen:
            seen.append(len(images))
        if len(images) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 1.0 if dtype is None else 0.5

    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
    monkeypatch.setattr("torch.cuda.device", nullcontext)
    monkeypatch.setattr(precision, "step_seconds", step)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
    monkeypatch.setattr(precision, "describe", str)
    found = measure_format(nn.Flatten(), torch.device(kind), (batch, 3, 8, 8))
    assert seen == tried
    if room > 1:
        assert found.autocast == torch.bfloat16
        assert f"a trial step of {tried[-1]} images in float32, measured on 20" in found.why
    else:
        assert found == Format(None, "float32: out of memory in trial steps of 2 images on cuda")


class Narrow(nn.Module):
    """Answers that half precision cannot give."""

    def __init__(self, off: float) -> None:
        super().__init__()
        self.off = off

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.mean((2, 3))
        return logits * self.off if torch.is_autocast_enabled("cpu") else logits


@pytest.mark.parametrize(
    ("off", "words"),
    [(1.4, "bfloat16: 500 ms"), (1.6, "gives other logits, 60% of their size"), (float("nan"), "nan% of their")],
)
def test_answers_have_to_be_those_of_float32(timed: Callable[..., list[int]], off: float, words: str) -> None:
    timed(*[1.0, 0.5] * 4)
    found = measure_format(Narrow(off), CPU, SMALL)
    assert words in found.why
    assert (found.autocast is None) == (off != 1.4)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "vgg11_bn", "convnext_atto"])
@pytest.mark.slow
def test_bfloat16_is_near_enough_in_networks_of_all_kinds(name: str) -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    away = precision._away(model, torch.randn(4, 3, 224, 224), torch.bfloat16)
    assert 0 < away < 0.5 * precision._WITHIN


def chosen(folder: Path, model: nn.Module, batch: int = 4, *sets: str) -> Format:
    loaded = load_recipe(write_recipe(folder, SHORT), sets=sets) if sets else load_recipe(write_recipe(folder, SHORT))
    return choose_format(batch, loaded.recipe, model, CPU, (8, 8), smoke=False)


SHORT = 'schema = 1\nname = "x"\n[[phases]]\nname = "all"\ntrain = "all"\nepochs = 1\nlr = 1e-3\n'


def test_what_was_measured_is_remembered(timed: Callable[..., list[int]], tmp_path: Path) -> None:
    steps = timed(*[1.0, 0.5] * 4, *[0.5, 1.0] * 20)
    first = chosen(tmp_path, nn.Flatten())
    assert (first.autocast, steps) == (torch.bfloat16, [8])
    again = chosen(tmp_path, nn.Flatten())
    assert (again.autocast, again.measured, steps) == (torch.bfloat16, True, [8])
    assert again == first
    others = chosen(tmp_path, nn.Flatten(), 8), chosen(tmp_path, nn.Sequential(nn.Flatten()))
    assert [one.autocast for one in others] == [None, None], "another batch and another network are measured themselves"
    assert steps == [24]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"exact": 1, "half": "x", "images": 4}', b"\xff"])
def test_a_damaged_memory_is_measured_again(timed: Callable[..., list[int]], tmp_path: Path, content: bytes) -> None:
    timed(*[1.0, 0.5] * 4, *[0.5, 1.0] * 4)
    chosen(tmp_path, nn.Flatten())
    (file,) = (cache_folder() / "trials").iterdir()
    file.write_bytes(content)
    assert chosen(tmp_path, nn.Flatten()).autocast is None
    assert json.loads(file.read_text())["half"] == 1.0


def test_other_weights_are_compared_though_times_are_remembered(
    timed: Callable[..., list[int]], tmp_path: Path
) -> None:
    steps = timed(*[1.0, 0.5] * 4)
    assert chosen(tmp_path, Narrow(1.0)).autocast == torch.bfloat16
    far = chosen(tmp_path, Narrow(float("inf")))
    assert (far.autocast, far.measured, steps) == (None, True, [8])


def test_a_cache_that_cannot_be_written_is_no_error(
    timed: Callable[..., list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path / "file" / "cache"))
    timed(*[1.0, 0.5] * 8)
    assert [chosen(tmp_path, nn.Flatten()).autocast for _ in range(2)] == [torch.bfloat16] * 2


def test_what_is_asked_for_is_taken_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: False)
    found = chosen(tmp_path, nn.Flatten(), 4, "train.precision=bfloat16")
    assert found == Format(torch.bfloat16, "bfloat16: asked for, though this processor only emulates it")
    assert chosen(tmp_path, nn.Flatten(), 4, "train.precision=float32").why == "float32: asked for"
    assert chosen(tmp_path, nn.Flatten()).why == "float32: this processor has no bfloat16 instructions"


def test_the_recipe_of_a_run_repeats_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: Iterator[Format] = iter([Format(torch.bfloat16, "bfloat16: 1 ms against 9 ms", measured=True)])
    monkeypatch.setattr(precision, "measure_format", lambda *_: next(found))
    first = short_run(tmp_path, "train.precision=auto")
    text = (first.folder.path / "recipe.toml").read_text()
    assert 'precision = "bfloat16"' in text
    assert "chosen (1 ms against 9 ms)" in text
    again = finetune(
        "test_resnet", recipe=str(first.folder.path / "recipe.toml"), data="synthetic:3x16", out=tmp_path / "again"
    )
    assert again.folder.read_json("run.json")["format"]["why"] == "bfloat16: asked for"
    assert fingerprint(again) == fingerprint(first)
