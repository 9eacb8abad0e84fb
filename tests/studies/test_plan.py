"""The runs of a study: their recipes, all that is wrong with them at once, and the commands that train them."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from study_worker import GRID, LISTED, write_study

from imgkit.api import scratch
from imgkit.errors import DataError, DiskError, RecipeError, UsageError
from imgkit.recipe.adapt import adapt
from imgkit.recipe.given import Flag
from imgkit.recipe.load import load_recipe, shipped_recipes
from imgkit.studies.file import read_study, shipped_studies
from imgkit.studies.plan import Asked, Planned, plan_runs, told_together, typed
from imgkit.studies.schema import Variant


def asked(folder: Path, body: str, seeds: str = "[0, 1]", **more: object) -> Asked:
    study = read_study(write_study(folder, body.replace("my_tiny_net", "test_resnet"), seeds))
    own = [replace(one, values={**one.values, "model.name": Flag("x", "test_resnet")}) for one in study.variants]
    return Asked(replace(study, variants=tuple(own)), folder / "runs", **more)  # type: ignore[arg-type]


def test_each_variant_is_planned_with_each_seed(tmp_path: Path) -> None:
    runs = plan_runs(asked(tmp_path, LISTED))
    assert [run.name for run in runs] == ["fast-seed0", "fast-seed1", "slow-seed0", "slow-seed1"]
    recipes = [run.loaded.recipe for run in runs]
    assert [one.seed for one in recipes] == [0, 1, 0, 1]
    assert [one.phases[0].lr for one in recipes] == [1e-2, 1e-2, 1e-4, 1e-4]
    assert {one.phases[0].epochs for one in recipes} == {2}
    assert {one.model.weights for one in recipes} == {"none"}


def test_the_command_of_a_run_means_the_same_recipe(tmp_path: Path) -> None:
    """What was checked as values and what the command line says must not come apart."""
    body = LISTED + '[[variants]]\nname = "odd"\n[variants.set]\n"augment.jitter" = [0.2, 0.2, 0.2, 0.1]\n'
    body += (
        '"train.clip_norm" = "none"\n"augment.preset" = "none"\n"data.on_bad" = "skip"\n"run.deterministic" = true\n'
    )
    body += '"model.options" = "none"\n"loss.name" = "focal"\n"schedule.warmup" = "2 steps"\n'
    study = asked(tmp_path, body, data="digits", sets=("train.ema=0.9", 'run.device="cpu"'))
    for run in plan_runs(study):
        verb, model, *words = shlex.split(typed(run.command(tmp_path)))[1:]
        pairs = list(zip(words[::2], words[1::2], strict=True))
        short = {"--data": "data.path", "--seed": "seed", "--lr": "lr", "--epochs": "epochs"}
        kinds = {"--seed": int, "--epochs": int, "--lr": float}
        flags = {short[w]: Flag(w, kinds.get(w, str)(value)) for w, value in pairs if w in short}
        flags |= {"model.name": Flag("MODEL", model), "model.weights": Flag("scratch", "none")}
        sets = [value for word, value in pairs if word == "--set"]
        (recipe,) = [value for word, value in pairs if word == "--recipe"]
        assert verb == "scratch"
        assert [value for word, value in pairs if word in ("--out", "--name")] == [str(tmp_path), run.name]
        typed_recipe = adapt(load_recipe(recipe, flags=flags, sets=sets))[0].recipe
        assert typed_recipe == run.loaded.recipe
    odd = next(run for run in plan_runs(study) if run.variant.name == "odd").loaded.recipe
    assert (odd.train.clip_norm, odd.augment.preset, odd.run.threads) == (None, "none", 1)


def test_what_the_command_says_wins_over_the_base_but_not_over_variants(tmp_path: Path) -> None:
    runs = plan_runs(asked(tmp_path, LISTED, data="digits", sets=("train.batch_size=4",)))
    assert {(run.loaded.recipe.data.path, run.loaded.recipe.train.batch_size) for run in runs} == {("digits", 4)}
    with pytest.raises(RecipeError, match=r"small\.toml:\d+ and 0\.5 by --set; give it once"):
        plan_runs(asked(tmp_path, LISTED, sets=("phases.all.lr=0.5",)))


def test_all_faults_of_all_variants_come_at_once_each_with_its_line(tmp_path: Path) -> None:
    body = LISTED + '[[variants]]\nname = "c"\nset = { "trian.ema" = 0.9, "phases.al.lr" = 1 }\n'
    body += '[[variants]]\nname = "d"\nset = { "augment.jitter_p" = 0.3 }\n'
    with pytest.raises(RecipeError) as caught:
        plan_runs(asked(tmp_path, body, sets=("data.vall=0.2",)))
    lines = [line.rpartition("/")[2] for line in caught.value.message.splitlines()]
    assert lines == [
        "--set: data.vall: unknown key (did you mean 'val'?)",  # in all of them: told once, of none
        "small.toml:32: phases.al.lr: unknown phase 'al' (did you mean 'all'?); phases: all (variant c)",
        "small.toml:32: trian.ema: there is no table 'trian' (did you mean 'train'?) (variant c)",
    ]
    with pytest.raises(RecipeError, match=r"augment\.jitter_p = 0\.3 .*is not used.*\(variant d\)") as caught:
        plan_runs(asked(tmp_path, LISTED + body[body.index('[[variants]]\nname = "d"') :]))
    assert "Give the strengths too" in caught.value.hint


def test_an_unknown_network_is_told_with_its_variant(tmp_path: Path) -> None:
    study = asked(tmp_path, LISTED)
    wrong = replace(study.study.variants[1], values={"model.name": Flag("x", "test_resnett")})
    with pytest.raises(UsageError, match=r"test_resnett.*\(variant slow\)"):
        plan_runs(replace(study, study=replace(study.study, variants=(study.study.variants[0], wrong))))
    nameless = tuple(replace(one, values={}) for one in study.study.variants)
    with pytest.raises(UsageError, match="Which network"):
        plan_runs(replace(study, study=replace(study.study, variants=nameless)))


def test_what_is_no_fault_of_a_variant_is_raised_as_it_is() -> None:
    variants = [Variant("a", {}), Variant("b", {})]

    def fail(variant: Variant) -> None:
        raise DiskError("full") if variant.name == "b" else DataError("no picture", "look")

    with pytest.raises(DiskError, match="full"):
        told_together(variants, fail)
    with pytest.raises(DataError) as caught:
        told_together(variants[:1], fail)
    assert (caught.value.message, caught.value.hint) == ("no picture", "look")


def test_a_smoke_study_plans_small_runs(tmp_path: Path) -> None:
    (run, *_) = plan_runs(asked(tmp_path, GRID, smoke=True))
    assert run.loaded.recipe.phases[0].steps == 2
    assert run.words[-1] == "--smoke"


def stand_in(name: str) -> Asked:
    """A shipped study; one whose recipe is not there takes its verb's, so that its keys and values are checked."""
    study = read_study(name)
    return Asked(study if study.recipe in shipped_recipes() else replace(study, recipe=study.verb), Path("runs/x"))


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_each_shipped_study_resolves(name: str) -> None:
    runs: list[Planned] = plan_runs(stand_in(name))
    study = read_study(name)
    assert study.name == name
    assert len(runs) == len(study.variants) * len(study.seeds)
    recipes = {run.name: run.loaded.recipe.model_copy(update={"seed": 0}) for run in runs}
    first = [recipes[f"{one.name}-seed{study.seeds[0]}"] for one in study.variants]
    own = study.recipe in shipped_recipes()
    assert not own or all(one != other for at, one in enumerate(first) for other in first[:at]), (
        "two variants are the same"
    )


