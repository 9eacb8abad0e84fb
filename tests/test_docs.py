"""What the pages say is what the code does."""

import inspect
import re
import runpy
import shlex
from pathlib import Path

import pytest
import timm
import torch
from oracle import short_run
from pictures import square
from study_worker import forking
from timm.models.resnet import ResNet
from typer import TyperException
from typer.main import get_command

from imgkit.cli.app import app
from imgkit.data.load import load_data
from imgkit.errors import UsageError
from imgkit.model_names import OWN
from imgkit.models.options import check_options
from imgkit.recipe.changes import phase_changes
from imgkit.recipe.load import load_recipe
from imgkit.recipe.losses import CLASS_RULES, LOSS_TYPES
from imgkit.recipe.monitors import MONITORS
from imgkit.recipe.plan import make_plan
from imgkit.recipe.schedules import SCHEDULE_TYPES
from imgkit.recipe.schema import DataSettings, Recipe

ROOT = Path(__file__).parents[1]
RECIPES = (ROOT / "docs" / "recipes.md").read_text()
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_the_recipe_on_the_page_loads_and_plans(tmp_path: Path) -> None:
    block, stages = re.findall(r"```toml\n(.*?)```", RECIPES, re.DOTALL)
    file = tmp_path / "mine.toml"
    file.write_text(block)
    plan = make_plan(load_recipe(file), 640)
    assert [phase.name for phase in plan.phases] == ["head", "top", "all"]
    file.write_text(stages)
    first, second = make_plan(load_recipe(file), 640).phases
    assert f"`second: {phase_changes(first, second)}`" in RECIPES


def test_the_table_of_labels_on_the_page_is_read_as_the_page_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "data.md").read_text()
    (text,) = re.findall(r"```csv\n(.*?)```", page, re.DOTALL)
    command = next(line for line in sorted(commands(ROOT / "docs" / "data.md")) if "--label-col defective" in line)
    (tmp_path / "cells").mkdir()
    for number, row in enumerate(text.splitlines()[1:]):
        square(number).save(tmp_path / row.partition(",")[0], format="PNG")
    (tmp_path / "cells.csv").write_text(text)
    words = shlex.split(command)
    columns = tuple(words[at + 1] for at, word in enumerate(words) if word == "--label-col")
    index = load_data(DataSettings(path=str(tmp_path / "cells.csv"), label_col=columns)).index
    assert index.classes == ("defective", "mono", "poly")
    assert index.label_sets() == [(0, 1), (2,), (0, 2), ()]
    assert all(f"`{name}`" in page for name in index.classes)


def test_the_page_names_the_losses_and_scores_of_each_task() -> None:
    for task, words in (("single", "one label an image"), ("multilabel", "multi-label")):
        (line,) = re.findall(rf"^\| {words} \|(.*)$", RECIPES, re.MULTILINE)
        assert all(name in line for name, type_ in LOSS_TYPES.items() if task in type_.TASKS)
        averaged = {name for name in MONITORS[task] if name.endswith(("_macro", "_micro", "_weighted"))}
        assert all(name in line for name in set(MONITORS[task]) - averaged)
        assert len(averaged) == 9


def test_the_network_on_the_page_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(block)
    run = runpy.run_path("own.py")["run"]
    assert re.fullmatch(r"Run\('runs/.*-scratch-tiny_net-digits-.*'\)", repr(run))


@pytest.mark.slow
def test_the_blocks_of_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("imgkit.studies.work.in_a_process", forking())
    (tmp_path / "photos").mkdir()
    for number in range(2):
        square(number).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "page.py").write_text("\n".join(blocks))
    found = runpy.run_path("page.py")
    assert found["answer"].path == "photos/1.png"
    assert [run.folder.name for run in found["folds"].runs] == ["fold1-seed0", "fold2-seed0", "fold3-seed0"]
    assert found["search"].best_score_ > 0.5


def test_the_tracker_on_the_page_hears_a_run(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tracking.md").read_text(), re.DOTALL)
    (tmp_path / "lines_on_the_page.py").write_text(block)
    run = short_run(tmp_path, "run.track=lines", plugin=tmp_path / "lines_on_the_page.py")
    told = (run.folder.path / "lines.txt").read_text().splitlines()
    assert told[0] == "start run test_resnet.r160_in1k"
    assert told[-1] == "finished"
    assert any("epoch/val/f1_macro=" in line for line in told)


def test_the_plugin_on_the_page_is_the_tested_file() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)
    assert block == (ROOT / "docs" / "examples" / "my_plugin.py").read_text()


@pytest.mark.parametrize("section", ["data", "model", "train", "augment", "budget", "save", "run"])
def test_the_table_of_keys_is_complete(section: str) -> None:
    (keys,) = re.findall(rf"^\| `\[{section}\]` \| `([^`]*)` \|$", RECIPES, re.MULTILINE)
    assert set(keys.split()) == set(type(getattr(Recipe.model_construct(), section)).model_fields)


