import re
from pathlib import Path

import pytest
from pretended_sweeps import write_sweep

from imgkit.errors import RecipeError, UsageError
from imgkit.recipe.shipped import shipped_sweeps
from imgkit.sweeps.file import read_sweep
from imgkit.sweeps.plan import ask, plan_corners
from imgkit.sweeps.schema import Choices, Range


def test_a_file_is_read_with_its_domains(tmp_path: Path) -> None:
    sweep = read_sweep(write_sweep(tmp_path, 7, 'sampler = "random"\nwarmup_epochs = 0'))
    assert (sweep.name, sweep.trials, sweep.sampler, sweep.pruner, sweep.warmup_epochs) == (
        *("small", 7, "random", "median"),
        0,
    )
    assert sweep.space == {
        "phases.head.lr": Range(1e-4, 1e-1, log=True),
        "train.batch_size": Choices((8, 16)),
        "augment.crop": Choices(((0.5, 1.0), "none")),
    }


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("lr = 3", "space.lr: expected { low = 1e-5, high = 1e-2, log = true }"),
        ("lr = { low = 1.0, high = 0.1 }", "space.lr: low has to be below high, got 1 and 0.1"),
        ("lr = { low = 0.0, high = 0.1, log = true }", "a logarithmic range begins above 0, got low = 0"),
        ("lr = { low = 1e-3 }", "space.lr.high: is missing; write high = a number"),
        ("lr = { low = 1e-3, hihg = 0.1 }", "space.lr.hihg: unknown key (did you mean 'high'?)"),
        ("lr = { low = nan, high = 0.1 }", "space.lr.low: expected a number"),
        ("epochs = { low = 1.5, high = 4, int = true }", "space.epochs.low: expected a whole number"),
        ("epochs = { low = 1, high = 4, int = true, step = 2 }", "steps of 2 do not lead from 1 to 4"),
        ("lr = { low = 1, high = 4, step = 1, log = true }", "a logarithmic range has no step"),
        ('"train.ema" = { choices = [0.9] }', "space.train.ema.choices: needs a list of two values at least"),
        ('"train.ema" = { choices = [0.9, 0.9] }', "names a value twice"),
        ('"data.path" = { choices = ["a", "b"] }', "cannot be searched: trials on other images cannot be compared"),
        ('monitor = { choices = ["val/loss", "val/top1"] }', "what trials are compared by cannot be searched"),
        ("seed = { low = 0, high = 9, int = true }", "the seed stands at the top of the sweep"),
        ('"train.micro_batch" = { low = 2, high = 8 }', "takes whole numbers alone; write  int = true"),
        ('"phases.head.epochs" = { low = 2, high = 4, int = true }', "is set by"),
        ("train = { ema = { low = 0.1, high = 0.9 } }", 'a key with dots stands in quotes: "train.ema"'),
    ],
)
def test_a_bad_domain_is_told_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    file = write_sweep(tmp_path)
    file.write_text(file.read_text() + line + "\n")
    number = len(file.read_text().splitlines())
    with pytest.raises(RecipeError) as caught:
        read_sweep(file)
    assert told in caught.value.message
    assert f"small.toml:{number}: " in caught.value.message


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("schema = 1", "schema = 2", "this imgkit reads schema 1"),
        ("trials = 4", "trials = 0", "trials: expected a whole number of 1 or more, got 0"),
        ("trials = 4", 'trials = 4\nsampler = "tpa"', "got 'tpa' (did you mean 'tpe'?)"),
        ("trials = 4", 'trials = 4\nstorage = "sqlite:///x.db"', "is a URL of PostgreSQL"),
        ("trials = 4", 'trials = 4\nstorage = "postgresql://me:secret@host/x"', "has a password"),
        ("[space]", "[space]\n[rest]", "space: is empty; under [space] write"),
        ("trials = 4", 'trials = 4\nstorage = "postgresql://host/x?user=me&password=secret"', "has a password"),
        ("trials = 4", "trails = 4", "trails: unknown key (did you mean 'trials'?)"),
    ],
)
def test_a_bad_top_is_told(tmp_path: Path, before: str, after: str, told: str) -> None:
    file = write_sweep(tmp_path)
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(RecipeError, match=re.escape(told)) as caught:
        read_sweep(file)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('"train.wieght_decay" = { low = 0.0, high = 0.1 }', "train.wieght_decay: unknown key"),
        ('"train.ema" = { low = 0.5, high = 1.5 }', "train.ema"),
        ('"phases.head.views" = { low = 1, high = 4 }', "phases.head.views"),
        ('"train.momentum" = { choices = [0.5, "high"] }', "train.momentum"),
    ],
)
def test_the_recipe_refuses_points_before_the_first_trial(tmp_path: Path, line: str, told: str) -> None:
    file = write_sweep(tmp_path)
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(RecipeError, match=re.escape(told)):
        plan_corners(ask(file))


def test_what_is_searched_is_not_set_besides(tmp_path: Path) -> None:
    file = write_sweep(tmp_path)
    with pytest.raises(UsageError, match=r"train\.batch_size is searched by"):
        ask(file, sets=["train.batch_size=8"])
    with pytest.raises(UsageError, match="--storage is a URL of PostgreSQL"):
        ask(file, storage="trials.db")


@pytest.mark.parametrize("name", sorted(shipped_sweeps()))
def test_shipped_sweeps_resolve(name: str) -> None:
    study, runs = plan_corners(ask(name, model="test_resnet", data="digits"))
    assert len(runs) > 3
    assert study.study.base["score_test"].value is False


def test_an_unknown_sweep_is_suggested() -> None:
    with pytest.raises(UsageError, match="There is no sweep 'haed' \\(did you mean 'head'"):
        ask("haed")


def test_the_sweep_on_the_page_resolves(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mine.toml").write_text(block)
    _, runs = plan_corners(ask(tmp_path / "mine.toml", data="digits"))
    assert {run.model for run in runs} == {"resnet50"}
