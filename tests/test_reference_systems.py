"""Each reference system by the one command that opens its recipe, on data laid out as its own; shrunk by --smoke."""

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import timm
from cli_run import Run
from pictures import square
from published import imagenet, label_lists, solution, synsets, tiny_imagenet
from safetensors.torch import load_file, save_file
from tally import share
from timm.models.vgg import VGG, cfgs

from imgkit.models.networks import lsvrc, vgg
from imgkit.recipe.load import load_recipe, shipped_recipes
from imgkit.run import RunFolder

pytest_plugins = ["cli_fixture"]

CLASSES = 6  # of which five guesses miss one
LABELS = ("bird", "car", "sea")


class System(NamedTuple):
    """How a recipe is run small.

    Attributes:
        data: layout of its pictures.
        image_size: that it is shrunk to, pixels.
        weights: network whose random weights stand in for those of a hub.
        wide: whether it has layers of a hundred million weights; their widths are cut, or the test is slow.
    """

    data: str
    image_size: int
    weights: str = ""
    wide: bool = False


SYSTEMS = {
    "lsvrc-residual": System("imagenet", 72),
    "lsvrc-resnet50-mlp": System("imagenet", 32, weights="resnet50"),
    "lsvrc-vgg11-compact": System("imagenet", 32, weights="vgg11", wide=True),
    "lsvrc-vgg19-res3": System("imagenet", 32, wide=True),
    **{f"vgg-paper-{name}": System("imagenet", 32, wide=True) for name in ("a", "a-lrn", "b", "c", "d", "e")},
    "vgg-tiny-imagenet": System("tiny", 32, wide=True),
    "multilabel-cnn": System("sets", 64),
    "cbam-resnet50": System("numbers", 32, weights="resnet50"),
    "imagenet-resnet50-in-force": System("imagenet", 32),
    "imagenet-resnet50-as-stated": System("imagenet", 32),
    "imagenet-resnet50-modern": System("imagenet", 64),  # parts of one picture, of which batch norm needs 2 x 2 maps
}


def painted(root: Path) -> Path:
    """Pictures in place of the empty files of a published layout; each is called after its class or not at all."""
    files = sorted(file for file in root.rglob("*") if file.suffix in (".JPEG", ".jpg"))
    for number, file in enumerate(files):
        square(number, code=number, side_px=32).save(file)
    return root


def of_imagenet(root: Path) -> None:
    solution(root, imagenet(root, CLASSES, 12, each=3))


def of_sets(root: Path) -> None:
    """One list for each label; every fourth picture is in none."""
    label_lists(root, 24, {label: range(1 + code, 25, 4) for code, label in enumerate(LABELS)})


def of_numbers(root: Path) -> None:
    """Classes that are called by integers, of which "10" sorts before "2"."""
    for split, each in (("train", 3), ("val", 2)):
        for name in range(11):
            (root / split / str(name)).mkdir(parents=True)
            for number in range(each):
                (root / split / str(name) / f"{number}.jpg").touch()


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "imagenet": of_imagenet,
    "tiny": lambda root: tiny_imagenet(root, CLASSES, 12),
    "sets": of_sets,
    "numbers": of_numbers,
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Files of random weights by network, written once."""
    folder = tmp_path_factory.mktemp("weights")

    def file(name: str) -> Path:
        made = folder / f"{name}.safetensors"
        if not made.exists():
            model = VGG(cfgs["vgg11"], mlp_ratio=0.01) if name == "vgg11" else timm.create_model(name)
            save_file(model.state_dict(), made)
        return made

    return file


def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fully connected layers of VGG that cost nothing."""
    heads = {"paper": vgg.Head(7, (24, 16), pooled=False), "compact": vgg.Head(2, (24, 16))}
    monkeypatch.setattr(vgg, "HEADS", heads)
    monkeypatch.setattr(lsvrc, "POOLED_5X5", vgg.Head(5, (24, 16)))


def command_of(recipe: str) -> list[str]:
    """The words of the command in the header of a recipe."""
    line = shipped_recipes()[recipe].read_text().splitlines()[1]
    name, *words = shlex.split(line.lstrip("# "))
    assert name == "imgkit"
    return words


def run_small(imgkit: Run, recipe: str, tmp_path: Path, weights: Callable[[str], Path]) -> RunFolder:
    """Run the command of a recipe with data, steps, batches and images made small."""
    system, words = SYSTEMS[recipe], command_of(recipe)
    root = tmp_path / "pictures"
    LAYOUTS[system.data](root)
    words[words.index("--data") + 1] = str(painted(root))
    words += ["--smoke", "--image-size", str(system.image_size), "--set", "run.workers=0"]
    words += ["--weights", str(weights(system.weights))] if system.weights else []
    code, _, err = imgkit(*words, "--out", str(tmp_path / "runs"), "--name", "run")
    assert code == 0, err
    return RunFolder.open("run", tmp_path / "runs")


def check(folder: RunFolder, recipe: str) -> None:
    """See that the run went through all phases of the recipe with its network."""
    settings = load_recipe(recipe).recipe
    assert folder.read_json("status.json")["state"] == "finished"
    assert folder.read_json("run.json")["model"].split(".")[0] == settings.model.name
    assert list(dict.fromkeys(row["phase"] for row in folder.history())) == [phase.name for phase in settings.phases]
    assert (folder.path / "model" / "model.safetensors").is_file()
    rule = json.loads((folder.path / "model" / "preprocessing.json").read_text())
    assert rule["size"] == [SYSTEMS[recipe].image_size] * 2
    asked = {"crop_pct": settings.model.crop_pct, "fit": settings.model.fit, "mean": settings.model.mean}
    for key, value in asked.items():
        assert value is None or rule[key] == (list(value) if key == "mean" else value)


