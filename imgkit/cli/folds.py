"""`imgkit finetune --folds K` and `imgkit scratch --folds K`."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from imgkit.cli.given import model_and_flags, smoke_asked
from imgkit.errors import UsageError
from imgkit.screen import Screen
from imgkit.terminal import make_console, print_columns

if TYPE_CHECKING:
    from imgkit.studies.folds import Folded, Request
    from imgkit.studies.pooled import Compared, Pooled
    from imgkit.studies.schema import Verb


def cross_validate(verb: str, recipe: str, model: str | None, given: Mapping[str, Any]) -> None:
    """Deal the images to folds, train once for each, and say what they come to; the same command again goes on.

    Raises:
        ImgkitError: what is wrong, before anything is trained; or what stopped a training.
    """
    if given["print_recipe"]:
        raise UsageError("--print-recipe prints one recipe, and --folds makes several runs.", "Leave out one of them.")
    name, flags = model_and_flags(recipe, model, given)
    from imgkit.api_folds import deal, train
    from imgkit.studies.folds import Request

    screen, sets, plugin = Screen(), given["set"] or [], [str(file) for file in given["plugin"] or []]
    smoke = smoke_asked(given["smoke"])
    asked = Request(cast("Verb", verb), name, recipe, flags, sets, plugin, given["folds"], smoke)
    dealt = deal(asked, given["out"], given["name"], screen)
    if given["dry_run"]:
        _show_plan(asked, dealt.folded)
        return
    pooled, compared, files = train(dealt, screen)
    _print(pooled, compared)
    screen.fact("Wrote", *(str(file) for file in files))


def _show_plan(asked: "Request", folded: "Folded") -> None:
    """The plan of the first training; the others differ in their images alone."""
    from imgkit import api
    from imgkit.recipe.load import Flag
    from imgkit.studies.folds import run_values

    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "folds.csv"
        table.write_text(folded.file.text(), encoding="utf-8", newline="")
        flags, sets = run_values(asked, folded.file, table)
        flags["data.split_col"] = Flag("--folds", "split_1")
        options: dict[str, Any] = {"flags": flags, "sets": sets, "plugin": asked.plugin, "smoke": asked.smoke}
        api.show_plan(asked.verb, asked.model, recipe=asked.recipe, screen=Screen(), **options)


def _print(pooled: "Pooled", compared: "list[Compared]") -> None:
    from imgkit.studies.pooled import comparison, notes, notes_of_comparison, sentence, table

    console, screen = make_console(sys.stdout), Screen(file=sys.stdout)
    screen.line()
    screen.line(sentence(pooled))
    rows = table(pooled)
    heads = ["score", "all images", "95 %", "mean", "sd"]
    print_columns(heads, [row[:5] for row in rows], console, right={"all images", "mean", "sd"}, folded={"score"})
    for row in (row for row in rows if row[2]):  # those with an interval
        screen.line(f"{row[0]} of the folds: {' · '.join(row[5:])}")
    for text in notes(pooled):
        screen.item("i", text)
    if compared:
        screen.line()
        heads = ["against", "score", "difference", "95 %", "p", ""]
        print_columns(heads, comparison(compared), console, right={"difference", "p"}, folded={"against"})
        for text in notes_of_comparison(compared):
            screen.item("i", text)
