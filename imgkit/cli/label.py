"""`imgkit predict`."""

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from imgkit.cli.fill import fill_template, refuse_idle
from imgkit.cli.grid import Grid
from imgkit.cli.options import MAX_PIXELS, PLUGIN, pixels
from imgkit.data.rows import same_file
from imgkit.errors import DataError, UsageError, disk_told, printable
from imgkit.files import whole_file
from imgkit.screen import Screen
from imgkit.terminal import encodable, make_console

if TYPE_CHECKING:
    from imgkit.predict import Prediction

Format = Literal["csv", "jsonl"]
_ON_TERMINAL = 3  # classes a line for people tells at least
_ELSEWHERE = "\nRelative paths of a table start at its folder; at another one:  --root FOLDER"
_WORTH_SAYING = 0.005  # a runner-up below this probability is left out of such a line


def predict(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A run under --runs, a path, or: latest")],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUTS", help="Images, folders, a CSV of images, or - for paths on stdin."),
    ],
    out: Annotated[Path | None, typer.Option(help="Write to this .csv or .jsonl file (else stdout).")] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="So many classes, the most likely ones, for each image.")
    ] = None,
    image_col: Annotated[str | None, typer.Option(help="CSV column with the image paths.")] = None,
    root: Annotated[str | None, typer.Option(help="Where relative paths of a CSV start.")] = None,
    max_pixels: Annotated[str | None, MAX_PIXELS] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    form: Annotated[Format | None, typer.Option("--format", help="The form, whatever the file is called.")] = None,
    also: Annotated[
        list[str] | None, typer.Option("--with", metavar="NAME", help="A further run that votes. Repeatable.")
    ] = None,
    template: Annotated[Path | None, typer.Option(help="A CSV to fill: one column names images.")] = None,
    label_col: Annotated[str | None, typer.Option(help="The column of --template to fill.")] = None,
    fill: Annotated[str | None, typer.Option(metavar="VALUE", help="For rows of --template without an image.")] = None,
    grid: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="A sheet of the first 120 pictures and answers.")
    ] = None,
    plugin: Annotated[list[Path] | None, PLUGIN] = None,
    runs: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("runs"),
) -> None:
    """Label new images."""
    from imgkit import api
    from imgkit.data.sources import TABLES
    from imgkit.predict import is_table

    limit = pixels(max_pixels)
    options = {"--template": template, "--label-col": label_col, "--fill": fill, "--out": out, "--format": form}
    refuse_idle({**options, "--root": root, "--top-k": top_k, "--grid": grid})
    run, *voters = (api.open_run(one, out=runs, plugin=plugin or [], screen=Screen()) for one in (name, *(also or [])))
    _refuse_inputs(out, inputs)
    _refuse_inputs(grid, inputs, "--grid")
    pictures = Grid(grid, run.folder, limit)
    if template is not None and out is not None:
        columns = (image_col, label_col)
        fill_template(run, voters, inputs, template, columns, out=out, value=fill, max_pixels=limit, device=device)
        return
    form = choose_format(out, form, terminal=sys.stdout.isatty())
    about = run.folder.read_json("run.json")
    flag = "--image-col" if image_col is not None else "--root" if root is not None else None
    if flag is not None and not any(is_table(given) for given in inputs):
        raise UsageError(
            f"{flag} is not used: it describes a table, and there is none.",
            f"Leave it out, or give a table of images ({' '.join(TABLES)}).",
        )
    classes = about["classes"]
    if top_k is not None and top_k > len(classes):
        Screen().note(f"--top-k {top_k}: the model knows {len(classes):,} classes, and all of them are told")
        top_k = len(classes)
    wanted = (top_k or 1) if form else max(top_k or 1, _ON_TERMINAL)
    answers = _begun(
        run.predict(
            inputs, top_k=wanted, image_col=image_col, root=root, max_pixels=limit, device=device, together_with=voters
        )
    )
    answers = pictures.watched(answers)
    hint = _ELSEWHERE if root is None and any(map(is_table, inputs)) else ""
    if form is None:
        counts = _counts(_write_lines(answers, about["task"]))
        pictures.write()
        _say_count(*counts, out, hint)
        return
    labels = classes if about["task"] == "multilabel" else None
    with _destination(out) as stream:
        total, failed = _counts(_write_rows(answers, stream, form, top_k, labels))
    pictures.write()
    _say_count(total, failed, out, hint)


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


def _write_rows(
    answers: Iterable["Prediction"], stream: TextIO, form: Format, top_k: int | None, labels: Sequence[str] | None
) -> Iterator["Prediction"]:
    """The rows of either form; `labels` are those of a multi-label task."""
    from imgkit.prediction_rows import write_csv, write_jsonl, write_sets_csv, write_sets_jsonl

    if labels is None:
        return write_csv(answers, stream, top_k=top_k or 1) if form == "csv" else write_jsonl(answers, stream)
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
    raise UsageError(f"--out {printable(str(out))} ends neither in .csv nor in .jsonl.", "Add  --format csv")


def friendly_line(answer: "Prediction", task: str = "single") -> str:
    """`photo.jpg   birman 0.91 · ragdoll 0.07`; multi-label: `photo.jpg   cat + dog   (cat 0.91 · dog 0.7)`."""
    if answer.error:
        return f"{printable(answer.path)}   cannot be read: {printable(answer.error)}"
    likely = [pair for rank, pair in enumerate(answer.top) if rank == 0 or pair[1] >= _WORTH_SAYING]
    before = ""
    if task == "multilabel":
        before = f"{' + '.join(map(printable, answer.labels)) or 'no label'}   ("
    words = " · ".join(f"{printable(label)} {prob:.2f}" for label, prob in likely)
    return f"{printable(answer.path)}   {before}{words}{')' * bool(before)}"


def _write_lines(answers: Iterable["Prediction"], task: str) -> Iterator["Prediction"]:
    console = make_console(sys.stdout)
    for answer in answers:
        console.print(encodable(friendly_line(answer, task), console.encoding), soft_wrap=True)
        yield answer


@contextmanager
def _destination(out: Path | None) -> Iterator[TextIO]:
    """The file, whole at the end, or stdout, as UTF-8; a name that is not UTF-8 keeps its bytes."""
    if out is not None:
        with disk_told(out), whole_file(out, newline="") as stream:
            yield stream
        return
    wrapper = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", errors="surrogateescape", newline="")
    try:
        yield wrapper
        wrapper.flush()
    finally:
        wrapper.detach()


def _counts(written: Iterable["Prediction"]) -> tuple[int, int]:
    """Draw the rows through: how many there were, and of how many the file did not open."""
    total = failed = 0
    for answer in written:
        total += 1
        failed += bool(answer.error)
    return total, failed


def _say_count(total: int, failed: int, out: Path | None, hint: str = "") -> None:
    """Say on stderr how many rows there were and how many files did not open.

    Args:
        total: rows.
        failed: those without an answer.
        out: where they went; None: stdout.
        hint: what else to say where no file could be read.

    Raises:
        DataError: if no file could be read.
    """
    if failed == total:
        raise DataError(f"None of {total:,} files could be read as an image.", f"Each row says why.{hint}")
    screen = Screen()
    if failed:
        screen.warn(f"{failed:,} of {total:,} files could not be read")
    if out is not None:
        screen.line(f"Wrote {out} ({total:,} rows)")
