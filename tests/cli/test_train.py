import tomllib
from pathlib import Path
from typing import Any

import pytest
from cli_run import Run

from imgkit.cli.options import OPTIONS, pixels, recipe_flags, signature
from imgkit.errors import RecipeError, UsageError
from imgkit.recipe.load import Flag, load_recipe

pytest_plugins = ["cli_fixture"]

FLAGS = """
    --data --train --val --image-col --label-col --label-delimiter --task --split-col --group-col --split-seed
    --weight-col --root --classes --on-bad --max-pixels --plugin
    --recipe --set --epochs --batch-size --micro-batch --exact-world --sampler --image-size --fit --augment --lr --seed
    --weights --from --head --max-size --max-params --max-latency
    --monitor --early-stop --time --device --workers --no-feature-cache --out --name --resume --folds --track
    --dry-run --print-recipe --smoke
"""


class Calls(list[tuple[str, tuple[Any, ...], dict[str, Any]]]):
    """What api was asked to do."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    found = Calls()
    for name in ("finetune", "scratch", "show_plan", "resume"):

        def record(*args: Any, _name: str = name, **options: Any) -> None:  # noqa: ANN401
            found.append((_name, args, options))

        monkeypatch.setattr(f"imgkit.api.{name}", record)
    return found


def test_the_options_are_pinned() -> None:
    assert [option.flag for option in OPTIONS] == FLAGS.split()
    assert [option.flag for option in OPTIONS if option.name not in signature("finetune").parameters] == []
    without = set(signature("finetune").parameters) - set(signature("scratch").parameters)
    assert without == {"weights", "from_"}


@pytest.mark.parametrize("verb", ["finetune", "scratch"])
def test_defaults_are_left_to_the_recipe(imgkit: Run, calls: Calls, verb: str) -> None:
    assert imgkit(verb, "resnet50")[0] == 0
    ((name, args, options),) = calls
    assert (name, args) == (verb, ("resnet50",))
    assert options["recipe"] == verb
    assert (options["flags"], options["sets"], options["smoke"]) == ({}, [], False)
    assert (options["out"], options["name"]) == (Path("runs"), None)
    assert options["command"] == f"imgkit {verb} resnet50"


def test_every_flag_reaches_its_recipe_key(imgkit: Run, calls: Calls) -> None:
    line = (
        "resnet50 --data d --image-col i --label-col l --split-col s --group-col g --root r --classes 3 --on-bad skip"
    )
    line += " --split-seed 3 --weight-col w --sampler weighted --label-col m --label-delimiter | --task multilabel"
    line += " --max-pixels 300M --recipe my.toml --set a.b=1 --set c=2 --epochs 5 --batch-size 8 --micro-batch 4"
    line += " --image-size 64 --lr 1e-3 --seed 7 --weights none --monitor val/top1 --early-stop 3 --device cpu"
    line += " --workers 2 --fit squash --augment light --head mlp:8 --max-size 100MB --max-params 25M"
    line += " --max-latency 20ms --time 10m --out o --name n"
    assert imgkit("finetune", *line.split())[0] == 0
    ((_, _, options),) = calls
    assert options["flags"] == {
        "data.path": Flag("--data", "d"),
        "data.image_col": Flag("--image-col", "i"),
        "data.label_col": Flag("--label-col", ["l", "m"]),
        "data.label_delimiter": Flag("--label-delimiter", "|"),
        "data.task": Flag("--task", "multilabel"),
        "data.split_col": Flag("--split-col", "s"),
        "data.group_col": Flag("--group-col", "g"),
        "data.split_seed": Flag("--split-seed", 3),
        "data.weight_col": Flag("--weight-col", "w"),
        "data.root": Flag("--root", "r"),
        "data.classes": Flag("--classes", 3),
        "data.on_bad": Flag("--on-bad", "skip"),
        "data.max_pixels": Flag("--max-pixels", "300M"),
        "epochs": Flag("--epochs", 5),
        "train.batch_size": Flag("--batch-size", 8),
        "train.micro_batch": Flag("--micro-batch", 4),
        "train.sampler": Flag("--sampler", "weighted"),
        "model.image_size": Flag("--image-size", 64),
        "model.fit": Flag("--fit", "squash"),
        "augment.preset": Flag("--augment", "light"),
        "model.head": Flag("--head", "mlp:8"),
        "budget.size": Flag("--max-size", "100MB"),
        "budget.params": Flag("--max-params", "25M"),
        "budget.latency": Flag("--max-latency", "20ms"),
        "lr": Flag("--lr", 1e-3),
        "seed": Flag("--seed", 7),
        "model.weights": Flag("--weights", "none"),
        "monitor": Flag("--monitor", "val/top1"),
        "early_stop": Flag("--early-stop", 3),
        "time_limit": Flag("--time", "10m"),
        "run.device": Flag("--device", "cpu"),
        "run.workers": Flag("--workers", 2),
    }
    assert (options["recipe"], options["sets"]) == ("my.toml", ["a.b=1", "c=2"])
    assert (options["out"], options["name"]) == (Path("o"), "n")


def test_scratch_says_why_it_has_no_weights(imgkit: Run) -> None:
    code, _, err = imgkit("scratch", "resnet50", "--weights", "none")
    assert code == 2
    assert "always starts from random weights: leave it out. From others: imgkit finetune" in " ".join(err.split())


def test_keys_of_the_options_are_keys_of_the_recipe() -> None:
    from imgkit.recipe.problems import SECTIONS
    from imgkit.recipe.schema import Recipe

    for option in OPTIONS:
        section, _, key = option.key.rpartition(".")
        if option.key in ("", "epochs", "lr"):
            continue
        assert key in (SECTIONS[section] if section else Recipe).model_fields, option.flag


def test_val_is_a_folder_or_a_share() -> None:
    assert recipe_flags({"val": "pets/val"}) == {"data.val_path": ("--val", "pets/val")}
    assert recipe_flags({"val": "0.25"}) == {"data.val": ("--val", 0.25)}
    assert recipe_flags({"val": "./0.25"}) == {"data.val_path": ("--val", "./0.25")}


def test_zero_is_a_given_value() -> None:
    assert recipe_flags({"seed": 0, "workers": 0, "epochs": None}) == {
        "seed": ("--seed", 0),
        "run.workers": ("--workers", 0),
    }


@pytest.mark.parametrize(("text", "count"), [("64000000", 64_000_000), ("64_000_000", 64_000_000), ("0.5m", 500_000)])
def test_max_pixels(text: str, count: int) -> None:
    assert pixels(text) == count
    flags = {"data.max_pixels": Flag("--max-pixels", text)}
    for loaded in (load_recipe("probe", flags=flags), load_recipe("probe", sets=[f"data.max_pixels={text}"])):
        assert loaded.recipe.data.max_pixels == count


@pytest.mark.parametrize("text", ["many", "M", "infM", "1e3"])
def test_max_pixels_that_is_no_number(text: str) -> None:
    with pytest.raises(UsageError, match=f"--max-pixels '{text}' is not a number of pixels.\nWrite 300000000 or 300M."):
        pixels(text)
    with pytest.raises(RecipeError, match=f"data.max_pixels: must be a number of pixels, such as .* got '{text}'"):
        load_recipe("probe", flags={"data.max_pixels": Flag("--max-pixels", text)})


def test_dry_run_shows_the_plan_only(imgkit: Run, calls: Calls) -> None:
    assert imgkit("scratch", "resnet18", "--dry-run")[0] == 0
    ((name, args, options),) = calls
    assert (name, args, options["recipe"]) == ("show_plan", ("scratch", "resnet18"), "scratch")


def test_smoke_by_option_or_environment(imgkit: Run, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    imgkit("finetune", "resnet18", "--smoke")
    monkeypatch.setenv("IMGKIT_SMOKE", "1")
    imgkit("finetune", "resnet18")
    monkeypatch.setenv("IMGKIT_SMOKE", "0")
    imgkit("finetune", "resnet18")
    assert [options["smoke"] for _, _, options in calls] == [True, True, False]


def test_print_recipe_is_toml_and_trains_nothing(imgkit: Run, calls: Calls) -> None:
    code, out, err = imgkit("finetune", "resnet50", "--print-recipe", "--lr", "3e-4", "--val", "0.3")
    assert (code, err, calls) == (0, "", [])
    values = tomllib.loads(out)
    assert values["model"]["name"] == "resnet50"
    assert values["data"]["val"] == 0.3
    assert [phase.get("lr") for phase in values["phases"]] == [None, 3e-4]


def test_a_recipe_may_name_the_model(imgkit: Run, calls: Calls, tmp_path: Path) -> None:
    code, out, _ = imgkit("finetune", "resnet18", "--print-recipe")
    assert code == 0
    (tmp_path / "my.toml").write_text(out)
    assert imgkit("finetune", "--recipe", str(tmp_path / "my.toml"))[0] == 0
    assert calls[0][1] == ("resnet18",)


def test_no_model_is_an_error_that_shows_one(imgkit: Run, calls: Calls) -> None:
    code, _, err = imgkit("finetune", "--data", "pets")
    assert code == 2
    assert "Which model?" in err
    assert "imgkit finetune resnet50 --data PICTURES" in err
    assert calls == []


def test_a_bad_value_names_the_flag(imgkit: Run) -> None:
    code, out, err = imgkit("finetune", "resnet50", "--print-recipe", "--epochs", "0")
    assert (code, out) == (2, "")
    assert "--epochs" in err


def test_resume(imgkit: Run, calls: Calls) -> None:
    assert imgkit("resume", "latest", "--runs", "o", "--workers", "1", "--root", "moved")[0] == 0
    ((name, args, options),) = calls
    assert (name, args, options["out"], options["workers"]) == ("resume", ("latest",), Path("o"), 1)
    assert options["root"] == "moved"


def test_scratch_prints_a_recipe_with_random_weights(imgkit: Run, calls: Calls) -> None:
    code, out, _ = imgkit("scratch", "resnet18", "--recipe", "finetune", "--print-recipe")
    assert code == 0
    assert tomllib.loads(out)["model"]["weights"] == "none"


def test_from_takes_model_and_recipe_of_the_run_it_names(
    imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("--data", "synthetic:3x8", "--set", "run.workers=0", "--image-size", "32")
    code, _, err = imgkit("scratch", "test_resnet", *given, "--epochs", "1", "--name", "a")
    assert code == 0, err
    assert "Epoch 1: step=1 phase=all" in err, "a pipe has lines for programs"
    code, _, err = imgkit("finetune", "--from", "a@1", "--set", "phases.all.lr=4e-4", "--dry-run")
    assert code == 0, err
    said = " ".join(err.split())
    assert "weights: run a, epoch 1 (step 1) · its head for 3 classes" in said
    assert "Recipe scratch" in said
    assert "synthetic:3x8" in said
    code, _, err = imgkit("finetune", "--from", "a@2", "--dry-run")
    assert code == 2
    assert "a has no epoch 2: its epochs are 1 to 1." in err
    code, _, err = imgkit("finetune", "--from", "a@1", "--weights", "auto", "--dry-run")
    assert code == 2
    assert "--weights and --from each name the weights to start from." in err
    code, _, err = imgkit("finetune", "--from", "aa@1", "--dry-run")
    assert code == 2
    assert "There is no run called 'aa' in runs (did you mean 'a'?)" in err
    code, _, err = imgkit("scratch", "--from", "a@1", "--dry-run")
    assert code == 2
    assert "It always starts from random weights: leave it out. From others: imgkit finetune" in " ".join(err.split())
