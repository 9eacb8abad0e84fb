"""`imgkit predict`."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from imgkit.cli import complete
from imgkit.cli.destination import check_folder, destination
from imgkit.cli.fill import fill_template, refuse_idle
from imgkit.cli.forms import EXTENSION, Base, ClassesAs, Format, Vote, lines_of, refuse_unread
from imgkit.cli.given import use_given_plugins
from imgkit.cli.grid import Grid
from imgkit.cli.options import MAX_PIXELS, PLUGIN, pixels
from imgkit.cli.ranks import led, refuse_alone
from imgkit.data.rows import count, refuse_picture, same_file
from imgkit.errors import DataError, UsageError, printable
from imgkit.screen import Screen
from imgkit.terminal import encodable, make_console

if TYPE_CHECKING:
    from imgkit.predict import Prediction

_ON_TERMINAL = 3  # classes a line for people tells at least
_ELSEWHERE = "\nRelative paths of a table start at its folder; at another one:  --root FOLDER"
_WORTH_SAYING = 0.005  # a runner-up below this probability is left out of such a line


def predict(
    name: Annotated[str, complete.RUN],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUTS", help="Images, folders, a CSV of images, or - for paths on stdin."),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write to this file, .csv, .jsonl or .zip (else stdout).")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="So many classes, the most likely ones, for each image.")
    ] = None,
    image_col: Annotated[str | None, typer.Option(metavar="COLUMN", help="CSV column with the image paths.")] = None,
    root: Annotated[str | None, typer.Option(metavar="FOLDER", help="Where relative paths of a CSV start.")] = None,
    max_pixels: Annotated[str | None, MAX_PIXELS] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(metavar="TYPE", help="auto, float32, bfloat16 or float16.")] = "auto",
    form: Annotated[Format | None, typer.Option("--format", help="The form, whatever the file is called.")] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="NAME", help="A further run that votes. Repeatable.", autocompletion=complete.runs
        ),
    ] = None,
    vote: Annotated[Vote | None, typer.Option(help="How they vote (else mean, of probabilities).")] = None,
    classes_as: Annotated[ClassesAs | None, typer.Option(help="What competition writes (else index).")] = None,
    index_base: Annotated[Base | None, typer.Option(help="Index of the first class (else 0).")] = None,
    class_order: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names in the order of indices (else data/classes.txt).")
    ] = None,
    template: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A CSV to fill: one column names images.")
    ] = None,
    label_col: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of --template to fill.")] = None,
    fill: Annotated[
        str | None, typer.Option(metavar="VALUE", help="Written where an image is missing or unreadable.")
    ] = None,
    grid: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="A sheet of the first 120 pictures and answers.")
    ] = None,
    reject_at: Annotated[
        float | None, typer.Option(metavar="P", help="Decline answers below this probability.")
    ] = None,
    target_accuracy: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Decline the least sure answers so that the rest reach this accuracy."),
    ] = None,
    unlike: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Decline images that are unlike those of the training.")
    ] = None,
    conformal: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Sets that hold the true class for this share of images.")
    ] = None,
    plugin: Annotated[list[Path] | None, PLUGIN] = None,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of runs.")] = Path("runs"),
) -> None:
    """Label new images."""
    from imgkit import api
    from imgkit.caution import Wish
    from imgkit.predict import is_table

    limit = pixels(max_pixels)
    given: dict[str, object] = {
        "--template": template,
        "--label-col": label_col,
        "--fill": fill,
        "--out": out,
        "--format": form,
        "--grid": grid,
    }
    given |= {"--classes-as": classes_as, "--index-base": index_base, "--class-order": class_order, "--top-k": top_k}
    wish = Wish(reject_at, target_accuracy, unlike, conformal)
    wish.check()
    refuse_idle({**given, **wish.flags, "--root": root})
    if template is None:
        refuse_unread(form, {**given, **wish.flags})
    if vote is not None and not also:
        raise UsageError("--vote is not used: one run decides alone.", "Name the others:  --with NAME")
    refuse_alone({"--with": also, "--unlike": unlike})
    with led(use_given_plugins({"plugin": plugin})):
        run, *voters = (
            api.open_run(one, out=runs, plugin=plugin or [], screen=Screen()) for one in (name, *(also or []))
        )
        _refuse_inputs(out, [*inputs, *([] if class_order is None else [str(class_order)])])
        _refuse_inputs(grid, inputs, "--grid")
        if grid is not None and out is not None and grid.resolve() == out.resolve():
            raise UsageError(f"--grid and --out are both {printable(str(out))}.", "Write them to two files.")
        check_folder(out)
        check_folder(grid)
        pictures = Grid(grid, run.folder, limit)
        asked: dict[str, Any] = {"max_pixels": limit, "device": device, "together_with": voters, "vote": vote or "mean"}
        asked |= {"precision": precision, "screen": Screen(), **wish._asdict()}
        if template is not None and out is not None:
            fill_template(run, inputs, template, (image_col, label_col), out=out, value=fill, asked=asked)
            return
        form = choose_format(out, form, terminal=sys.stdout.isatty())
        _refuse_columns({"--image-col": image_col, "--root": root}, inputs)
        about = run.folder.read_json("run.json")
        lines = None if form is None else lines_of(form, run.folder, given)  # may refuse, so before any note
        _refuse_other(out if form is not None and lines is None else None)
        told = _classes_told(top_k, form, len(about["classes"]))
        answers = _begun(run.predict(inputs, top_k=told, image_col=image_col, root=root, **asked))
        answers = pictures.watched(_spared(answers, {"--out": out, "--grid": grid}))
        hint = _ELSEWHERE if root is None and any(map(is_table, inputs)) else ""
        if form is None:
            counts = _counts(_write_lines(answers, about["task"]))
            pictures.write()
            _say_count(*counts, out, hint)
            return
        labels = about["classes"] if about["task"] == "multilabel" else None
        with destination(out, EXTENSION[form]) as stream:
            if lines:
                rows = lines.write(answers, stream, told)
            else:
                rows = _write_rows(answers, stream, form, top_k and told, labels, wish.columns)
            total, failed = _counts(rows)
        pictures.write()
        _say_count(total, failed, out, hint, fill)


def _classes_told(top_k: int | None, form: Format | None, classes: int) -> int:
    """How many classes are told of each image; where they are fewer than was asked for, that is said."""
    from imgkit.forms import GUESSES

    usual = GUESSES if form == "competition" else 1
    wanted = top_k or usual
    if wanted > classes and (top_k is not None or form == "competition"):
        asked = f"--top-k {top_k}" if top_k is not None else f"--format {form} takes {GUESSES} classes"
        Screen().note(f"{asked}: the model knows {classes:,} classes, and all of them are told")
        wanted = classes
    return wanted if form else max(wanted, _ON_TERMINAL)


def _refuse_columns(given: Mapping[str, str | None], inputs: Sequence[str]) -> None:
    """See that options about tables come with one.

    Raises:
        UsageError: naming the first that does not.
    """
    from imgkit.data.sources import TABLES
    from imgkit.predict import is_table

    flag = next((flag for flag, value in given.items() if value is not None), None)
    if flag is not None and not any(map(is_table, inputs)):
        raise UsageError(
            f"{flag} is not used: it describes a table, and there is none.",
            f"Leave it out, or give a table of images ({' '.join(TABLES)}).",
        )


def _refuse_inputs(out: Path | None, inputs: Sequence[str], flag: str = "--out") -> None:
    """What is read is not written over, and pictures are never written among.

    Raises:
        UsageError: if `out` is one of the inputs, or lies in a folder of them.
    """
    if out is None:
        return
    for given in inputs:
        if same_file(Path(given), out):
            raise UsageError(f"{flag} {printable(str(out))} is one of the inputs.", "Write to another file.")
        if Path(given).is_dir() and out.resolve().is_relative_to(Path(given).resolve()):
            raise UsageError(
                f"{flag} {printable(str(out))} lies inside {printable(given)}, which is never written to.",
                f"Put it beside the pictures:  {flag} {out.name}",
            )


def _refuse_other(out: Path | None) -> None:
    """Answers are written over answers, and not over another file, such as a table of labels.

    Raises:
        UsageError: if `out` is another file.
    """
    from imgkit.prediction_rows import holds_answers

    if out is not None and out.is_file() and not holds_answers(out):
        raise UsageError(
            f"--out {printable(str(out))} is there already, and holds something else than answers of a model.",
            "Write to another file, or remove it first.",
        )


def _spared(answers: Iterable["Prediction"], written: Mapping[str, Path | None]) -> Iterator["Prediction"]:
    """The same answers; a table or stdin may name what is to be written, and that is an error as well.

    Raises:
        UsageError: if one of the pictures is a file that is in the way of what will be written.
    """
    there = {flag: file for flag, file in written.items() if file is not None and file.is_file()}
    for answer in answers:
        for flag, file in there.items():
            refuse_picture(file, [Path(answer.file or answer.path)], flag)
        yield answer


def _write_rows(
    answers: Iterable["Prediction"],
    stream: TextIO,
    form: Format,
    top_k: int | None,
    labels: Sequence[str] | None,
    more: Sequence[str],
) -> Iterator["Prediction"]:
    """The rows of either form; `labels` are those of a multi-label task, `more` columns that were asked for."""
    from imgkit.prediction_rows import write_csv, write_jsonl, write_sets_csv, write_sets_jsonl

    if labels is None and form == "csv":
        return write_csv(answers, stream, top_k=top_k or 1, more=more)
    if labels is None:
        return write_jsonl(answers, stream, more=more)
    if form == "csv":
        return write_sets_csv(answers, stream, labels=labels, top_k=top_k)
    return write_sets_jsonl(answers, stream, labels=labels)


def _begun(answers: Iterator["Prediction"]) -> Iterator["Prediction"]:
    """The same answers, the first one made already: what is wrong with the run comes before --out is written over.

    Raises:
        DataError: if there is no image.
    """
    first = next(answers, None)
    if first is None:
        raise DataError("There is no image in what was given.", "Give images, folders of images, or a CSV of paths.")
    return chain([first], answers)


def choose_format(out: Path | None, form: Format | None, *, terminal: bool) -> Format | None:
    """Csv or jsonl; None: lines for people, on a terminal.

    Raises:
        UsageError: if the file's name does not say.
    """
    if form is not None or (out is None and terminal):
        return form
    if out is None or out.suffix.lower() == ".csv":
        return "csv"
    if out.suffix.lower() in {".jsonl", ".ndjson"}:
        return "jsonl"
    shown = printable(str(out))
    if out.suffix.lower() == ".zip":
        raise UsageError(f"--out {shown} may hold any form.", "Say which:  --format csv")
    raise UsageError(f"--out {shown} does not end in .csv or .jsonl, which say the form.", "Say it:  --format csv")


def friendly_line(answer: "Prediction", task: str = "single") -> str:
    """`photo.jpg   birman 0.91 · ragdoll 0.07`; multi-label: `photo.jpg   cat + dog   (cat 0.91 · dog 0.7)`.

    Left open: `photo.jpg   left open, unsure   (birman 0.51 · ragdoll 0.4)`; a conformal set: `{birman, ragdoll}`.
    """
    if answer.error:
        return f"{printable(answer.path)}   cannot be read: {printable(answer.error)}"
    likely = [pair for rank, pair in enumerate(answer.top) if rank == 0 or pair[1] >= _WORTH_SAYING]
    before = ""
    if task == "multilabel":
        before = f"{' + '.join(map(printable, answer.labels)) or 'no label'}   ("
    elif answer.rejected:
        before = f"left open, {answer.rejected}   ("
    words = " · ".join(f"{printable(label)} {prob:.2f}" for label, prob in likely)
    after = "" if answer.in_set is None else f"   {{{', '.join(map(printable, answer.in_set))}}}"
    return f"{printable(answer.path)}   {before}{words}{')' * bool(before)}{after}"


def _write_lines(answers: Iterable["Prediction"], task: str) -> Iterator["Prediction"]:
    console = make_console(sys.stdout)
    for answer in answers:
        console.print(encodable(friendly_line(answer, task), console.encoding), soft_wrap=True)
        yield answer


def _counts(written: Iterable["Prediction"]) -> tuple[int, int]:
    """Draw the rows through: how many there were, and of how many the file did not open."""
    total = failed = 0
    for answer in written:
        total += 1
        failed += bool(answer.error)
    return total, failed


def _say_count(total: int, failed: int, out: Path | None, hint: str = "", fill: str | None = None) -> None:
    """Say on stderr how many rows there were and how many files did not open.

    Args:
        total: rows.
        failed: those without an answer.
        out: where they went; None: stdout.
        hint: what else to say where no file could be read.
        fill: what such files got in place of an answer, if anything.

    Raises:
        DataError: if no file could be read.
    """
    if failed == total:
        raise DataError(f"None of {total:,} files could be read as an image.", f"Each row says why.{hint}")
    screen = Screen()
    if failed:
        got = "" if fill is None else f" and got {fill!r}"
        screen.warn(f"{failed:,} of {total:,} files could not be read{got}")
    if out is not None:
        screen.line(f"Wrote {out} ({count(total, 'row')})")