def rows_of(page: str, heading: str) -> dict[str, list[str]]:
    """The table of a page whose first column is headed so: first cell to the other cells, without the marks of code."""
    text = (ROOT / "docs" / page).read_text()
    (table,) = re.findall(rf"^\| `{re.escape(heading)}` \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {first.strip("`"): rest for first, *rest in cells}


def words(cell: str) -> set[str]:
    return set(cell.replace("`", "").replace(",", " ").split())


def test_the_table_of_losses_is_complete() -> None:
    rows = rows_of("losses.md", "loss.name")
    assert list(rows) == list(LOSS_TYPES)
    for name, (tasks, keys, soft, _) in rows.items():
        type_ = LOSS_TYPES[name]
        assert words(tasks) == set(type_.TASKS)
        assert words(keys) == set(type_.model_fields) - {"name"}
        assert words(soft) == (set(type_.SOFT) or {"no"})


def test_the_table_of_schedules_is_complete() -> None:
    rows = rows_of("schedules.md", "schedule.name")
    assert list(rows) == list(SCHEDULE_TYPES)
    for name, (_, keys) in rows.items():
        assert words(keys) == set(SCHEDULE_TYPES[name].model_fields) - {"name"}


def test_the_table_of_own_networks_is_what_they_are() -> None:
    rows = rows_of("networks.md", "network")
    assert sorted(rows) == sorted(OWN)
    for name, (_, parameters, options) in rows.items():
        with torch.device("meta"):
            count = sum(weight.numel() for weight in timm.create_model(name).parameters())
        assert parameters == f"{count:,}", name
        with pytest.raises(UsageError) as caught:
            check_options(name, {"no_such_option": 1}, {})
        listed = re.findall(r"Its options: (.*)\.|has no options", caught.value.hint)
        timms = set(inspect.signature(ResNet).parameters) if "resnet" in name else set()
        assert words(options) == words(*listed) - timms, name


def test_the_table_of_small_vggs_is_what_they_are() -> None:
    text = (ROOT / "docs" / "networks.md").read_text()
    (table,) = re.findall(r"^\| 200 classes, 64 px .*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    for line, norm in zip(table.splitlines(), ("", "_bn"), strict=True):
        found = []
        for letter in "abcde":
            with torch.device("meta"):
                model = timm.create_model(f"vgg_{letter}{norm}", num_classes=200, img_size=64)
            found.append(f"{sum(weight.numel() for weight in model.parameters()):,}")
        assert [cell.strip() for cell in line.strip("|").split("|")][1:] == found


def test_the_table_of_class_weights_is_complete() -> None:
    assert [name for name in rows_of("losses.md", "class_weights") if "file" not in name] == list(CLASS_RULES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_source_file_is_on_the_design_page() -> None:
    page = (ROOT / "docs" / "design.md").read_text()
    for file in sorted((ROOT / "imgkit").rglob("*.py")):
        name = file.name if file.name != "__init__.py" else None
        folder = file.parent.name
        known = name is None or name == "__main__.py" or folder in {"cli", "report"} or re.search(rf"\b{name}\b", page)
        assert known, f"docs/design.md does not say what {file.relative_to(ROOT)} is for"


def test_every_variable_that_is_read_is_on_its_page() -> None:
    page = (ROOT / "docs" / "environment.md").read_text()
    sources = "\n".join(file.read_text() for file in (ROOT / "imgkit").rglob("*.py"))
    own = set(re.findall(r"\bIMGKIT_[A-Z_]+\b", sources))
    read = re.findall(r"environ(?:\.get\(|\.setdefault\(|\[)\"([A-Z_]+)\"", sources)
    elsewhere = {"DISPLAY", "WAYLAND_DISPLAY", "XDG_CACHE_HOME", "WANDB_ERROR_REPORTING", "_IMGKIT_COMPLETE"}
    assert own == set(re.findall(r"\bIMGKIT_[A-Z_]+\b", page))
    assert {name for name in read if f"`{name}`" not in page} <= elsewhere


def commands(page: Path) -> set[str]:
    """The command lines of a page: in its blocks, and in words such as `imgkit report runs/`."""
    text = page.read_text()
    lines = re.findall(r"^ {4}(imgkit .*)$", text, re.MULTILINE)
    return {line for line in [*lines, *re.findall(r"`(imgkit [a-z][^`]*)`", text)] if "…" not in line}


def parse(line: str) -> None:
    """Let the command line's parser read `line`; nothing is run."""
    command, context = get_command(app), None
    name, *words = shlex.split(line.partition(" > ")[0], comments=True)
    while True:
        context = command.make_context(name, words, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_on_the_page_are_understood(page: Path) -> None:
    found = commands(page)
    assert page.name != "README.md" or len(found) >= 8
    for line in sorted(found):
        try:
            parse(line)
        except TyperException as error:
            if error.format_message():  # none: a bare `imgkit scratch` answers with its help
                pytest.fail(f"{page.name}: {line}: {error.format_message()}")


@pytest.mark.parametrize(
    "line", ["imgkit finetun x", "imgkit predict latest a.jpg --output p.csv", "imgkit data chck", "imgkit evaluate"]
)
def test_a_command_that_is_gone_is_found(line: str) -> None:
    with pytest.raises(TyperException):
        parse(line)
