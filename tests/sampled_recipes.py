"""Recipes drawn at random from all that a recipe may say: tables of values, and what goes with what."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from imgkit.recipe.fields import Task
from imgkit.recipe.load import Loaded, load_recipe
from imgkit.recipe.phases import resolve, unread
from imgkit.recipe.toml import value_text

Values = dict[str, object]

BASE = """
schema = 1
name = "sampled"
{head}
[[phases]]
name = "all"
train = "all"
steps = 2
lr = 1e-3
"""
HEAD = '[[phases]]\nname = "head"\ntrain = "head"\nsolver = "logistic"\n'

NETWORKS = ("test_resnet", "test_vit", "test_efficientnet", "test_convnext")
ALWAYS = {"model.weights": "none", "model.image_size": 32, "train.batch_size": 5, "train.precision": "float32"}

MODEL: Mapping[str, Sequence[object]] = {
    "model.drop_rate": (0.2,),
    "model.drop_path": (0.2,),
    "model.fit": ("crop", "squash", "letterbox"),
    "model.crop_pct": (0.7,),
    "model.mean": (0.5,),
    "model.std": ([0.2, 0.3, 0.4],),
    "train.precision": ("bfloat16", "float16"),
}
TRAIN: Mapping[str, Sequence[object]] = {
    "sampler": ("balanced", "sqrt", "weighted"),
    "micro_batch": (3,),
    "exact_world": (1,),
    "grad_checkpointing": (True,),
    "decay_all": (True,),
    "weight_decay": (0.0, 0.1),
    "clip_norm": (1.0,),
    "batch_norm": ("train", "frozen"),
    "ema": (0.5,),
    "layer_decay": (0.7,),
}
OPTIMIZERS: Mapping[str, Mapping[str, Sequence[object]]] = {
    "sgd": {"momentum": (0.9,)},
    "adamw": {"betas": ([0.8, 0.9],), "eps": (1e-6,)},
    "lamb": {"eps": (1e-5,)},
    "lion": {"betas": ([0.9, 0.95],)},
    "rmsprop": {"momentum": (0.5,)},
    "adabelief": {},
    "nadamw": {},
    "adafactor": {},
    "muon": {},
}
WEIGHTED = {"class_weights": ("inverse", "sqrt", "effective"), "class_weights_beta": (0.9,)}
LOSSES: Mapping[Task, Mapping[str, Mapping[str, Sequence[object]]]] = {
    "single": {
        "cross_entropy": {"label_smoothing": (0.1,), **WEIGHTED},
        "focal": {"gamma": (0.5, 2.0), "alpha": (0.25,), **WEIGHTED},
        "asymmetric": {"gamma_neg": (2.0,), "gamma_pos": (0.0, 1.0), "label_smoothing": (0.1,), **WEIGHTED},
        "poly": {"epsilon": (1.0,), "label_smoothing": (0.1,), **WEIGHTED},
        "logit_adjusted": {"tau": (0.5,), "label_smoothing": (0.1,)},
    },
    "multilabel": {
        "bce": {"label_smoothing": (0.1,), "pos_weight": ("neg_pos", "sqrt")},
        "focal": {"gamma": (1.0,), "alpha": (0.25,)},
        "asymmetric": {"gamma_neg": (2.0,), "gamma_pos": (0.0,), "clip": (0.0, 0.1), "label_smoothing": (0.1,)},
        "poly": {"epsilon": (1.0,), "label_smoothing": (0.1,)},
        "two_way": {"positive_temperature": (2.0,), "negative_temperature": (2.0,)},
        "zlpr": {},
        "distribution_balanced": {"negative_scale": (1.5,), "prior_shift": (0.1,), "gamma": (1.0,)},
    },
}
WARMED = {"warmup": ("50%", "1 steps"), "step_on": ("epoch",)}
NEEDED: Mapping[str, Mapping[str, object]] = {
    "cosine_restarts": {"first": "1 steps"},
    "step": {"every": "1 steps"},
    "multistep": {"milestones": ["50%"]},
}
SCHEDULES: Mapping[str, Mapping[str, Sequence[object]]] = {
    "constant": WARMED,
    "linear": {"end": (0.5,), **WARMED},
    "polynomial": {"power": (0.9,), "end": (0.1,), **WARMED},
    "cosine": {"end": (0.1,), **WARMED},
    "cosine_restarts": {"mult": (2,), "end": (0.1,), **WARMED},
    "step": {"gamma": (0.5,), **WARMED},
    "multistep": {"gamma": (0.5,), **WARMED},
    "one_cycle": {"rise": ("50%",), "start": (0.1,), "end": (0.01,), "step_on": ("epoch",)},
    "plateau": {
        "factor": (0.5,),
        "patience": (0,),
        "watch": ("val/loss",),
        "threshold": (0.1,),
        "end": (0.1,),
        **WARMED,
    },
}
AUGMENT: Mapping[str, Sequence[object]] = {
    "preset": ("none", "light", "medium", "strong"),
    "crop": ([0.5, 1.0], None),
    "scale_jitter": ([0.8, 1.2],),
    "ratio": ([0.9, 1.1],),
    "hflip": (0.0, 1.0),
    "vflip": (0.5,),
    "rotate": (30.0,),
    "translate": (0.2,),
    "scale": ([0.8, 1.2],),
    "shear": (10.0,),
    "fill": ([1, 2, 3],),
    "policy": ("randaugment", "trivialaugment", "augmix"),
    "policy_p": (0.5,),
    "policy_ops": (1,),
    "policy_magnitude": (15,),
    "jitter": ([0.2, 0.2, 0.2, 0.1],),
    "jitter_p": (0.5,),
    "gray": (0.5,),
    "blur": (0.5,),
    "erase": (0.5,),
    "mixup": (0.4,),
    "cutmix": (1.0,),
    "mix_p": (0.5,),
    "ramp": ("50%",),
}


class Drawn(NamedTuple):
    """A recipe that was drawn."""

    network: str
    task: Task
    values: Mapping[str, object]  # by full key
    solved: bool  # a phase before solves the head

    def load(self, folder: Path, **more: object) -> Loaded:
        """The recipe, with `more` values by key, dots written as two underscores."""
        extra = {key.replace("__", "."): value for key, value in more.items()}
        return _read(folder, {**self.values, **extra, "model.name": self.network}, solved=self.solved)


def sample(number: int, folder: Path) -> Drawn:
    """The recipe of that number; what would mean nothing beside the rest is left out of it."""
    draw = random.Random(number)
    task: Task = "multilabel" if number % 3 == 2 else "single"
    solved = draw.random() < 0.3
    loss, schedule, optimizer = (  # in turn, so that each comes as often as others
        sorted(names)[number // 3 % len(names)] for names in (LOSSES[task], SCHEDULES, OPTIMIZERS)
    )
    values: Values = {
        **ALWAYS,
        **_some(draw, MODEL),
        **_in(draw, "train", {"optimizer": optimizer, **_some(draw, TRAIN), **_some(draw, OPTIMIZERS[optimizer])}),
        **_in(draw, "loss", {"name": loss, **_some(draw, LOSSES[task][loss])}),
        **_in(draw, "schedule", {"name": schedule, **NEEDED.get(schedule, {}), **_some(draw, SCHEDULES[schedule])}),
        **_in(draw, "augment", _some(draw, AUGMENT)),
        "phases.all.train": draw.choice(("all", "all", "last:2", "head")),
    }
    if any(value == "weighted" for value in values.values()):
        values["data.weight_col"] = "weight"
    return Drawn(draw.choice(NETWORKS), task, _sensible(values, task, folder, solved=solved), solved)


def _some(draw: random.Random, table: Mapping[str, Sequence[object]]) -> Values:
    """About two keys of five, each with one of its values."""
    return {key: draw.choice(choices) for key, choices in table.items() if draw.random() < 0.4}


def _in(draw: random.Random, section: str, values: Values) -> Values:
    """The values as a section of the recipe, or as the phase's own."""
    own = draw.random() < 0.3
    prefix = ("phases.all" if section == "train" else f"phases.all.{section}") if own else section
    return {f"{prefix}.{key}": value for key, value in values.items()}


def _sensible(values: Values, task: Task, folder: Path, *, solved: bool) -> Values:
    """The values without those that a recipe refuses beside the others, by the recipe's own rules."""
    while True:
        recipe = _read(folder, values, solved=solved).recipe
        settings = resolve(recipe, recipe.phases[-1])
        idle = {key for key in unread(recipe) if key in values}
        other = settings.loss.unread(task)  # what the loss reads in the other task alone
        idle |= {key for key in values if ".loss." in f".{key}" and key.rpartition(".")[2] in other}
        if settings.augment.mixes and task not in settings.loss.SOFT:
            idle |= {key for key in values if key.endswith(("augment.mixup", "augment.cutmix", "augment.preset"))}
        if not idle:
            return values
        values = {key: value for key, value in values.items() if key not in idle}


def _read(folder: Path, values: Mapping[str, object], *, solved: bool) -> Loaded:
    file = folder / "sampled.toml"
    file.write_text(BASE.format(head=HEAD if solved else ""))
    sets = [f"{key}={'none' if value is None else value_text(value)}" for key, value in values.items()]
    return load_recipe(str(file), sets=sets)
