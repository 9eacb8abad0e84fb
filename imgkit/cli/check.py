"""`imgkit data check`."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgkit.cli.given import use_given_plugins
from imgkit.cli.options import check_signature, recipe_flags, typed
from imgkit.data.rows import absolute, count, is_folder, listed, refuse_picture
from imgkit.errors import DataError, UsageError, printable
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.check.finding import Section
    from imgkit.check.whole import Checked
    from imgkit.data.index import Index, Ints
    from imgkit.recipe.schema import Recipe

_SHOWN = 10  # files named on the screen
_CLASSES_SHOWN = 200  # by name
_LABELS_SHOWN = 50  # of a multi-label task
_MARKS = {"error": "✗", "warning": "!", "note": "i"}
_OPENED = ("unreadable", "truncated")
"""Kinds of findings that are named file by file."""


def check_command() -> Callable[..., None]:
    """The command: paths, the options of the pictures, their draws and splits, and what to write."""

    def command(**given: object) -> None:
        _check(given)

    command.__dict__["__signature__"] = check_signature()
    return command


def _check(given: Mapping[str, Any]) -> None:
    use_given_plugins(given)
    from imgkit.check.whole import check
    from imgkit.data.load import no_validation
    from imgkit.weight_packages import installed_networks

    drawn = given["sampler"] or (None if given["weight_col"] is None else "weighted")
    flags = recipe_flags({**given, "sampler": drawn})
    recipe = _recipe(flags)
    outputs = {flag: given[name] for flag, name in (("--fix-list", "fix_list"), ("--html", "html")) if given[name]}
    _refuse_data(outputs, recipe)
    screen = Screen(file=sys.stdout)
    with Screen().progress("reading images") as progress:
        checked = check(recipe.data, progress)
    _print_findings(checked, screen)
    _print_classes(checked.found.index, recipe.train.sampler, screen)
    options = typed(flags) + [word for file in given["plugin"] or [] for word in ("--plugin", str(file))]
    model = next(iter(installed_networks()), "resnet50")  # one whose weights are here, if there is one
    command = shlex.join(["imgkit", "finetune", model, *options])
    _write(outputs, checked, command, screen)
    if checked.errors:
        raise _to_mend(checked, outputs)
    if not len(checked.found.index.rows("val")):
        raise no_validation(checked.found.index)
    screen.line()
    screen.line(f"Next:  {command}")


def _recipe(given: "Mapping[str, tuple[str, object]]") -> "Recipe":
    """The recipe that a training with these flags would have."""
    from imgkit.recipe.load import Flag, load_recipe

    return load_recipe("finetune", flags={key: Flag(flag, value) for key, (flag, value) in given.items()}).recipe


def _refuse_data(outputs: Mapping[str, Path], recipe: "Recipe") -> None:
    """See, before anything is read, that nothing is written into the data.

    Raises:
        UsageError: if a file to write lies in a data folder, or is the table or one of the given files.
    """
    from imgkit.data.sources import find_data

    if not outputs:
        return
    place = find_data(recipe.data)
    given = [place.path, place.val_path, *(other.path for other in place.more)]
    if recipe.data.root is not None:
        given.append(absolute(recipe.data.root))
    for flag, file in outputs.items():
        refuse_picture(file, [one for one in given if one is not None and not is_folder(one)], flag)
        for folder in given:
            if folder is not None and is_folder(folder) and file.resolve().is_relative_to(folder.resolve()):
                raise UsageError(
                    f"{flag} {printable(str(file))} lies in the data, which are never written to.",
                    f"Put it beside them:  {flag} {shlex.quote(str(folder.parent / file.name))}",
                )


def _write(outputs: Mapping[str, Path], checked: "Checked", command: str, screen: Screen) -> None:
    """The table and the page, where they were asked for."""
    from imgkit.check.finding import write_fix_list

    index = checked.found.index
    for flag, file in outputs.items():
        refuse_picture(file, (index.path(row) for row in range(len(index)) if file.exists()), flag)
    if outputs:
        screen.line()
    if "--fix-list" in outputs:
        rows = write_fix_list(checked.sections, outputs["--fix-list"])
        screen.line(f"Table of {count(rows, 'finding')}: {printable(str(outputs['--fix-list']))}")
    if "--html" in outputs:
        from imgkit.report.check_page import write_check_page

        write_check_page(checked, outputs["--html"], command)
        screen.line(f"Page: {printable(str(outputs['--html']))}")


def _to_mend(checked: "Checked", outputs: Mapping[str, Path]) -> DataError:
    bad = len(checked.found.bad)
    others = len(checked.errors) - bad
    parts = [f"{count(bad, 'file')} cannot be used as an image"] if bad else []
    parts += [count(others, "other finding" if bad else "finding") + " must be mended"] if others else []
    hints = ["Mend or remove them, or train without them:  --on-bad skip"] if bad else []
    hints += ["Go through the lines marked ✗ above."] if others else []
    hints += [] if outputs else ["All of them as a table, or as a page with pictures:  --fix-list FILE  --html FILE"]
    return DataError(", and ".join(parts) + ".", "\n".join(hints))


def _print_findings(checked: "Checked", screen: Screen) -> None:
    import numpy as np

    from imgkit.data.aspect import crop_warnings
    from imgkit.data.index import SPLITS

    found = checked.found
    index = found.index
    counts = {split: index.counts(split) for split in SPLITS if len(index.rows(split))}
    per_class = np.sum(list(counts.values()), axis=0)
    splits = " · ".join(f"{split} {len(index.rows(split)):,}" for split in counts)
    kind, names, one = "", count(len(index.classes), "class", "classes"), "class"
    if index.task == "multilabel":
        kind, names, one = "multi-label · ", count(len(index.classes), "label"), "label"
    screen.line(f"Read {found.where}")
    screen.line(
        f"{count(len(index), 'image')} · {kind}{names} · "
        f"{_range(int(per_class.min()), int(per_class.max()))} a {one} · {splits}"
    )
    screen.line()
    if index.task == "multilabel":
        _print_labels(counts, index.classes, screen)
    else:
        screen.fact("Classes", listed(index.classes, _CLASSES_SHOWN))
        screen.line()
    if not found.bad:
        screen.item("✔", "all files open")
    for text in checked.notes:
        screen.item("i", text)
    _print_sections(checked.sections, "note", screen)
    warnings = [*checked.warnings, *crop_warnings(found.aspects)]
    for text in warnings:
        screen.item("!", text)
    _print_sections(checked.sections, "warning", screen)
    _print_sections(checked.sections, "error", screen)
    likely = len(warnings) + sum(section.severity == "warning" for section in checked.sections)
    screen.line()
    screen.line(f"{count(likely, 'warning')}, {count(len(checked.errors), 'error')}")


def _print_sections(sections: "Sequence[Section]", severity: str, screen: Screen) -> None:
    """A line for each section of a severity; unreadable files are named one by one, as far as there is room."""
    opened = [one for section in sections if section.kind in _OPENED for one in section.findings]
    for section in sections:
        if section.severity == severity and section.kind not in _OPENED:
            screen.item(_MARKS[severity], section.sentence)
    for one in opened[:_SHOWN] if severity == "error" else ():
        screen.item("✗", f"{printable(one.path)}: {one.what}")
    if severity == "error" and len(opened) > _SHOWN:
        screen.item(" ", f"… and {count(len(opened) - _SHOWN, 'more file')}")


def _print_classes(index: "Index", sampler: str, screen: Screen) -> None:
    """The table of classes where they are unequal or drawn by a sampler; an epoch is taken for all of train."""
    from imgkit.data.class_table import class_table

    sampling = {"": (sampler, len(index.rows("train")))}
    lines = class_table(index, sampling, {}) if len(index.rows("train")) else []
    if not lines:
        return
    screen.line()
    for line in lines:
        screen.line(line)


def _print_labels(counts: "Mapping[str, Ints]", labels: Sequence[str], screen: Screen) -> None:
    """Images of each label by split."""
    for code, label in enumerate(labels[:_LABELS_SHOWN]):
        images = ", ".join(f"{split} {int(each[code]):,}" for split, each in counts.items())
        screen.line(f"  {printable(label)}: {images}")
    if len(labels) > _LABELS_SHOWN:
        screen.line(f"  … and {count(len(labels) - _LABELS_SHOWN, 'more label')}")
    screen.line()


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