@pytest.mark.parametrize("file", sorted(shipped_studies().values()), ids=lambda file: file.stem)
def test_each_shipped_study_opens_with_what_command_source(file: Path) -> None:
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert header[0].startswith(f"# {file.stem}: ")
    assert header[1].startswith(f"#   imgkit study {file.stem} ")
    assert any(line.startswith("# Source: ") for line in header)


def test_the_studies_on_the_page_resolve(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    names = []
    for block in blocks:
        (tmp_path / "mine.toml").write_text(block)
        runs = plan_runs(Asked(read_study(tmp_path / "mine.toml"), tmp_path))
        names.append(list(dict.fromkeys(run.variant.name for run in runs)))
    grid = ["cross_entropy+none", "cross_entropy+blocks", "focal+none", "focal+blocks"]
    assert names == [["narrow", "wide"], grid]


def test_a_study_from_a_run_plans_what_its_runs_write_down(tmp_path: Path) -> None:
    small = ["model.image_size=32", "phases.all.epochs=1", "run.workers=0"]
    parent = scratch("test_resnet", data="synthetic:3x16", out=tmp_path / "runs", name="par", sets=small)
    given = Flag("x", f"run:{parent.folder.path}@1")
    study = asked(tmp_path, LISTED, seeds="[0]", data="synthetic:3x16")
    values = {"model.weights": given, "run.workers": Flag("x", 0)}
    own = [replace(one, values={**one.values, **values}) for one in study.study.variants]
    (planned, _) = plan_runs(replace(study, study=replace(study.study, verb="finetune", variants=tuple(own))))
    assert planned.loaded.recipe.model.weights == given.value
    assert planned.loaded.recipe.model.name == parent.folder.read_json("run.json")["model"]
    assert planned.loaded.recipe.model.image_size == 32
