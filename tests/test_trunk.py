"""Features that are kept: the same runs, in less time."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from oracle import fingerprint, write_recipe

import imgkit
from imgkit import Run, checkpoint, trunk
from imgkit.errors import RecipeError
from imgkit.screen import Screen

HEAD = """
schema = 1
name = "head"
seed = 3

[model]
weights = "none"
image_size = 32

[train]
batch_size = 8
ema = 0.9
precision = "float32"

[augment]
hflip = 0.5
rotate = 10

[[phases]]
name = "head"
train = "head"
views = 2
epochs = 4
lr = 1e-2
"""


SOLVED = """
schema = 1
name = "solved"
seed = 3

[model]
weights = "none"
image_size = 32

[augment]
hflip = 0.5

[[phases]]
name = "head"
train = "head"
solver = "logistic"
views = 1
"""


class Told(Screen):
    """A screen that is read."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        super().__init__(file=self.text, width=400)

    @property
    def said(self) -> str:
        return " ".join(self.text.getvalue().split())


def train(folder: Path, *sets: str, name: str = "run", recipe: str = HEAD) -> tuple[Run, str]:
    """The run, and what it said."""
    screen = Told()
    folder.mkdir(exist_ok=True)
    run = imgkit.finetune(
        "test_resnet",
        recipe=write_recipe(folder, recipe),
        data="synthetic:3x16",
        out=folder / "runs",
        name=name,
        sets=["run.workers=0", *sets],
        screen=screen,
    )
    return run, screen.said


def weights(run: Run) -> dict[str, torch.Tensor]:
    found = checkpoint.load(run.folder.path / "checkpoints", lambda text: None)
    assert found is not None
    return found.model


VARIANTS: dict[str, Sequence[str]] = {
    "views": (),
    "no augmentation": ("augment.hflip=0", "augment.rotate=0", "augment.crop=none", "phases.head.views=0"),
    "parts": ("train.micro_batch=3",),
    "balanced": ("train.sampler=balanced",),
    "more views than epochs": ("phases.head.views=9", "phases.head.epochs=2"),
    "greys": ("model.in_chans=1",),
    "policy": ("augment.policy=trivialaugment",),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_updates_on_features_are_those_through_the_whole_network(tmp_path: Path, variant: str) -> None:
    fast, said = train(tmp_path, *VARIANTS[variant], name="fast")
    slow, other = train(tmp_path, *VARIANTS[variant], "run.feature_cache=false", name="slow")
    assert "trains on features of" in said
    assert "trains on features of" not in other
    for name, tensor in weights(slow).items():
        assert torch.allclose(weights(fast)[name], tensor, rtol=1e-5, atol=1e-6), name
    rows = zip(fast.folder.history(), slow.folder.history(), strict=True)
    for row, expected in rows:
        for score in ("val/top1", "val/f1_macro", "train/top1"):
            assert row[score] == expected[score]
        assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)


@pytest.mark.parametrize("recipe", [HEAD, SOLVED], ids=["updates", "solve"])
def test_a_second_run_computes_nothing_and_ends_with_the_same_bits(tmp_path: Path, recipe: str) -> None:
    first, said = train(tmp_path, name="first", recipe=recipe)
    again, other = train(tmp_path, name="again", recipe=recipe)
    assert fingerprint(first) == fingerprint(again)
    assert "kept by earlier runs" not in said
    assert "(all kept by earlier runs)" in other


def test_other_weights_sizes_and_augmentations_are_computed_anew(tmp_path: Path) -> None:
    train(tmp_path, name="first")
    for number, other in enumerate(("seed=4", "model.image_size=48", "augment.rotate=11", "model.mean=[0.4,0.4,0.4]")):
        _, said = train(tmp_path, other, name=f"run-{number}")
        assert "trains on features of" in said
        assert "kept by earlier runs" not in said, other


def test_pictures_that_are_new_are_computed_and_the_others_are_not(tmp_path: Path) -> None:
    sets = ("augment.hflip=0", "augment.rotate=0", "augment.crop=none", "phases.head.views=0")
    _, first = train(tmp_path, *sets, "data.val=0.5", name="first")
    _, second = train(tmp_path, *sets, "data.val=0.25", name="second")
    assert "features of 24 pictures" in first
    assert "features of 36 pictures (" in second
    assert " kept by earlier runs)" in second


WHOLE = {
    "mixed": (("augment.mixup=0.4",), "since its pictures are mixed"),
    "new ones": (("phases.head.views=0",), "--set phases.head.views=2"),
    "dropout": (("model.drop_rate=0.2",), "since it drops units before the head"),
    "a deep head": (("model.head=mlp:8:relu",), "since its head is not one linear layer"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_where_features_change_the_whole_network_runs_and_the_reason_is_said(tmp_path: Path, kind: str) -> None:
    sets, reason = WHOLE[kind]
    _, said = train(tmp_path, *sets, "phases.head.epochs=1")
    assert f"phase 'head': every update goes through the whole network, {reason}" in said or kind == "new ones"
    assert reason in said
    assert "trains on features of" not in said


def test_too_many_features_are_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trunk, "MAX_BYTES", 1000)
    _, said = train(tmp_path, "phases.head.epochs=1")
    assert "since its features would take" in said


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (("phases.head.train=all",), "phase 'head' trains more than the head"),
        (("augment.ramp=50%",), "the same views come again"),
    ],
)
def test_views_that_mean_nothing_are_refused(tmp_path: Path, sets: Sequence[str], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        train(tmp_path, *sets)


def test_nothing_is_kept_where_it_is_not_wanted(tmp_path: Path) -> None:
    sets = ("run.feature_cache=false",)
    first, _ = train(tmp_path, *sets, name="first", recipe=SOLVED)
    again, said = train(tmp_path, *sets, name="again", recipe=SOLVED)
    kept, _ = train(tmp_path, name="kept", recipe=SOLVED)
    assert "kept by earlier runs" not in said
    assert fingerprint(first) == fingerprint(again) == fingerprint(kept)