def test_every_recipe_that_names_its_network_is_run_here() -> None:
    assert sorted(SYSTEMS) == [name for name in shipped_recipes() if load_recipe(name).recipe.model.name is not None]


# Wide ones run in full width below, too: `make test` has two of them.
QUICK = {name for name, system in SYSTEMS.items() if not system.wide} | {"vgg-paper-a", "lsvrc-vgg19-res3"}


@pytest.mark.parametrize("recipe", share(SYSTEMS, QUICK, pytest.mark.slow))
def test_its_command_runs_shrunk(
    recipe: str, imgkit: Run, tmp_path: Path, weights: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if SYSTEMS[recipe].wide:
        narrow(monkeypatch)
    check(run_small(imgkit, recipe, tmp_path, weights), recipe)


@pytest.mark.timeout(1800)
@pytest.mark.slow  # up to two gigabytes of weights and moments are written for each
@pytest.mark.parametrize("recipe", [name for name, system in SYSTEMS.items() if system.wide])
def test_its_command_runs_shrunk_in_full_width(
    recipe: str, imgkit: Run, tmp_path: Path, weights: Callable[[str], Path]
) -> None:
    check(run_small(imgkit, recipe, tmp_path, weights), recipe)


@pytest.mark.parametrize("network", ["vgg_a", "vgg_c"])
def test_the_commands_of_the_tiny_imagenet_project_as_typed(
    network: str, imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMGKIT_SMOKE", "1")
    truth = tiny_imagenet(tmp_path / "data", CLASSES, 12)
    painted(tmp_path / "data")
    line = f"scratch {network} --recipe vgg-tiny-imagenet --epochs 50 --early-stop 5 --batch-size 50"
    code, _, err = imgkit(*line.split())
    assert code == 0, err
    folder = RunFolder.open("latest", tmp_path / "runs")
    about = folder.read_json("run.json")
    assert (about["model"].split(".")[0], about["classes"]) == (network, synsets(CLASSES))
    with (folder.path / "data" / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    labels = {Path(row["path"]).name: row["label"] for row in rows if row["split"] == "val"}
    assert labels == {name: truth[name] for name in labels}
    assert len(labels) == 4, "of the list val_annotations.txt, and cut by --smoke"
    kept = load_recipe(folder.path / "recipe.toml").recipe
    assert (kept.model.name, kept.early_stop, kept.model.image_size) == (network, 5, 64)
    assert about["preprocessing"]["mean"] == about["preprocessing"]["std"] == [0.5] * 3
    state = load_file(folder.path / "model" / "model.safetensors")
    assert "features.1.running_mean" in state, "the project has batch norm"
    third = [value.shape[-1] for name, value in state.items() if name.endswith(".weight") and value.dim() == 4]
    assert third.count(1) - 1 == (3 if network == "vgg_c" else 0), "1 x 1 convolutions, and one hidden layer"


def test_a_recipe_names_its_network_and_the_command_may_name_another(imgkit: Run, tmp_path: Path) -> None:
    code, out, _ = imgkit("scratch", "--recipe", "vgg-paper-a", "--print-recipe")
    assert code == 0
    assert 'name = "vgg_a"' in out
    code, out, _ = imgkit("scratch", "vgg_e", "--recipe", "vgg-paper-a", "--print-recipe")
    assert 'name = "vgg_e"' in out
    plan = ("--data", "synthetic:3x12", "--image-size", "32", "--dry-run")
    code, _, err = imgkit("scratch", "resnet18", "--recipe", "vgg-tiny-imagenet", *plan)
    assert code == 2
    assert "resnet18 does not take the option" in " ".join(err.split())
    plain = ("--recipe", "cbam-resnet50", "--set", "model.options=none", "--set", "train.precision=float32")
    code, _, err = imgkit("finetune", "resnet50.tv2_in1k", *plain, "--set", "loss.name=cross_entropy", *plan)
    assert code == 0, err


def test_pictures_without_a_label_are_kept_and_scored(
    imgkit: Run, tmp_path: Path, weights: Callable[[str], Path]
) -> None:
    folder = run_small(imgkit, "multilabel-cnn", tmp_path, weights)
    about = folder.read_json("run.json")
    assert (about["task"], tuple(about["classes"])) == ("multilabel", LABELS)
    (metrics,) = folder.evaluations().values()
    assert about["data"]["n"] == {"train": 20, "val": 4, "test": 0}
    assert (metrics["n"], metrics["empty"]) == (4, 0.25)


@pytest.mark.parametrize("recipe", ["cbam-resnet50", "finetune"])
def test_gates_keep_their_budget_whatever_the_recipe(recipe: str, imgkit: Run) -> None:
    plan = ("--image-size", "32", "--set", "train.precision=float32", "--dry-run")
    stems = ("--set", "model.options.placement=stem+stages")
    for classes, code in ((100, 0), (700, 8)):
        found, _, err = imgkit(
            *("finetune", "cbam_resnet50", "--recipe", recipe, "--data", f"synthetic:{classes}x2", *plan, *stems)
        )
        assert found == code, err
        assert ("95.41 MB" if code == 0 else "the network's own") in " ".join(err.split())
