from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_values import loaded_recipes

from imgkit.recipe.load import Loaded, load_recipe
from imgkit.recipe.phases import resolve, unread
from imgkit.recipe.plan import make_plan
from imgkit.recipe.shrink import shrink

MAY_CHANGE = {"batch_size", "micro_batch"}


@given(loaded=loaded_recipes(), steps=st.integers(1, 3), batch=st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_shrinking_changes_sizes_only(loaded: Loaded, steps: int, batch: int) -> None:
    small = shrink(loaded, steps=steps, batch_size=batch, image_size=32)
    plan, before = make_plan(small, 50), make_plan(loaded, 50)
    assert small.recipe.model == loaded.recipe.model.model_copy(update={"image_size": 32})
    for phase, old in zip(plan.phases, before.phases, strict=True):
        assert phase.settings.model_dump(exclude=MAY_CHANGE) == old.settings.model_dump(exclude=MAY_CHANGE)
        for name in ("name", "train", "solver", "views", "lr", "augment", "loss", "schedule"):
            assert getattr(phase, name) == getattr(old, name)
        if phase.solver == "logistic":
            continue
        full = resolve(loaded.recipe, loaded.recipe.phases[before.phases.index(old)]).train
        assert phase.steps == steps
        assert phase.settings.batch_size == min(full.batch_size, batch)
        assert (phase.settings.micro_batch is None) == (full.micro_batch is None)
        if full.micro_batch is not None:
            parts = ceil(full.batch_size / full.micro_batch)
            assert ceil(phase.settings.batch_size / phase.settings.micro_batch) >= min(parts, phase.settings.batch_size)
    nobodys = "default", "preset ", loaded.source
    assert not [key for key in unread(small.recipe) if not small.origins[key].startswith(nobodys)]


def test_shrinking_says_so_in_the_origins() -> None:
    small = shrink(load_recipe("finetune"))
    assert [phase.steps for phase in small.recipe.phases] == [None, 2]
    for key in ("train.batch_size", "phases.all.steps"):
        assert small.origins[key] == "--smoke"
    assert small.origins["phases.all.epochs"] == "default"
    assert small.recipe.model.image_size is None


def test_a_small_batch_still_has_all_shards() -> None:
    for exact, batch in ((4, 8), (3, 6), (16, 16)):
        loaded = load_recipe("scratch", sets=["train.batch_size=48", f"train.exact_world={exact}"])
        assert make_plan(shrink(loaded), 100).phases[-1].settings.batch_size == batch
