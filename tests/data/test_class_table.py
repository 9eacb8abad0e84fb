"""The table of classes before the first step, and the note on imbalance."""

from dataclasses import replace

import pytest
from tables import table

from imgkit.data.class_table import class_table, sampling_of
from imgkit.errors import RecipeError
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import make_plan

UNEQUAL = table([[0]] * 90 + [[1]] * 9 + [[2]], 3)
EVEN = table([[0]] * 3 + [[1]], 2)
UNIFORM = {"all": ("uniform", 96)}


def test_what_is_even_and_drawn_once_has_no_table() -> None:
    assert class_table(EVEN, UNIFORM, {}) == []
    assert class_table(EVEN, {"all": ("sqrt", 4)}, {}) != []
    assert class_table(EVEN, UNIFORM, {"all": {"c000": 1.0, "c001": 2.0}}) != []


def test_unequal_classes_are_told_the_rarest_first() -> None:
    *lines, note = class_table(UNEQUAL, UNIFORM, {})
    assert lines == [
        "class  images  uniform draws",
        "c002        1            1.0",
        "c001        9            8.6",
        "c000       90           86.4",
    ]
    assert "'c000' (90), has 90.0 times the images of the smallest, 'c002' (1)" in note
    assert "--sampler sqrt" in note
    assert "--set loss.class_weights=sqrt" in note


def test_a_multi_label_task_has_another_weight() -> None:
    lines = class_table(replace(UNEQUAL, task="multilabel"), UNIFORM, {})
    assert "--set loss.pos_weight=sqrt" in lines[-1]


def test_a_column_for_each_different_sampler_and_weight() -> None:
    sampling = {"top": ("balanced", 99), "mid": ("balanced", 99), "all": ("uniform", 100)}
    weights = {"all": {"c000": 0.5, "c001": 1.25, "c002": 12.345}}
    lines = class_table(UNEQUAL, sampling, weights)
    assert lines[0].split("  ")[-2:] == ["balanced draws (top, mid)", "uniform draws (all)"]
    assert [line.split() for line in lines[1:]] == [
        ["c002", "1", "12.3", "33.0", "1.0"],
        ["c001", "9", "1.25", "33.0", "9.0"],
        ["c000", "90", "0.5", "33.0", "90.0"],
    ]
    assert class_table(UNEQUAL, UNIFORM, weights)[-1].startswith("c000"), "no advice where something is done"


def test_a_column_for_the_shifts_of_an_adjusted_loss() -> None:
    shifts = {"all": {"c000": 0.105, "c001": 2.408, "c002": 4.6}}
    lines = class_table(UNEQUAL, UNIFORM, {}, shifts)
    assert "  logit shift  " in lines[0]
    assert [line.split()[2] for line in lines[1:]] == ["+4.60", "+2.41", "+0.10"]
    assert lines[-1].startswith("c000"), "no advice where something is done"
    assert class_table(EVEN, UNIFORM, {}, {"all": {"c000": 0.3, "c001": 1.4}}) != []


def test_at_most_twenty_classes_and_long_names_are_cut() -> None:
    many = table([[code] for code in range(25)] + [[24]] * 9, 25)
    lines = class_table(many, UNIFORM, {})
    assert len(lines) == 23
    assert lines[-2] == "and 5 more"
    long = replace(UNEQUAL, classes=("a" * 200, "b\n", "c"))
    assert max(map(len, class_table(long, {"all": ("sqrt", 4)}, {}))) < 70


def test_images_without_a_label_are_a_line_where_there_are_any() -> None:
    index = table([[0, 1], [0], [0], [0], [0], []], 2)
    lines = class_table(index, {"all": ("balanced", 6)}, {})
    assert [line.split()[:-1] for line in lines[1:]] == [["c001", "1"], ["(no", "label)", "1"], ["c000", "5"]]


def test_a_recipe_that_only_solves_draws_nothing() -> None:
    plan = make_plan(load_recipe("probe"), 100)
    assert sampling_of(plan) == {}
    lines = class_table(UNEQUAL, sampling_of(plan), {})
    assert lines[0] == "class  images"
    assert "--sampler" not in lines[-1]
    assert "loss.class_weights" in lines[-1]


def test_the_plan_says_what_is_sampled() -> None:
    plan = make_plan(load_recipe("finetune", sets=["train.sampler=balanced"]), 100)
    assert sampling_of(plan) == {"all": ("balanced", 96)}
    assert "the solve sees every image equally often" in plan.notes[0]
    assert not any("sit out" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (["train.sampler=balanced"], "every phase of 'probe' is solved"),
        (["data.weight_col=w"], "every phase of 'probe' is solved"),
    ],
)
def test_a_solved_recipe_reads_no_sampler(sets: list[str], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        make_plan(load_recipe("probe", sets=sets), 100)


def test_a_column_that_no_phase_draws_by_is_told() -> None:
    with pytest.raises(RecipeError, match=r'data\.weight_col = "w" .* is not used: no phase draws by weights'):
        make_plan(load_recipe("finetune", sets=["data.weight_col=w"]), 100)
    plan = make_plan(load_recipe("finetune", sets=["data.weight_col=w", "phases.all.sampler=weighted"]), 100)
    assert plan.phases[1].settings.sampler == "weighted"


@pytest.mark.parametrize("key", ["train.sampler", "phases.all.sampler"])
def test_draws_by_weights_need_a_column(key: str) -> None:
    with pytest.raises(RecipeError, match=r"data\.weight_col names none; add --weight-col COLUMN") as caught:
        load_recipe("finetune", sets=[f"{key}=weighted"])
    assert key in caught.value.message
    assert caught.value.message.endswith("Folders have none: draw by class there, --sampler balanced or sqrt")
    assert load_recipe("finetune", sets=["phases.head.sampler=weighted"]), "of a solved phase another message tells"
