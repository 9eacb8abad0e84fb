"""Which task a recipe asks for, and what becomes of its losses."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from recipe_values import loaded_recipes

from imgkit.errors import RecipeError, UsageError
from imgkit.recipe.fields import Task
from imgkit.recipe.load import Loaded, load_recipe
from imgkit.recipe.losses import LOSS_TYPES, Bce
from imgkit.recipe.monitors import MONITORS
from imgkit.recipe.phases import resolve
from imgkit.recipe.plan import make_plan
from imgkit.recipe.schema import DataSettings
from imgkit.recipe.task import for_task, task_of
from imgkit.recipe.write import render

HEAD = 'schema = 1\nname = "mine"\n'
ALL = '[[phases]]\nname = "all"\ntrain = "all"\nepochs = 2\nlr = 0.1\n'
TOP = ALL.replace('name = "all"', 'name = "top"')
SOLVED = '[[phases]]\nname = "head"\ntrain = "head"\nsolver = "logistic"\n'
DERIVED = "derived (task multilabel)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def load(folder: Path, body: str, *sets: str) -> Loaded:
    (folder / "my.toml").write_text(HEAD + body)
    return load_recipe(folder / "my.toml", sets=sets)


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ({}, "single"),
        ({"label_col": "a"}, "single"),
        ({"label_col": ("a", "b")}, "multilabel"),
        ({"label_delimiter": "|"}, "multilabel"),
        ({"task": "single", "label_col": "a"}, "single"),
        ({"task": "multilabel"}, "multilabel"),
    ],
)
def test_the_task_follows_from_the_columns(values: dict[str, object], task: Task) -> None:
    assert task_of(DataSettings.model_validate(values)) == task


def test_one_label_an_image_is_not_several() -> None:
    with pytest.raises(UsageError) as caught:
        task_of(DataSettings(task="single", label_col=("the kind", "b")))
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        "data.task = 'single' means one label an image, but there are 2 label columns: the kind, b.\n"
        "Name one of them:  --label-col 'the kind'   or use  --task multilabel"
    )
    with pytest.raises(UsageError) as caught:
        task_of(DataSettings(task="single", label_delimiter="|"))
    assert str(caught.value) == (
        "data.task = 'single' means one label an image, but the delimiter '|' stands between labels.\n"
        "Leave out --label-delimiter, or use  --task multilabel"
    )


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('label_col = ""', None),
        ("label_col = 3", "data.label_col: expected the name of a column or a list of names, got 3"),
        ("label_col = [3]", "data.label_col: expected the name of a column or a list of names, got [3]"),
        ("label_col = []", "data.label_col: needs one column at least; leave it out, and imgkit looks for one"),
        ('label_col = ["a", "b", "a"]', "data.label_col: names the column 'a' twice"),
        ('label_delimiter = ""', "data.label_delimiter: expected text, got ''"),
        ('task = "multi"', "data.task: must be 'auto' or 'single' or 'multilabel', got 'multi'"),
    ],
)
def test_columns_are_text_or_a_list(folder: Path, body: str, fault: str | None) -> None:
    if fault is None:
        assert load(folder, f"[data]\n{body}\n{ALL}").recipe.data.label_col == ("",)
        return
    with pytest.raises(RecipeError) as caught:
        load(folder, f"[data]\n{body}\n{ALL}")
    assert fault in str(caught.value)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # drawing loads files
@given(loaded_recipes())
def test_a_single_label_recipe_stays_as_it_is(loaded: Loaded) -> None:
    losses = [loaded.recipe.loss, *(resolve(loaded.recipe, phase).loss for phase in loaded.recipe.phases)]
    assume(all("single" in loss.TASKS and not loss.unread("single") for loss in losses))
    assert for_task(loaded, "single") == (loaded, [])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # drawing loads files
@given(loaded_recipes())
def test_adapted_recipes_serve_the_task_keep_their_smoothing_and_read_back(loaded: Loaded) -> None:
    assume(loaded.recipe.monitor.removeprefix("val/") in MONITORS["multilabel"])
    try:
        adapted, notes = for_task(loaded, "multilabel")
    except RecipeError:
        losses = {resolve(loaded.recipe, phase).loss.name for phase in loaded.recipe.phases}
        asked = any("loss." in key and origin == "--set" for key, origin in loaded.origins.items())
        assert asked or losses - {"cross_entropy", "bce"}
        return
    for before, after in zip(loaded.recipe.phases, adapted.recipe.phases, strict=True):
        if before.solver == "logistic":
            continue
        old, new = resolve(loaded.recipe, before).loss, resolve(adapted.recipe, after).loss
        assert "multilabel" in new.TASKS
        assert getattr(new, "label_smoothing", None) == getattr(old, "label_smoothing", None)
    assert bool(notes) == (adapted != loaded)
    assert for_task(adapted, "multilabel") == (adapted, [])
    make_plan(adapted, 100)


def test_the_default_loss_becomes_bce_and_reads_back(folder: Path) -> None:
    loaded, notes = for_task(load(folder, SOLVED + ALL, "loss.label_smoothing=0.1"), "multilabel")
    assert loaded.recipe.loss == Bce(name="bce", label_smoothing=0.1)
    assert loaded.origins["loss.name"] == DERIVED
    assert loaded.origins["loss.label_smoothing"] == "--set"
    assert notes == ["the loss is bce, binary cross-entropy of each label by itself, since the task is multi-label"]
    text = render(loaded)
    assert re.search(rf'^name = "bce" +# {re.escape(DERIVED)}$', text, re.MULTILINE)
    (folder / "recipe.toml").write_text(text)
    again = load_recipe(folder / "recipe.toml")
    assert again.recipe == loaded.recipe
    assert for_task(again, "multilabel") == (again, [])


def test_a_shipped_recipe_keeps_its_smoothing(folder: Path) -> None:
    loaded, _ = for_task(load_recipe("scratch"), "multilabel")
    smoothing = load_recipe("scratch").recipe.loss.model_dump()["label_smoothing"]
    assert smoothing > 0
    assert loaded.recipe.loss == Bce(name="bce", label_smoothing=smoothing)
    assert loaded.origins["loss.label_smoothing"] == "recipe scratch"


def test_phases_have_it_too(folder: Path) -> None:
    body = f'{TOP}loss = {{ label_smoothing = 0.2 }}\n{ALL}loss = {{ name = "bce", label_smoothing = 0.3 }}\n'
    loaded, notes = for_task(load(folder, body), "multilabel")
    plan = make_plan(loaded, 64)
    assert [phase.loss for phase in plan.phases] == [
        Bce(name="bce", label_smoothing=0.2),
        Bce(name="bce", label_smoothing=0.3),
    ]
    assert len(notes) == 1
    assert loaded.origins["phases.top.loss.label_smoothing"] == "file " + str(folder / "my.toml")


def test_a_loss_that_no_phase_reads_is_left_alone(folder: Path) -> None:
    loaded = load(folder, SOLVED)
    assert for_task(loaded, "multilabel") == (loaded, [])


@pytest.mark.parametrize(
    ("task", "body", "sets", "message"),
    [
        (
            "multilabel",
            ALL,
            ["loss.name=cross_entropy"],
            'loss.name = "cross_entropy" (--set) is no loss of a multi-label task, which has {multi}\n'
            "In these data an image has any number of labels. Change the loss:  --set loss.name=bce",
        ),
        (
            "multilabel",
            f'[loss]\nname = "cross_entropy"\n{ALL}',
            [],
            'loss.name = "cross_entropy" (file {file}) is no loss of a multi-label task, which has {multi}\n'
            "In these data an image has any number of labels. Change the loss:  --set loss.name=bce",
        ),
        (
            "multilabel",
            f'{TOP}{ALL}loss = {{ name = "cross_entropy" }}\n',
            [],
            'phases.all.loss.name = "cross_entropy" (file {file}) is no loss of a multi-label task, which has {multi}\n'
            "In these data an image has any number of labels. Change the loss:  --set phases.all.loss.name=bce",
        ),
        (
            "single",
            ALL,
            ["loss.name=bce"],
            'loss.name = "bce" (--set) is no loss of a single-label task, which has {single}\n'
            "In these data each image has one label. Change the loss:  --set loss.name=cross_entropy",
        ),
        (
            "multilabel",
            ALL,
            ["loss.name=focal", "loss.class_weights=inverse"],
            'loss.class_weights = "inverse" (--set) is not used: a single-label task alone reads it\n'
            "Leave it out.  Labels are weighed by pos_weight of bce:  --set loss.name=bce "
            "--set loss.pos_weight=neg_pos",
        ),
        (
            "multilabel",
            SOLVED,
            ["phases.head.loss.class_weights=sqrt"],
            'phases.head.loss.class_weights = "sqrt" (--set) is not used: a single-label task alone reads '
            "it\n"
            "Leave it out.  Labels are weighed by pos_weight of bce:  --set loss.name=bce "
            "--set loss.pos_weight=neg_pos",
        ),
        (
            "multilabel",
            ALL,
            ["loss.class_weights=sqrt"],
            'loss.class_weights = "sqrt" (--set) is a value of cross_entropy, and the loss of a multi-label task is '
            "bce, which has name, label_smoothing, pos_weight\nLeave out class_weights.",
        ),
        (
            "single",
            ALL,
            ["phases.all.loss.name=asymmetric", "phases.all.loss.clip=0.1"],
            "phases.all.loss.clip = 0.1 (--set) is not used: a multi-label task alone reads it\nLeave it out.",
        ),
        (
            "single",
            ALL,
            ["loss.name=asymmetric", "loss.gamma_neg=2"],
            "loss.gamma_neg = 2.0 (--set) is not used: in a single-label task the other classes count with "
            "label_smoothing alone\nLeave it out.",
        ),
        (
            "single",
            ALL,
            ["loss.name=zlpr"],
            'loss.name = "zlpr" (--set) is no loss of a single-label task, which has {single}\n'
            "In these data each image has one label. Change the loss:  --set loss.name=cross_entropy",
        ),
        (
            "multilabel",
            ALL,
            ["phases.all.schedule.name=plateau", "phases.all.schedule.watch=val/topk"],
            'phases.all.schedule.watch = "val/topk" (--set) is no score of a multi-label task, which has loss, '
            "loss_calibrated, map, "
            "subset_accuracy, f1_macro, f1_micro, f1_weighted, precision_macro, precision_micro, precision_weighted, "
            "recall_macro, recall_micro, recall_weighted, f1_samples\n"
            "Type one of them, for example  --set phases.all.schedule.watch=val/f1_macro",
        ),
        (
            "multilabel",
            ALL,
            ["monitor=val/top1"],
            'monitor = "val/top1" (--set) is no score of a multi-label task, which has loss, '
            "loss_calibrated, map, subset_accuracy, "
            "f1_macro, f1_micro, f1_weighted, precision_macro, precision_micro, precision_weighted, recall_macro, "
            "recall_micro, recall_weighted, f1_samples\nType one of them, for example  --monitor val/f1_macro",
        ),
        (
            "single",
            ALL,
            ["monitor=val/map"],
            'monitor = "val/map" (--set) is no score of a single-label task, which has loss, '
            "loss_calibrated, top1, topk, f1_macro, "
            "f1_micro, f1_weighted, precision_macro, precision_micro, precision_weighted, recall_macro, recall_micro, "
            "recall_weighted\nType one of them, for example  --monitor val/f1_macro",
        ),
    ],
)
def test_what_was_asked_for_and_is_of_the_other_task_is_refused(
    folder: Path, task: Task, body: str, sets: list[str], message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        for_task(load(folder, body, *sets), task)
    assert caught.value.exit_code == 2
    names = {
        kind: ", ".join(name for name, type_ in LOSS_TYPES.items() if task_ in type_.TASKS)
        for kind, task_ in (("multi", "multilabel"), ("single", "single"))
    }
    assert str(caught.value) == message.format(file=folder / "my.toml", **names)


def test_every_task_has_losses_and_every_loss_a_task() -> None:
    assert all(type_.TASKS for type_ in LOSS_TYPES.values())
    assert {task for type_ in LOSS_TYPES.values() for task in type_.TASKS} == set(MONITORS)


@pytest.mark.parametrize(
    ("task", "loss", "fitting"),
    [("multilabel", "two_way", "bce or focal or "), ("single", "asymmetric", "cross_entropy or logit_adjusted or ")],
)
def test_mixing_needs_a_loss_that_takes_shares(folder: Path, task: Task, loss: str, fitting: str) -> None:
    mixed = "augment.mixup=0.2"
    for_task(load(folder, ALL, mixed), task)
    with pytest.raises(RecipeError) as caught:
        for_task(load(folder, ALL, f"loss.name={loss}", mixed), task)
    assert caught.value.message == (
        f"phase 'all' mixes images, and so their targets, and the loss '{loss}' takes none that are mixed"
    )
    assert "--set augment.mixup=0 --set augment.cutmix=0; or take the loss " in caught.value.hint
    assert fitting in caught.value.hint
    for_task(load(folder, ALL, f"loss.name={loss}", "augment.rotate=20"), task)
