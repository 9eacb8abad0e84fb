"""No option is without effect: each key of a recipe, given another value, changes what is done."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from multilabel_data import write_patches
from PIL import Image

from imgkit.experiment import Experiment
from imgkit.prepare import prepare
from imgkit.recipe.load import load_recipe
from imgkit.recipe.losses import LOSS_TYPES
from imgkit.recipe.schedules import SCHEDULE_TYPES
from imgkit.recipe.schema import PhaseSettings, Recipe
from imgkit.run import RunFolder
from imgkit.screen import Screen
from imgkit.trainer import Update

TESTS = Path(__file__).parents[1]
BASE = """
schema = 1
name = "base"

[model]
name = "test_resnet"
weights = "none"
image_size = 32

[train]
batch_size = 6
precision = "float32"

[augment]
crop = "none"
hflip = 0.0

[schedule]
name = "constant"

[[phases]]
name = "all"
train = "all"
steps = 4
lr = 1e-3
"""
MANY = ("data.label_col=labels", "data.label_delimiter=;")
UNSPLIT = ("data.path={folder}/unsplit.csv",)

FLIPS: dict[str, tuple[tuple[str, ...], str]] = {
    # key: what goes with it, and the flip
    "seed": ((), "seed=1"),
    "data.label_col": ((), "data.label_col=other"),
    "data.label_delimiter": (("data.label_col=sets",), "data.label_delimiter=;"),
    "data.weight_col": (("train.sampler=weighted", "data.weight_col=weight"), "data.weight_col=weight2"),
    "data.split_col": ((), "data.split_col=split2"),
    "data.image_col": ((), "data.image_col=path2"),
    "data.val": (UNSPLIT, "data.val=0.5"),
    "data.test": (UNSPLIT, "data.test=0.3"),
    "data.split_seed": (UNSPLIT, "data.split_seed=1"),
    "data.prepared": ((), "data.prepared=16"),
    "data.group_col": (UNSPLIT, "data.group_col=group"),
    "model.name": ((), "model.name=test_efficientnet"),
    "model.in_chans": ((), "model.in_chans=1"),
    "model.head": ((), "model.head=mlp:8"),
    "model.image_size": ((), "model.image_size=48"),
    "model.fit": (("data.image_col=wide",), "model.fit=letterbox"),
    "model.crop_pct": ((), "model.crop_pct=0.5"),
    "model.mean": ((), "model.mean=0.3"),
    "model.std": ((), "model.std=[0.2,0.3,0.4]"),
    "model.drop_rate": ((), "model.drop_rate=0.5"),
    "model.drop_path": ((), "model.drop_path=0.5"),
    "model.options": ((), "model.options.act_layer=silu"),
    "train.batch_size": ((), "train.batch_size=5"),
    "train.sampler": ((), "train.sampler=balanced"),
    "train.micro_batch": ((), "train.micro_batch=3"),
    "train.optimizer": ((), "train.optimizer=sgd"),
    "train.momentum": (("train.optimizer=sgd",), "train.momentum=0.5"),
    "train.betas": ((), "train.betas=[0.5,0.9]"),
    "train.eps": ((), "train.eps=1e-3"),
    "train.weight_decay": ((), "train.weight_decay=0.5"),
    "train.decay_all": ((), "train.decay_all=true"),
    "train.clip_norm": (("train.optimizer=sgd",), "train.clip_norm=0.01"),
    "train.batch_norm": ((), "train.batch_norm=train"),
    "train.ema": ((), "train.ema=0.5"),
    "train.layer_decay": ((), "train.layer_decay=0.5"),
    "train.precision": ((), "train.precision=bfloat16"),
    "augment.preset": ((), "augment.preset=strong"),
    "augment.crop": ((), "augment.crop=[0.3,0.6]"),
    "augment.scale_jitter": ((), "augment.scale_jitter=[0.5,0.8]"),
    "augment.ratio": (("augment.crop=[0.3,0.6]",), "augment.ratio=[0.5,0.6]"),
    "augment.hflip": ((), "augment.hflip=1"),
    "augment.vflip": ((), "augment.vflip=1"),
    "augment.rotate": ((), "augment.rotate=90"),
    "augment.translate": ((), "augment.translate=0.5"),
    "augment.scale": ((), "augment.scale=[0.4,0.6]"),
    "augment.shear": ((), "augment.shear=40"),
    "augment.fill": (("augment.rotate=90",), "augment.fill=[255,0,0]"),
    "augment.policy": ((), "augment.policy=trivialaugment"),
    "augment.policy_p": (("augment.policy=trivialaugment",), "augment.policy_p=0.1"),
    "augment.policy_ops": (("augment.policy=randaugment",), "augment.policy_ops=5"),
    "augment.policy_magnitude": (("augment.policy=randaugment",), "augment.policy_magnitude=30"),
    "augment.jitter": ((), "augment.jitter=[0.9,0.9,0.9,0.5]"),
    "augment.jitter_p": (("augment.jitter=[0.9,0.9,0.9,0.5]",), "augment.jitter_p=0.1"),
    "augment.gray": ((), "augment.gray=1"),
    "augment.blur": ((), "augment.blur=1"),
    "augment.erase": ((), "augment.erase=1"),
    "augment.mixup": ((), "augment.mixup=1"),
    "augment.cutmix": ((), "augment.cutmix=1"),
    "augment.mix_p": (("augment.mixup=1",), "augment.mix_p=0.1"),
    "augment.ramp": (("augment.rotate=90",), "augment.ramp=100%"),
    "phases.train": ((), "phases.all.train=head"),
    "phases.epochs": (("phases.all.epochs=1",), "phases.all.epochs=2"),
    "phases.steps": ((), "phases.all.steps=5"),
    "phases.lr": ((), "phases.all.lr=1e-2"),
    # keys of losses
    "cross_entropy.label_smoothing": ((), "loss.label_smoothing=0.3"),
    "cross_entropy.class_weights": ((), "loss.class_weights=inverse"),
    "cross_entropy.class_weights_beta": (("loss.class_weights=effective",), "loss.class_weights_beta=0.5"),
    "bce.label_smoothing": (MANY, "loss.label_smoothing=0.3"),
    "bce.pos_weight": (MANY, "loss.pos_weight=neg_pos"),
    "logit_adjusted.tau": ((), "loss.tau=0.5"),
    "logit_adjusted.label_smoothing": ((), "loss.label_smoothing=0.3"),
    "focal.gamma": ((), "loss.gamma=5"),
    "focal.alpha": (MANY, "loss.alpha=0.1"),
    "focal.class_weights": ((), "loss.class_weights=sqrt"),
    "focal.class_weights_beta": (("loss.class_weights=effective",), "loss.class_weights_beta=0.5"),
    "asymmetric.gamma_neg": (MANY, "loss.gamma_neg=1"),
    "asymmetric.gamma_pos": ((), "loss.gamma_pos=0"),
    "asymmetric.clip": (MANY, "loss.clip=0.4"),
    "asymmetric.label_smoothing": ((), "loss.label_smoothing=0.3"),
    "asymmetric.class_weights": ((), "loss.class_weights=sqrt"),
    "asymmetric.class_weights_beta": (("loss.class_weights=effective",), "loss.class_weights_beta=0.5"),
    "poly.epsilon": ((), "loss.epsilon=0"),
    "poly.label_smoothing": ((), "loss.label_smoothing=0.3"),
    "poly.class_weights": ((), "loss.class_weights=sqrt"),
    "poly.class_weights_beta": (("loss.class_weights=effective",), "loss.class_weights_beta=0.5"),
    "two_way.positive_temperature": (MANY, "loss.positive_temperature=1"),
    "two_way.negative_temperature": (MANY, "loss.negative_temperature=4"),
    "distribution_balanced.negative_scale": (MANY, "loss.negative_scale=1"),
    "distribution_balanced.prior_shift": (MANY, "loss.prior_shift=0.5"),
    "distribution_balanced.gamma": (MANY, "loss.gamma=0"),
    "distribution_balanced.label_smoothing": (MANY, "loss.label_smoothing=0.3"),
    # keys of schedules
    **{
        f"{name}.warmup": ((), "schedule.warmup=3 steps")
        for name in ("constant", "linear", "polynomial", "cosine", "cosine_restarts", "step", "multistep", "plateau")
    },
    **{
        f"{name}.end": ((), "schedule.end=0.5")
        for name in ("linear", "polynomial", "cosine", "cosine_restarts", "one_cycle")
    },
    **{
        f"{name}.step_on": (("schedule.warmup=3 steps",), "schedule.step_on=epoch")
        for name in ("constant", "linear", "polynomial", "cosine", "cosine_restarts", "step", "multistep", "plateau")
    },
    "one_cycle.step_on": ((), "schedule.step_on=epoch"),
    "one_cycle.rise": ((), "schedule.rise=75%"),
    "one_cycle.start": ((), "schedule.start=0.9"),
    "polynomial.power": ((), "schedule.power=0.5"),
    "cosine_restarts.first": ((), "schedule.first=1 steps"),
    "cosine_restarts.mult": (("schedule.first=1 steps",), "schedule.mult=2"),
    "step.every": ((), "schedule.every=1 steps"),
    "step.gamma": ((), "schedule.gamma=0.7"),
    "multistep.milestones": ((), 'schedule.milestones=["25%"]'),
    "multistep.gamma": ((), "schedule.gamma=0.7"),
}
NEEDED = {
    "cosine_restarts": "schedule.first=2 steps",
    "step": "schedule.every=2 steps",
    "multistep": 'schedule.milestones=["50%"]',
}
ELSEWHERE = {
    "schema_version": "recipe/test_load.py::test_another_schema_is_the_only_complaint",
    "name": "test_experiment.py::test_the_recipe_in_the_folder_repeats_the_run",
    "monitor": "test_experiment.py::test_the_best_epoch_becomes_the_model_and_test_is_scored_once_with_it",
    "early_stop": "test_experiment.py::test_early_stop_counts_epochs_without_gain_and_still_finishes",
    "time_limit": "test_time_limit.py::test_a_run_stops_in_time_on_the_same_path_and_ends_as_usual",
    "score_test": "test_finish.py::test_a_test_that_is_held_back_is_scored_by_evaluate_alone",
    "data.path": "data/test_sources.py::test_order_of_places",
    "data.more": "data/test_joined.py::test_the_flag_is_given_several_times",
    "data.train": "data/test_load.py::test_pair",
    "data.val_path": "data/test_load.py::test_pair",
    "data.root": "data/test_sources.py::test_root",
    "data.task": "recipe/test_task.py::test_the_task_follows_from_the_columns",
    "data.classes": "data/test_load.py::test_number_of_classes",
    "data.on_bad": "data/test_load.py::test_bad_files_skipped",
    "data.max_pixels": "data/test_load.py::test_max_pixels",
    "model.weights": "models/test_create.py::test_a_file_gives_all_but_the_head",
    "train.exact_world": "test_shares.py::test_ordered_sums_have_the_same_bits_whoever_has_which_shard",
    "train.compile": "test_compiled.py::test_updates_are_those_of_the_network_but_for_rounding",
    "train.grad_checkpointing": "models/test_recompute.py::test_loss_gradient_and_statistics_are_the_same",
    "budget.size": "test_budget.py::test_limits_on_a_command",
    "budget.params": "test_budget.py::test_limits_on_a_command",
    "budget.latency": "test_budget.py::test_limits_on_a_command",
    "phases.name": "recipe/test_load.py::test_sets_reach_phases_by_name",
    "phases.solver": "test_recipes_run.py::test_it_runs_shrunk",
    "phases.views": "test_head.py::test_a_solve_sees_each_image_and_its_views_in_one_fold",
    "plateau.factor": "test_plateau.py::test_the_factor_is_that_of_torchs_scheduler",
    "plateau.patience": "test_plateau.py::test_patience_lets_pass_and_the_next_evaluation_lowers",
    "plateau.threshold": "test_plateau.py::test_the_factor_is_that_of_torchs_scheduler",
    "plateau.watch": "test_plateau.py::test_it_watches_the_monitor_or_another_score",
    "plateau.end": "test_plateau.py::test_the_factor_is_that_of_torchs_scheduler",
    "phases.optimizer_state": "test_stages.py::test_moments_are_kept_unless_the_phase_resets_them",
    "save.keep": "test_checkpoint.py::test_keep_all",
    "save.keep_best": "test_average.py::test_the_k_best_are_kept_beside_the_newest",
    "save.average_best": "test_average.py::test_the_mean_becomes_the_model_only_where_it_is_better",
    "save.every_steps": "faults/test_purity.py::test_resume_from_every_step",
    "save.every_minutes": "test_experiment.py::test_a_checkpoint_comes_when_the_minutes_are_over",
    "run.device": "test_device.py::test_a_device_that_is_none",
    "run.workers": "test_oracle.py::test_same_bits_with_workers_and_after_a_resume",
    "run.threads": "test_prepare.py::test_threads_and_deterministic_algorithms_are_torchs_while_a_run_lasts",
    "run.deterministic": "test_prepare.py::test_threads_and_deterministic_algorithms_are_torchs_while_a_run_lasts",
    "run.feature_cache": "test_trunk.py::test_updates_on_features_are_those_through_the_whole_network",
    "run.track": "test_tracking.py::test_events_are_the_rows_and_a_resume_doubles_none",
}
"""Keys whose effect shows in a whole run or in messages: the test that shows it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of patches with a table that has two columns of each kind."""
    place = tmp_path_factory.mktemp("pictures")
    table = pd.read_csv(write_patches(place, n=40), keep_default_na=False)
    table["label"] = table["labels"].str.split(";").str[0].replace("", "none")
    table["sets"] = [("red;blue", "green", "red")[number % 3] for number in range(len(table))]
    table["other"] = ["odd" if number % 2 else "even" for number in range(len(table))]
    table["path2"] = table["path"].iloc[::-1].to_numpy()
    table["weight"], table["weight2"] = 1, 1 + table.index % 5
    table["group"] = table.index // 4
    table["split2"] = table["split"].replace({"test": "train"})
    table["wide"] = [f"wide-{path}" for path in table["path"]]
    for path in table["path"]:
        with Image.open(place / path) as picture:
            picture.resize((64, 32)).save(place / f"wide-{path}")
    table.to_csv(place / "table.csv", index=False)
    table.drop(columns=["split", "split2"]).to_csv(place / "unsplit.csv", index=False)
    return place


def keys() -> Iterator[str]:
    """Every key of a recipe: "data.val", "phases.lr", and "focal.gamma" of the loss of that name."""
    for name in Recipe.model_fields:
        section = getattr(Recipe.model_construct(), name, None)
        if name in ("loss", "schedule"):
            continue
        inner = PhaseSettings.model_fields if name == "phases" else getattr(type(section), "model_fields", None)
        yield from [name] if inner is None else (f"{name}.{key}" for key in inner if key != "overrides")
    for types in (LOSS_TYPES, SCHEDULE_TYPES):
        for name, type_ in types.items():
            yield from (f"{name}.{key}" for key in type_.model_fields if key != "name")


def test_every_key_is_flipped_here_or_shown_elsewhere() -> None:
    assert sorted([*FLIPS, *ELSEWHERE]) == sorted(keys())


@pytest.mark.parametrize("key", ELSEWHERE)
def test_the_tests_named_here_exist(key: str) -> None:
    file, name = ELSEWHERE[key].split("::")
    assert re.search(rf"^def {name}\b", (TESTS / file).read_text(), re.MULTILINE), ELSEWHERE[key]


@pytest.mark.parametrize("key", FLIPS)
def test_a_flip_changes_what_is_trained(key: str, folder: Path, tmp_path: Path) -> None:
    before, flip = FLIPS[key]
    section = key.split(".", maxsplit=1)[0]
    named = [f"loss.name={section}"] if section in LOSS_TYPES else []
    named = [f"schedule.name={section}"] if section in SCHEDULE_TYPES else named
    base = (*named, *([NEEDED[section]] if section in NEEDED else []), *before)
    assert outcome(base, folder, tmp_path) != outcome((*base, flip), folder, tmp_path)


def outcome(sets: tuple[str, ...], folder: Path, tmp_path: Path) -> str:
    """SHA-256 of all that a recipe trains: weights, averages and moments at the end, losses and rates on the way."""
    if (folder, sets) not in _KNOWN:
        _KNOWN[folder, sets] = _outcome(sets, folder, tmp_path)
    return _KNOWN[folder, sets]


_KNOWN: dict[tuple[Path, tuple[str, ...]], str] = {}


def _outcome(sets: tuple[str, ...], folder: Path, tmp_path: Path) -> str:
    torch.set_num_threads(1)
    file = tmp_path / "base.toml"
    file.write_text(BASE)
    given = (f"data.path={folder}/table.csv", "data.label_col=label", "run.workers=0", *sets)
    last = dict(text.format(folder=folder).split("=", 1) for text in given)  # a flip wins over what it flips
    loaded = load_recipe(str(file), sets=[f"{key}={value}" for key, value in last.items()])
    screen = Screen(quiet=True)
    setup, _ = prepare(loaded, verb="scratch", command="", smoke=False, dry_run=True, screen=screen)
    experiment = Experiment(RunFolder(tmp_path), setup, screen)
    (phase,) = setup.plan.phases
    experiment.trainer.begin(phase)
    updates: Iterator[Update] = experiment._solve(phase) if phase.lr is None else experiment._updates(phase)
    told = [[update.loss, update.lr, update.grad_norm] for update in updates]
    found = hashlib.sha256(json.dumps(told).encode())
    for name, tensor in sorted({**setup.model.state_dict(), **experiment.trainer.tensors()}.items()):
        found.update(name.encode())
        found.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
