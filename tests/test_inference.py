"""Every faster format of `predict` against float32, and when it is taken."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import timm
import torch
from torch import nn

from imgkit import inference
from imgkit.calibration import Calibration
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import DivergedError, UsageError
from imgkit.inference import FEW, Network, Precision

torch.set_num_threads(1)
CPU = torch.device("cpu")
RULE = Preprocessing(size=(32, 32), crop_pct=1.0, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


@dataclass
class Loaded:
    """As much of models.folder.LoadedModel as a network needs."""

    model: nn.Module
    preprocessing: Preprocessing = RULE
    classes: tuple[str, ...] = ("a", "b", "c")
    calibration: Calibration = field(default_factory=lambda: Calibration(1.0, None, "val", 100))


class Steps(nn.Module):
    """Logits (B, 3), far apart, that know whether they are in half precision and whether the norm is still there."""

    def __init__(self, half_off: float = 0.0, folded_off: float = 0.0) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)
        self.half_off, self.folded_off = half_off, folded_off
        nn.init.eye_(self.conv.weight.data.view(3, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = 3 * self.norm(self.conv(images)).mean((2, 3)).float()
        off = self.half_off if torch.is_autocast_enabled("cpu") else 0.0
        off += self.folded_off * isinstance(self.norm, nn.Identity)
        return logits + off * torch.tensor([1.0, -1.0, 0.0])


class Overflowing(Steps):
    """The same, but for red pictures in half precision: there a logit is too great."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        if torch.is_autocast_enabled("cpu"):
            logits[images.mean((2, 3)).argmax(1) == 0, 0] = torch.inf
        return logits


