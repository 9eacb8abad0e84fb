"""Labels for pictures: one row for each input, in order, with memory that does not grow with their number."""

import csv
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from imgkit import machine
from imgkit.cells import bare
from imgkit.data.csv_table import GUESSES, other_table
from imgkit.data.csv_text import delimiter_of, written_by_imgkit
from imgkit.data.index import SPLITS
from imgkit.data.rows import EXTENSIONS, absolute, listed
from imgkit.data.sources import TABLES, holds_pictures, pictures_in
from imgkit.data.table_paths import Paths, inside_hint
from imgkit.errors import BadImage, DataError, memory_told, printable, suggestion
from imgkit.threads import in_order

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from imgkit.inference import Network, Precision
    from imgkit.models.folder import LoadedModel
    from imgkit.unlike import Likeness

_THREADS = 8  # that decode, at most: each may hold a picture of max_pixels
_JOB = 16  # files of a thread's own pass
_OF_ITS_DATA = ("data/", *(f"evaluations/{split}@" for split in SPLITS))  # tables in a run's folder


class Input(NamedTuple):
    """A file to label.

    Args:
        given: what it is called by who asks: of a table's row, its cell, so that answers join back to the table.
        file: where it is; "" where nothing was given.
    """

    given: str
    file: str


@dataclass(frozen=True)
class Prediction:
    """What a model says about one file.

    Args:
        path: the file, as given; of a table's row, its cell.
        label: the most likely class; "" where the file cannot be read or the answer is left open.
        prob: probability of the most likely class, in [0, 1], calibrated; by a majority its share of the votes, in
            `top` and `probs` too; 0.0 where the file cannot be read.
        top: the most likely classes with their probabilities, best first.
        error: why the file cannot be read; "" where it can.
        labels: the answer: the most likely class, none where it is left open; in a multi-label task the labels whose
            probability is at least their threshold, the most likely one first, which may be none.
        probs: the probability of every class, in the order of the model's classes.
        file: where it was read, where that is known; `path` may be a table's cell.
        rejected: why the answer is left open, "unsure" or "unlike"; "" where it is not.
        unlike: share of held-out images that are nearer to the training images, in [0, 1); None: not asked for.
        in_set: the classes of its conformal set, the most likely one first; None: not asked for.
    """

    path: str
    label: str
    prob: float
    top: tuple[tuple[str, float], ...]
    error: str = ""
    labels: tuple[str, ...] = ()
    probs: tuple[float, ...] = ()
    file: str = field(default="", compare=False)
    rejected: Literal["", "unsure", "unlike"] = ""
    unlike: float | None = None
    in_set: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Trained:
    """How a run read the table that it was trained on.

    Args:
        path: its data, absolute and without links; None: not known.
        root: where its relative paths start.
        image_col: the image column, where it was named.
        folder: of the run, absolute and without links; None: not known.
    """

    path: Path | None
    root: Path
    image_col: str | None
    folder: Path | None = None

    def owns(self, table: Path) -> bool:
        """Whether the relative paths of `table` start at `root`: the training's own, and the run's tables of its data.

        The latter are data/index.csv, and the predictions.csv of an evaluation of one of its splits.
        """
        place = table.resolve()
        if place == self.path:
            return True
        if self.folder is None or not place.is_relative_to(self.folder):
            return False
        return place.relative_to(self.folder).as_posix().startswith(_OF_ITS_DATA)


def predict_files(
    loaded: "LoadedModel",
    paths: Iterable[str],
    *,
    top_k: int = 1,
    batch_size: int = 32,
    device: "torch.device | str" = "cpu",
    max_pixels: int = 64_000_000,
    precision: "Precision" = "auto",
    told: Callable[[str], object] | None = None,
    likeness: "Likeness | None" = None,
) -> Iterator[Prediction]:
    """Label files as they come: one prediction for each path, in the order of `paths`.

    Args:
        loaded: a model folder's content; its network is moved to `device` and put into evaluation mode.
        paths: files, read by up to 8 threads; on a CPU the iterable is read a batch ahead, or two of 16 a thread where
            the answers need not be the bits of `evaluate`; on a GPU two batches and two images a thread.
        top_k: classes to tell for each file; more than there are means all.
        batch_size: images in a forward pass.
        device: where the network runs.
        max_pixels: larger images are not opened.
        precision: in which the network computes; "auto": see `inference.Network`.
        told: told once which format was found.
        likeness: says how unlike each image is, by features of exact pixels, so `precision` has to be "float32".

    Yields:
        A prediction for each path; a file that cannot be read has `error` instead of a label.

    Raises:
        UsageError: if there is no such precision.
        DeviceError: if memory runs out.
    """
    import torch

    from imgkit.device import no_room
    from imgkit.freed_memory import keep_freed_memory
    from imgkit.inference import Network

    assert likeness is None or precision == "float32", "a Watch looks at one batch after the other, of exact pixels"
    keep_freed_memory()
    device = torch.device(device)
    with memory_told(no_room(device, batch_size)):  # a caller's own errors do not come through a yield
        network = Network(loaded, device, precision, told)
        yield from predictions(network, iter(paths), top_k, batch_size, max_pixels, likeness)


