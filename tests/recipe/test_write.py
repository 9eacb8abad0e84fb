"""A rendered recipe reads back to the same recipe and plan."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from recipe_values import loaded_recipes

from imgkit.recipe.load import Flag, Loaded, load_recipe, recipe_summary, shipped_recipes
from imgkit.recipe.plan import make_plan
from imgkit.recipe.shrink import shrink
from imgkit.recipe.write import render


def read_back(loaded: Loaded, folder: Path) -> Loaded:
    file = folder / "recipe.toml"
    file.write_text(render(loaded), encoding="utf-8")
    return load_recipe(file)


@given(loaded=loaded_recipes())
@settings(max_examples=60, deadline=None)
def test_round_trip(loaded: Loaded, tmp_path_factory: pytest.TempPathFactory) -> None:
    again = read_back(loaded, tmp_path_factory.getbasetemp())
    assert again.recipe == loaded.recipe
    assert make_plan(again, 100) == make_plan(loaded, 100)
    # What was given is given again, what was a default is one again.
    assert {key for key, origin in again.origins.items() if origin != "default"} == {
        key for key, origin in loaded.origins.items() if origin != "default"
    }
    third = read_back(again, tmp_path_factory.getbasetemp())
    assert third.recipe == loaded.recipe


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_smoke_run_can_be_repeated(name: str, tmp_path: Path) -> None:
    small = shrink(load_recipe(name), image_size=32)
    assert read_back(small, tmp_path).recipe == small.recipe


def test_origins_stand_beside_values_in_one_column() -> None:
    loaded = load_recipe("finetune", flags={"data.path": Flag("--data", "cells/")}, sets=["train.ema=0.99"])
    lines = render(loaded).splitlines()
    assert lines[0] == "# finetune: a resolved recipe, made from recipe finetune"
    comments = {line.rpartition("  # ")[0].rstrip(): line.rpartition("  # ")[2] for line in lines[3:] if "  # " in line}
    assert comments['path = "cells/"'] == "--data"
    assert comments["ema = 0.99"] == "--set"
    assert comments["batch_size = 32"] == "recipe finetune"
    assert comments["# decay_all = false"] == "default"
    assert len({line.rindex("  # ") for line in lines[3:] if "  # " in line}) == 1
    assert not any("clip_norm" in line for line in lines)  # a default that is off


def test_what_no_phase_reads_stays_out_or_is_a_comment() -> None:
    text = render(load_recipe("probe", sets=["train.batch_size=8"]))
    assert {key for key, value in tomllib.loads(text).items() if value != {}} == {
        *("schema", "name", "seed", "loss", "phases")
    }
    assert "# batch_size = 8" in text
    assert "--set; not used: every phase of 'probe' is solved on features" in text
    assert "hflip" not in text


def test_the_header_says_how_to_use_it(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(render(load_recipe("probe")))
    assert recipe_summary(tmp_path / "recipe.toml") == "probe: a resolved recipe, made from recipe probe"
    assert "#   imgkit finetune MODEL --recipe THIS_FILE\n" in render(load_recipe("probe"))
    named = load_recipe("probe", sets=["model.name=resnet18"])
    assert "#   imgkit finetune --recipe THIS_FILE\n" in render(named)


def test_origins_cannot_break_a_line(tmp_path: Path) -> None:
    file = tmp_path / "a\nseed = 3\n.toml"
    file.write_text(render(load_recipe("probe")))
    assert read_back(load_recipe(file), tmp_path).recipe.seed == 0
