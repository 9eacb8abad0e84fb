"""Every recipe in recipes/, found by glob, runs; shrunk in steps, batch and image size alone.

Those that name their network are run in tests/test_reference_systems.py, on data laid out as theirs.
"""

from pathlib import Path

import pytest

import imgkit
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import make_plan
from imgkit.recipe.shrink import shrink

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))
GENERAL = [file for file in RECIPES if load_recipe(file).recipe.model.name is None]


@pytest.mark.parametrize("file", GENERAL, ids=lambda file: file.stem)
def test_it_runs_shrunk(file: Path, tmp_path: Path) -> None:
    train = imgkit.scratch if file.stem == "scratch" else imgkit.finetune
    run = train(
        "tf_efficientnet_lite0",
        recipe=str(file),
        data="synthetic:3x12",
        image_size=32,
        sets=["run.workers=0"],
        smoke=True,
        out=tmp_path,
    )
    weights = run.folder.read_json("run.json")["weights"]["kind"]
    assert weights == ("none" if file.stem == "scratch" else "package")
    plan = make_plan(load_recipe(file), 36)
    history = run.folder.history()
    assert list(dict.fromkeys(row["phase"] for row in history)) == [phase.name for phase in plan.phases]
    assert run.folder.read_json("status.json")["state"] == "finished"
    assert (run.folder.path / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_shrinking_leaves_what_is_learned_alone(file: Path) -> None:
    whole = load_recipe(file)
    long, short = make_plan(whole, 640), make_plan(shrink(whole), 640)
    assert whole.recipe.model == shrink(whole).recipe.model
    for before, after in zip(long.phases, short.phases, strict=True):
        kept = ("name", "train", "solver", "views", "lr", "augment", "loss", "schedule")
        assert [getattr(before, key) for key in kept] == [getattr(after, key) for key in kept]
        changed = {"batch_size", "micro_batch"}
        assert before.settings.model_dump(exclude=changed) == after.settings.model_dump(exclude=changed)
