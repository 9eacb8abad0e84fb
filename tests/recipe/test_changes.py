"""What is said of a change of phase: what differs, and nothing else."""

from itertools import pairwise
from pathlib import Path

import pytest

from imgkit.recipe.changes import phase_changes
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import make_plan

R4 = """
schema = 1
name = "r4"

[train]
batch_size = 8
optimizer = "sgd"
momentum = 0.9
weight_decay = 5e-4
decay_all = true

[augment]
crop = [0.08, 1.0]
jitter = [0.4, 0.4, 0.4, 0.1]
jitter_p = 0.8

[schedule]
name = "constant"

[[phases]]
name = "first"
train = "all"
epochs = 20
lr = 0.01

[[phases]]
name = "second"
train = "all"
epochs = 10
lr = 4e-4
momentum = 0.95
augment = { jitter = [0.2, 0.2, 0.2, 0.05] }

[[phases]]
name = "third"
train = "all"
epochs = 9
lr = 4e-4
momentum = 0.95
augment = { jitter = [0.2, 0.2, 0.2, 0.05], jitter_p = 0.5 }
"""


def changes(folder: Path, *sets: str, body: str = R4) -> list[str]:
    """The line of each phase but the first."""
    (folder / "r4.toml").write_text(body)
    phases = make_plan(load_recipe(folder / "r4.toml", sets=sets), 64).phases
    return [phase_changes(*pair) for pair in pairwise(phases)]


def test_three_stages_say_what_they_change(tmp_path: Path) -> None:
    assert changes(tmp_path) == [
        "lr 0.01 → 0.0004 · momentum 0.9 → 0.95 · jitter [0.4, 0.4, 0.4, 0.1] → [0.2, 0.2, 0.2, 0.05]",
        "jitter_p 0.8 → 0.5",
    ]


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (("phases.third.augment.jitter_p=0.8",), ""),
        (("phases.third.optimizer_state=reset",), "optimizer_state reset · jitter_p 0.8 → 0.5"),
        (("phases.third.weight_decay=1e-5",), "weight_decay 0.0005 → 1e-5 · jitter_p 0.8 → 0.5"),
        (
            ("phases.third.optimizer=adamw", "phases.third.momentum=none"),
            "optimizer sgd → adamw · momentum 0.95 → its own · jitter_p 0.8 → 0.5",
        ),
        (
            ("phases.third.train=last:2", "phases.third.schedule.name=cosine", "phases.third.clip_norm=1"),
            "train all → last:2 · clip_norm none → 1.0 · jitter_p 0.8 → 0.5 · schedule constant → cosine",
        ),
        (("phases.third.loss.label_smoothing=0.1",), "jitter_p 0.8 → 0.5 · loss.label_smoothing 0.0 → 0.1"),
        (("phases.third.loss.name=focal",), "jitter_p 0.8 → 0.5 · loss cross_entropy → focal"),
    ],
)
def test_each_kind_of_change(tmp_path: Path, sets: tuple[str, ...], line: str) -> None:
    assert changes(tmp_path, *sets)[-1] == line