def predictions(
    network: "Network", paths: Iterator[str], top_k: int, batch_size: int, max_pixels: int, likeness: "Likeness | None"
) -> Iterator[Prediction]:
    """What `predict_files` gives, by a network that has been used already or will be again."""
    import torch

    from imgkit.data.decode import load_image
    from imgkit.world import ranks_here

    loaded = network.loaded
    preprocessing, watch = loaded.preprocessing, None
    if likeness is not None:
        from imgkit.likeness import Watch

        watch = Watch(loaded.model, likeness)  # of one batch at a time: float32 never settles, see below

    def load(path: str, *, quick: bool = False) -> "torch.Tensor | str":
        """The image, uint8 (3, H, W), or why there is none."""
        if not path:
            return "no path is given"
        try:
            image = load_image(Path(path), max_pixels=max_pixels, min_side=preprocessing.min_side)
        except BadImage as error:
            return error.reason
        return preprocessing.quick(image) if quick or network.quick else preprocessing(image)

    def answered(chunk: "Sequence[tuple[str, torch.Tensor | str]]") -> list[Prediction]:
        good = [(path, image) for path, image in chunk if not isinstance(image, str)]
        answers = iter(network([image for _, image in good], lambda: [load(path, quick=True) for path, _ in good]))
        shares = iter(watch.shares() if watch and good else ())
        found = []
        for path, image in chunk:
            if isinstance(image, str):
                found.append(Prediction(path, "", 0.0, (), image))
                continue
            given = answer_of(path, next(answers), loaded.classes, loaded.calibration.thresholds, top_k)
            found.append(given if watch is None else replace(given, unlike=next(shares)))
        return found

    threads = max(1, min(_THREADS, machine.cores() // ranks_here()))
    if network.device.type != "cpu":
        decoded = in_order(paths, lambda path: (path, load(path)), threads, 2 * threads + batch_size)
        with closing(decoded):
            while chunk := list(islice(decoded, batch_size)):
                yield from answered(chunk)
        return
    # Threads that decode beside a pass would be in its way. Once no bit has to be that of `evaluate`, each thread makes
    # passes of its own, which wait for no other.
    with ThreadPoolExecutor(threads) as pool:
        while not network.settled and (names := list(islice(paths, batch_size))):
            yield from answered(list(zip(names, pool.map(load, names), strict=True)))
    allowed = torch.get_num_threads()
    threads = min(_THREADS, allowed)
    jobs = iter(lambda: list(islice(paths, min(_JOB, batch_size))), [])
    done = in_order(
        jobs,
        lambda names: answered([(path, load(path)) for path in names]),
        threads,
        2 * threads,
        lambda: torch.set_num_threads(allowed // threads),
    )
    with closing(done):
        yield from chain.from_iterable(done)


def answer_of(
    path: str,
    probs: "npt.NDArray[np.float64]",
    classes: Sequence[str],
    thresholds: Mapping[str, float] | None,
    top_k: int,
) -> Prediction:
    """What probs (K,) of the classes say; `thresholds` are those of a multi-label task."""
    values = probs.tolist()
    ranked = [(classes[code], values[code]) for code in (-probs).argsort(kind="stable").tolist()]
    answered = ranked[:1] if thresholds is None else [pair for pair in ranked if pair[1] >= thresholds[pair[0]]]
    labels = tuple(label for label, _ in answered)
    return Prediction(path, *ranked[0], tuple(ranked[:top_k]), labels=labels, probs=tuple(values))


def expand_inputs(
    inputs: Iterable[str | Path],
    *,
    image_col: str | None = None,
    root: str | Path | None = None,
    trained: Trained | None = None,
) -> Iterator[Input]:
    """The files that `inputs` mean, lazily and in order.

    A folder gives its images, recursively and sorted, hidden entries left out and links to folders followed once, as in
    training, and shards theirs; a .csv, .tsv, .txt or .parquet file the paths of its image column, "" where the cell is
    empty (a list of lines `path label` is a table, too); "-" the paths on stdin, one a line. Anything else is a file,
    missing or not.

    Args:
        inputs: files, folders, tables, "-".
        image_col: the image column of the tables; None: that of the training where they have it, else the usual names
            are looked for.
        root: where relative paths in tables start; None: that of the training for its own tables, else their folder.
        trained: how the model's run read its table.

    Raises:
        DataError: if a table has no image column or a path that leads out of where its paths start, a folder cannot be
            listed, or there is no folder `root`.
    """
    if root is not None and not Path(root).is_dir():
        raise DataError(
            f"The root of the image paths does not exist: {printable(os.fspath(root))}", "Give an existing --root."
        )
    for given in inputs:
        text = os.fspath(given)
        if text == "-":
            lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer if line.strip())
            yield from (Input(line, line) for line in lines)
        elif holds_pictures(text):
            yield from (Input(file, file) for file in pictures_in(text))
        elif is_table(text):
            start = Path(root) if root is not None else Path(text).parent
            if root is None and trained is not None and trained.owns(Path(text)):
                start = trained.root
            cells = _cells_of_table(Path(text), image_col, None if trained is None else trained.image_col)
            yield from _below(start, cells, printable(text))
        else:
            yield Input(text, text)


def _below(start: Path, cells: Iterable[str], shown: str) -> Iterator[Input]:
    """The files that cells of a table mean; as in training, none of them is outside of `start`."""
    paths = Paths(absolute(start), shown)
    for cell in cells:
        inside = paths.inside(cell) if cell else ""
        if inside is None:
            raise DataError(
                f"{shown} leads out of {printable(paths.root)}: {printable(cell)}",
                inside_hint(cell),
            )
        yield Input(cell, os.fspath(start / inside) if cell else "")


def is_table(text: str) -> bool:
    """Whether an input that is no folder is read as a table, by its name."""
    return text.lower().endswith(TABLES)


def _cells_of_table(file: Path, asked: str | None, recorded: str | None) -> Iterator[str]:
    """The cells of the image column: the one `asked` for, else the `recorded` one, else a usual name."""
    shown = printable(str(file))
    found = other_table(file, shown, {asked or recorded})
    if found is not None:
        header, lines = found
        column = _image_column(header, shown, asked, recorded)
        yield from (cells[column] for _, cells in lines)
        return
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            delimiter = delimiter_of(stream.readline())
            stream.seek(0)
            rows = csv.reader(stream, delimiter=delimiter)
            header = [name.strip() for name in next(rows, [])]
            column = _image_column(header, shown, asked, recorded)
            own = written_by_imgkit(header)
            for row in filter(None, rows):  # a blank line is no row
                cell = row[column] if len(row) > column else ""
                yield bare(cell) if own else cell
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{shown} cannot be read: {reason}.", "Give a table in CSV, or images and folders.") from error


def _image_column(header: list[str], shown: str, asked: str | None, recorded: str | None) -> int:
    if asked is not None and asked not in header:
        raise DataError(
            f"{shown} has no column {asked!r}{suggestion(asked, header)}.", f"Columns: {listed(header) or 'none'}."
        )
    named = asked or recorded
    if named in header:
        return header.index(named)
    lower, known = [name.lower() for name in header], GUESSES["image"]
    column = next((lower.index(name) for name in known if name in lower), None)
    if column is None:
        hint = f"Name it:  --image-col COLUMN   or call it one of: {', '.join(known)}."
        if any(name.endswith(EXTENSIONS) for name in lower):
            hint = (
                "The first row is an image: put a header above it, such as path\n"
                f"Paths alone, one a line, also come in on stdin:  imgkit predict NAME - < {shlex.quote(shown)}"
            )
        raise DataError(f"{shown} has no column of images. Columns: {listed(header) or 'none'}.", hint)
    return column
