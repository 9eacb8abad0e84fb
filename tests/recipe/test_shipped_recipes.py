"""Every file in recipes/ is what its header says, and uses all its values."""

from pathlib import Path

import pytest

from imgkit.recipe.load import load_recipe, recipe_summary, shipped_recipes
from imgkit.recipe.phases import unread
from imgkit.recipe.plan import PhasePlan, make_plan
from imgkit.recipe.shrink import shrink
from imgkit.recipe.write import render
from imgkit.schedule_fit import schedule_warnings
from imgkit.schedules import make_schedule

FILES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def test_all_files_are_shipped() -> None:
    assert sorted(shipped_recipes().values()) == FILES
    assert {"finetune", "probe", "scratch", "finetune-focal-restarts"} <= shipped_recipes().keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
class TestEach:
    def test_opens_with_what_command_result_source(self, file: Path) -> None:
        text = file.read_text()
        header = [line for line in text.splitlines() if line.startswith("#")]
        assert text.startswith(f"# {file.stem}: ")
        assert recipe_summary(file).startswith(f"{file.stem}: ")
        assert header[1].startswith("#   imgkit ")
        assert "benchmarks/results.json" in " ".join(header)
        assert any(line.startswith("# Source: ") for line in header)

    def test_loads_renders_and_plans(self, file: Path) -> None:
        loaded = load_recipe(file.stem)
        assert loaded.recipe.name == file.stem
        assert 'name = "' in render(loaded)
        plan = make_plan(loaded, 1000)
        assert [phase.name for phase in plan.phases] == [phase.name for phase in loaded.recipe.phases]
        assert make_plan(shrink(loaded), 20).total_steps <= 2 * len(plan.phases)

    def test_uses_every_value_it_gives(self, file: Path) -> None:
        # As a user's file nothing is forgiven, and nothing falls back to a default.
        own = load_recipe(file)
        assert not [key for key in unread(own.recipe) if own.origins[key] != "default"]
        assert own.recipe == load_recipe(file.stem).recipe


def test_what_the_recipes_promise() -> None:
    restarts = make_plan(load_recipe("finetune-focal-restarts"), 1000)
    assert not any("cycle" in note for note in restarts.notes)  # cycles of 2 and 4 epochs end with the 6
    assert [phase.solver for phase in make_plan(load_recipe("probe"), 1000).phases] == ["logistic"]
    scratch = load_recipe("scratch").recipe
    assert (scratch.model.weights, scratch.train.batch_norm, len(scratch.phases)) == ("none", "train", 1)
    finetune = make_plan(load_recipe("finetune"), 1000)
    assert [(phase.train, phase.epochs) for phase in finetune.phases] == [("head", 0), ("all", 4)]


IMAGENET = 1_281_167
"""Training pictures of ImageNet-1k."""


def rate(phase: PhasePlan, update: int) -> float:
    """The rate of an update of a phase, counted from 0."""
    factor = make_schedule(phase.schedule, steps=phase.steps, steps_per_epoch=phase.steps_per_epoch)
    assert phase.lr is not None
    return phase.lr * factor(update / phase.steps)


@pytest.mark.parametrize(("step_on", "last"), [("epoch", 5.44e-4), ("update", 5.05e-4)])
def test_the_rate_of_the_gates_in_epoch_50(step_on: str, last: float) -> None:
    loaded = load_recipe("cbam-resnet50", sets=[f"schedule.step_on={step_on}"])
    plan = make_plan(loaded, 20_000)
    (phase,) = plan.phases
    assert rate(phase, 49 * phase.steps_per_epoch) == pytest.approx(5.44e-4, abs=5e-7)
    assert rate(phase, 50 * phase.steps_per_epoch - 1) == pytest.approx(last, abs=5e-7)
    assert [rate(phase, epoch * phase.steps_per_epoch) for epoch in (0, 10, 30)] == [1e-3] * 3
    assert load_recipe("cbam-resnet50").recipe.schedule.step_on == "epoch"
    assert any("its last cosine cycle is cut after 20 of 40 epochs" in text for text in schedule_warnings(plan))


def test_the_stages_of_resnet50_that_were_in_force() -> None:
    plan = make_plan(load_recipe("imagenet-resnet50-in-force"), IMAGENET)
    assert [phase.first_epoch + phase.epochs for phase in plan.phases] == [20, 30, 39]
    # The original closes an epoch with an update of 143 pictures, its 2,503rd; here they sit out, others each time.
    assert {phase.steps_per_epoch for phase in plan.phases} == {2502}
    assert any(
        note.startswith("phase 'stage1': 143 of 1281167 training images sit out each epoch") for note in plan.notes
    )
    assert {phase.settings.batch_size // (phase.settings.micro_batch or 1) for phase in plan.phases} == {4}
    found = [(phase.lr, phase.settings.momentum, phase.settings.weight_decay, rate(phase, 0)) for phase in plan.phases]
    assert found == [(1e-2, 0.9, 5e-4, 1e-2), (4e-4, 0.95, 5e-4, 4e-4), (4e-4, 0.95, 5e-4, 4e-4)]
    assert [phase.augment.jitter_p for phase in plan.phases] == [0.8, 0.8, 0.5]
    assert all(phase.settings.decay_all for phase in plan.phases)


def test_one_cycle_is_counted_in_updates_over_the_whole_run() -> None:
    (phase,) = make_plan(load_recipe("imagenet-resnet50-as-stated"), IMAGENET).phases
    assert phase.steps == 39 * 2502
    assert rate(phase, 0) == pytest.approx(4e-4)
    top = round(0.3 * phase.steps)
    assert rate(phase, top) == pytest.approx(1e-2, rel=1e-6)
    assert rate(phase, phase.steps) == pytest.approx(4e-8)
    assert rate(phase, top // 2) == pytest.approx((1e-2 + 4e-4) / 2, rel=1e-3)


def test_the_recipes_of_the_paper_differ_in_network_and_scale_alone() -> None:
    recipes = {name: load_recipe(name).recipe for name in shipped_recipes() if name.startswith("vgg-paper-")}
    assert [recipe.model.name for recipe in recipes.values()] == [
        *("vgg_a", "vgg_a_lrn", "vgg_b", "vgg_c", "vgg_d", "vgg_e")
    ]
    assert [recipe.augment.scale_jitter for recipe in recipes.values()] == [(1.0, 1.0)] * 3 + [(1.0, 2.0)] * 3
    same = {
        recipe.model_copy(
            update={
                "name": "",
                "model": recipe.model.model_copy(update={"name": ""}),
                "augment": recipe.augment.model_copy(update={"scale_jitter": None}),
            }
        ).model_dump_json()
        for recipe in recipes.values()
    }
    assert len(same) == 1


def test_the_evaluations_of_the_originals() -> None:
    scaled = {"cbam-resnet50": 255, "imagenet-resnet50-in-force": 256, "imagenet-resnet50-as-stated": 256}
    scaled |= {"imagenet-resnet50-modern": 232, "vgg-paper-a": 256}
    for name, side in scaled.items():
        model = load_recipe(name).recipe.model
        assert int((model.image_size or 0) / (model.crop_pct or 1)) == side, name