def batches(n: int = 3) -> list[list[torch.Tensor]]:
    """`n` batches of 32 pictures, red, green and blue by turns."""
    random = torch.Generator().manual_seed(0)
    pictures = []
    for number in range(32):
        picture = torch.randint(60, 120, (3, 32, 32), generator=random, dtype=torch.uint8)
        picture[number % 3] += 100
        pictures.append(picture)
    return [pictures] * n


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that has bfloat16, in which all takes half of the time."""
    monkeypatch.setattr(inference, "has_half", lambda _: torch.bfloat16)
    monkeypatch.setattr(Network, "_seconds", lambda *_: (1.0, 0.5))


def asked(
    model: nn.Module, precision: Precision = "auto", calibration: Calibration | None = None
) -> tuple[list[np.ndarray], list[str], Network]:
    """Answers to three batches, what was told, and the network."""
    loaded = Loaded(model) if calibration is None else Loaded(model, calibration=calibration)
    told: list[str] = []
    network = Network(loaded, CPU, precision, told.append)  # type: ignore[arg-type]
    return [network(batch) for batch in batches()], told, network


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_every_format_has_the_answers_of_float32(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3, **({"img_size": 32} if name == "test_vit" else {}))
    exact, told, network = asked(model, "float32")
    assert (told, network._model) == ([], model), "nothing is looked for"
    for precision in ("auto", "bfloat16", "float16"):
        found, told, network = asked(model, precision)
        assert max(np.abs(one - other).max() for one, other in zip(found, exact, strict=True)) < 0.02
        assert (network._model is model, len(told)) == (False, int(precision == "auto"))
        assert network._autocast == (torch.float16 if precision == "float16" else torch.bfloat16)
    found, _, _ = asked(model)
    assert all(np.array_equal(*pair) for pair in zip(found[: FEW // 32], exact, strict=False)), "few are exact"


@pytest.mark.parametrize(
    ("half_off", "folded_off", "half", "folded", "words"),
    [
        (0.0, 0.0, True, True, "bfloat16, 50% of float32's time; same answers within 0.02 on 32 images"),
        (0.1, 0.0, False, True, "float32: bfloat16 gave other answers, or probabilities 0.02 away"),
        (float("nan"), 0.0, False, True, "float32: bfloat16 gave other answers"),
        (0.01, 0.01, True, False, "bfloat16, 50%"),
        (0.0, 0.01, True, False, "bfloat16, 50%"),
        (0.1, 5.0, False, False, "float32: bfloat16 gave other answers"),
    ],
)
@pytest.mark.usefixtures("faster")
def test_a_format_that_answers_otherwise_is_not_taken(
    half_off: float, folded_off: float, half: bool, folded: bool, words: str
) -> None:
    model = Steps(half_off, folded_off)
    _, told, network = asked(model)
    (line,) = told
    assert line.startswith(f"precision after {FEW} images: {words}")
    assert (network._autocast is not None) == half
    assert (network._model is not model) == folded


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize(("least", "half"), [(0.2, True), (0.5, False)])
def test_sets_of_labels_stay_the_same(monkeypatch: pytest.MonkeyPatch, least: float, half: bool) -> None:
    near = torch.tensor([0.001, 5.0, 5.0])  # the first label's probability is just above a half

    def logits(images: torch.Tensor) -> torch.Tensor:
        return near.repeat(len(images), 1) - 0.002 * torch.is_autocast_enabled("cpu")

    model = Steps()
    monkeypatch.setattr(model, "forward", logits)
    _, _, network = asked(model, calibration=Calibration(1.0, dict.fromkeys("abc", least), "val", 100))
    assert (network._autocast is not None) == half


@pytest.mark.parametrize(("slow", "fast", "half"), [(1.0, 0.89, True), (1.0, 0.91, False)])
def test_half_precision_has_to_be_faster(monkeypatch: pytest.MonkeyPatch, slow: float, fast: float, half: bool) -> None:
    monkeypatch.setattr(inference, "has_half", lambda _: torch.bfloat16)
    clock: Iterator[float] = iter([0, 0, *(t for _ in range(2) for t in (0, slow, 0, fast))])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    _, (line,), network = asked(Steps())
    assert (network._autocast is not None) == half
    assert half or "float32, batch norms folded: bfloat16 is not faster" in line


def test_without_instructions_norms_are_folded_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "has_half", lambda _: None)
    exact, _, _ = asked(Steps(), "float32")
    found, (line,), network = asked(Steps())
    assert isinstance(network._model.norm, nn.Identity)
    assert "images: float32, batch norms folded (--precision float32: exact)" in line
    assert all(np.abs(one - other).max() < 1e-6 for one, other in zip(found, exact, strict=True))
    _, (line,), network = asked(Steps(folded_off=0.1))
    assert isinstance(network._model.norm, nn.BatchNorm2d)
    assert "float32, as it is: folded batch norms changed its answers" in line


@pytest.mark.usefixtures("faster")
def test_where_memory_runs_out_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: nn.Module, images: torch.Tensor) -> Sequence[object]:
        raise MemoryError

    monkeypatch.setattr(inference, "fold_batch_norms", fail)
    model = Steps()
    found, (line,), network = asked(model)
    assert (len(found), network._model, network._autocast) == (3, model, None)
    assert "float32: no memory to try another format" in line


@pytest.mark.usefixtures("faster")
def test_a_network_that_is_none_to_copy_works_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Steps()
    model.kept = iter([])  # as a plugin's may have
    monkeypatch.setattr(Steps, "__deepcopy__", lambda *_: model.kept.no, raising=False)
    _, (line,), network = asked(model)
    assert (network._model, network._autocast) == (model, torch.bfloat16)
    assert asked(model, "bfloat16")[2]._model is model

    def refuse(*_: object) -> None:
        raise TypeError("no such kernel")

    monkeypatch.setattr(Network, "_seconds", refuse)
    found, (line,), network = asked(model)
    assert (len(found), network._model, network._autocast) == (3, model, None)
    assert "float32: another format failed (TypeError('no such kernel'))" in line


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize(("shift", "gone", "taken"), [(0, 0, True), (1, 0, True), (60, 0, False), (0, 1, False)])
def test_pictures_resized_by_torch_have_to_have_the_same_answers(shift: int, gone: int, taken: bool) -> None:
    network, asked_for = Network(Loaded(Steps()), CPU), []  # type: ignore[arg-type]

    def again() -> list[torch.Tensor | str]:
        asked_for.append(1)
        quick = [
            torch.clamp(picture.int() + shift, 0, 255).to(torch.uint8).roll(int(shift > 1), 0) for picture in batch
        ]
        return [*quick[gone:], *["No such file"] * gone]

    for batch in batches(4):
        network(batch, again)
        assert network.quick == (taken and network.settled)
    assert network.settled
    assert len(asked_for) == 1


def test_pictures_are_not_made_again_where_float32_is_asked_for() -> None:
    network = Network(Loaded(Steps()), CPU, "float32")  # type: ignore[arg-type]
    for batch in batches():
        network(batch, lambda: pytest.fail("made again"))
    assert (network.settled, network.quick) == (False, False)


def test_few_images_are_all_exact_and_none_need_no_network() -> None:
    told: list[str] = []
    network = Network(Loaded(Steps()), CPU, "auto", told.append)  # type: ignore[arg-type]
    assert network([]).shape == (0, 3)
    network(batches()[0])
    assert told == []


def test_a_precision_that_is_none() -> None:
    with pytest.raises(UsageError, match=r"--precision 'bfloat' is not known \(did you mean 'bfloat16'\?\)\.\nUse one"):
        Network(Loaded(Steps()), CPU, "bfloat")  # type: ignore[arg-type]


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("thresholds", [None, dict.fromkeys("abc", 0.5)])
@pytest.mark.parametrize("precision", ["auto", "float16"])
def test_a_picture_that_overflows_is_asked_again_in_float32(
    precision: Precision, thresholds: dict[str, float] | None
) -> None:
    model, (pictures,) = Overflowing(), batches(1)
    loaded = Loaded(model, calibration=Calibration(1.0, thresholds, "val", 100))
    network = Network(loaded, CPU, precision)  # type: ignore[arg-type]
    for _ in range(3):
        network([*pictures[1::3], *pictures[2::3]] * 2)  # none is red, so half precision is taken
    assert network._autocast is not None
    found = network(pictures)
    exact = Network(loaded, CPU, "float32")  # type: ignore[arg-type]
    assert np.array_equal(found[::3], exact(pictures[::3]))
    assert np.abs(found - exact(pictures)).max() < 0.02


@pytest.mark.parametrize("precision", ["auto", "float32", "float16"])
def test_what_is_not_finite_in_float32_either_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    model = Steps()
    monkeypatch.setattr(model, "forward", lambda images: torch.full((len(images), 3), torch.nan))
    with pytest.raises(DivergedError, match="not finite"):
        Network(Loaded(model), CPU, precision)(batches()[0])  # type: ignore[arg-type]
