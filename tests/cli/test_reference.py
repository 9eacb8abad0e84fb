"""The page of commands and the man pages say what the commands are."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from imgkit.cli import recipe_keys, reference
from imgkit.cli.app import app
from imgkit.recipe.schema import PhaseSettings, Recipe

ROOT = Path(__file__).parents[2]
COMMANDS = reference.walk()


def flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def section(command: reference.Command) -> str:
    """The part of the page that is about a command."""
    (found,) = re.findall(rf"^## {command.path}\n(.*?)(?=^## )", reference.page(COMMANDS), re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_page_is_what_is_written_now() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == reference.page(COMMANDS), "make docs writes it anew"


def test_values_are_named_for_what_they_are_and_not_by_types_of_python() -> None:
    assert not re.findall(r"`(\S+ <(?:str|int|float|path|bool|list)\b.*?>)`", reference.page(COMMANDS))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.path)
def test_page_and_man_page_have_the_flags_and_commands_of_help(command: reference.Command) -> None:
    words = command.path.split()[1:]
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "300", "TERM": "dumb"}).output
    assert flags(section(command)) == flags(shown)
    man = reference.man_page(command, COMMANDS)
    assert flags(man.replace("\\-", "-").replace("\\fB", "")) == flags(shown)
    below = {one.path.split()[-1] for one in COMMANDS if one.path.split()[:-1] == command.path.split()}
    assert {name for rows in command.parts.values() for name, _ in rows} == below
    assert all(re.search(rf"^│ {name} ", shown, re.MULTILINE) for name in below)


def test_each_command_has_a_man_page_that_groff_takes_without_a_warning(tmp_path: Path) -> None:
    reference.main(tmp_path / "cli.md", tmp_path / "man")
    files = sorted((tmp_path / "man").iterdir())
    assert [file.name for file in files] == sorted(f"{one.path.replace(' ', '-')}.1" for one in COMMANDS)
    assert all(file.read_text().startswith('.TH "IMGKIT') for file in files)
    if groff := shutil.which("groff"):
        done = subprocess.run(
            [groff, "-k", "-man", "-ww", "-Tutf8", *files], capture_output=True, text=True, encoding="utf-8", check=True
        )
        assert done.stderr == ""
        assert re.search(r"imgkit-data-check +- +Look +for +problems", done.stdout)


def awkward() -> reference.Command:
    rows = [("--mark <a|b>", ".dot \\ back `tick` *star* _under_ [box] <tag> | bar"), ("--quote", "'quote - dash")]
    return reference.Command("imgkit odd", "imgkit odd [OPTIONS]", ".TH is no request\n\n'nor this", {}, {"Odd": rows})


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_a_man_page_shows_words_as_they_are() -> None:
    command = awkward()
    page = reference.man_page(command, [command])
    done = subprocess.run(
        ["groff", "-k", "-man", "-ww", "-Tutf8", "-P-c"], input=page, capture_output=True, text=True, check=True
    )
    shown = " ".join(re.sub(r".\x08", "", done.stdout).split())
    assert done.stderr == ""
    assert all(words in shown for row in command.options["Odd"] for words in row)
    assert ".TH is no request 'nor this" in shown


def test_the_page_shows_words_as_they_are() -> None:
    markdown = pytest.importorskip("markdown")
    command = awkward()
    html = markdown.markdown(reference.page([command]), extensions=["tables", "fenced_code"])
    cells = [re.sub(r"</?code>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", html)]
    unescaped = [re.sub(r"&lt;", "<", re.sub(r"&gt;", ">", cell.replace("&#124;", "|"))) for cell in cells]
    assert unescaped[:4] == [part for row in command.options["Odd"] for part in row]


def test_the_page_of_recipe_keys_is_what_is_written_now() -> None:
    assert (ROOT / "docs" / "recipe-keys.md").read_text() == recipe_keys.page(), "make docs writes it anew"


def test_every_recipe_key_is_on_its_page_with_its_default_and_a_meaning() -> None:
    parts = re.split(r"^## (.*)$", recipe_keys.page(), flags=re.MULTILINE)[1:]
    tables = dict(zip(parts[::2], parts[1::2], strict=True))
    recipe = Recipe.model_fields
    sections = {
        f"[{name}]": type(field.default) for name, field in recipe.items() if isinstance(field.default, BaseModel)
    }
    expected = {"Of the whole": set(recipe) - {"phases", "schema_version"} - {name.strip("[]") for name in sections}}
    expected["Of the whole"] |= {"schema"}
    expected |= {
        name: set(kind.model_fields) for name, kind in sections.items() if name not in ("[loss]", "[schedule]")
    }
    expected["[[phases]]"] = set(PhaseSettings.model_fields) - {"overrides"}
    rows = {
        title: re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", text, re.MULTILINE) for title, text in tables.items()
    }
    assert {title: {name for name, _, _ in found} for title, found in rows.items()} == expected
    for title, kind in sections.items():
        for name, default, _ in rows.get(title, ()):
            shown = default.strip("`")
            value = tomllib.loads(f"x = {shown}")["x"]
            told = kind.model_validate({name: value}) if value != "none" else kind.model_validate({name: None})
            assert getattr(told, name) == getattr(kind(), name), (title, name)
