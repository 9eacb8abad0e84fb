"""Every file in recipes/ is what its header says, and uses all its values."""

from pathlib import Path

import pytest

from imgkit.recipe.load import load_recipe, recipe_summary, shipped_recipes
from imgkit.recipe.phases import unread
from imgkit.recipe.plan import make_plan
from imgkit.recipe.shrink import shrink
from imgkit.recipe.write import render

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
