"""`imgkit predict --template`: a table filled with answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgkit.cells import guarded_answer, joined
from imgkit.cli.destination import destination
from imgkit.data.rows import count, listed, refuse_picture, same_file
from imgkit.errors import DataError, UsageError, printable
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.api import Run


def refuse_idle(given: Mapping[str, object]) -> None:
    """See that nothing was given that a template alone, or predictions without one, would read.

    Args:
        given: option as typed to its value, None where it was not given.

    Raises:
        UsageError: naming the first option that would be left unread.
    """
    if given["--template"] is None:
        if given["--label-col"] is not None:
            raise UsageError(
                "--label-col is not used: it is for a template, and there is none.", "Add  --template FILE"
            )
        return
    if given["--out"] is None:
        raise UsageError("A filled template is written to a file.", "Add  --out filled.csv")
    if same_file(Path(str(given["--out"])), Path(str(given["--template"]))):
        raise UsageError("--out is the template itself.", "Write to another file:  --out filled.csv")
    layout = ("--format", "--top-k", "--root", "--grid", "--classes-as", "--index-base", "--class-order")
    for flag in (*layout, "--reject-at", "--target-accuracy", "--unlike", "--conformal"):
        if given[flag] is not None:
            raise UsageError(f"{flag} is not used: the template says what is written.", "Leave it out.")


def fill_template(
    run: "Run",
    inputs: Sequence[str],
    file: Path,
    columns: tuple[str | None, str | None],
    *,
    out: Path,
    value: str | None,
    asked: Mapping[str, Any],
) -> None:
    """Fill a template; `out` is written at the end, whole.

    Args:
        run: that answers.
        inputs: images, folders, tables of images.
        file: the template.
        columns: the one that names images, and the one to fill, where they were named.
        out: the file to write; a .zip holds a table of its name.
        value: the text where there is no image, or one that cannot be read; None: that is an error.
        asked: what `Run.predict` is asked besides, such as which runs vote.

    Raises:
        DataError: if rows and images do not fit together, or an image cannot be read, and there is no `value`.
        DiskError: if `out` cannot be written.
    """
    from imgkit.predict import expand_inputs
    from imgkit.template import read_template

    classes = run.folder.read_json("run.json")["classes"]
    template = read_template(file, image_col=columns[0], label_col=columns[1], classes=classes)
    screen = Screen()
    found, surplus = template.match((one.file for one in expand_inputs(inputs)), lenient=value is not None)
    if not found:
        raise DataError(f"No row of {template.shown} has an image here.", "Its cells are names of files.")
    filled = [template.header[column] for column in template.columns]
    cells: dict[str, list[str]] = {}
    unread = []
    files = dict.fromkeys(found.values())
    refuse_picture(out, map(Path, files))
    for given in run.predict(files, top_k=len(classes), **asked):
        if given.error:
            unread.append(f"{given.path}: {given.error}")
        elif len(filled) == 1:
            cells[given.path] = [guarded_answer(joined(given.labels))]
        else:
            probs = dict(given.top)
            cells[given.path] = [f"{probs[name]:.6f}" for name in filled]
    if unread and value is None:
        raise DataError(f"{count(len(unread), 'image')} cannot be read: {listed(unread)}.", "Or give  --fill VALUE")
    answers = {cell: cells[path] for cell, path in found.items() if path in cells}
    with destination(out, file.suffix or ".csv") as stream:
        stream.write(template.fill(answers, value))
    without = sum(cell not in answers for cell in template.wanted)
    if without:
        screen.warn(f"{count(without, 'row')} without a readable image got {value!r}")
    if surplus:
        screen.warn(f"{count(len(surplus), 'image')} without a row left out: {listed(surplus)}")
    screen.line(f"Wrote {printable(str(out))} ({count(len(template.wanted), 'row')})")
