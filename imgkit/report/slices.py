"""How well parts of the scored images are answered, each against the rest: which part is worst, and whether that is so.

A slice is the images with one value of a column, or within a bin of numbers. It is compared with all other scored
images by Fisher's exact test (1922), corrected for the number of all slices by Holm (1979). The values of the columns
lie in `slice_values.csv` of the evaluation, so that every number here can be computed again from the run's folder.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgkit.cells import guarded
from imgkit.data.rows import count
from imgkit.errors import DataError, printable
from imgkit.metrics import wilson
from imgkit.report.compare import holm
from imgkit.report.stored import AnswersOfSets, Stored, table
from imgkit.run import replace_text

VALUES, SLICES = "slice_values.csv", "slices.csv"
MOST = 50
"""Values of a column of text that are slices."""
_LEVEL = 0.05  # of p, corrected
_AS_THEY_ARE = 12  # different numbers up to which each is a slice
_EMPTY = "(empty)"
_EXACT = 2**53  # below it all whole numbers are floats
_BINS = 4  # else, of nearly as many images each
_HEADER = (
    *("by", "slice", "n", "right", "score", "low", "high", "rest_n", "rest_right"),
    *("difference", "difference_low", "difference_high", "p", "p_holm"),
)
Bools = npt.NDArray[np.bool_]
Ends = tuple[float, float]


@dataclass(frozen=True)
class Slice:
    """One slice against the rest.

    Args:
        by: the column, or what imgkit computed.
        name: its value.
        n: images.
        right: of them, those that were answered rightly.
        rest_n: all other scored images.
        rest_right: of them.
        p: of Fisher's exact test, two-sided.
        corrected: the same by Holm, for all slices.
    """

    by: str
    name: str
    n: int
    right: int
    rest_n: int
    rest_right: int
    p: float
    corrected: float

    @property
    def score(self) -> float:
        """The share of right answers."""
        return self.right / self.n

    @property
    def interval(self) -> Ends:
        """Wilson's (1927), 95 %, of the score."""
        return wilson(self.right, self.n)

    @property
    def difference(self) -> float:
        """The score minus that of the rest."""
        return self.score - self.rest_right / self.rest_n

    @property
    def ends(self) -> Ends:
        """95 % of the difference, from Wilson's intervals of both (Newcombe 1998, method 10)."""
        rest = self.rest_right / self.rest_n
        (low, high), (rest_low, rest_high) = self.interval, wilson(self.rest_right, self.rest_n)
        below, above = math.hypot(self.score - low, rest_high - rest), math.hypot(high - self.score, rest - rest_low)
        return self.difference - below, self.difference + above

    @property
    def told_apart(self) -> bool:
        """Whether the correction leaves a difference."""
        return self.corrected < _LEVEL

    @property
    def title(self) -> str:
        """`camera = B`."""
        return f"{self.by} = {self.name}"


@dataclass(frozen=True)
class Slices:
    """All slices of an evaluation, in the order of columns and values.

    Args:
        rows: at least two.
        what: what a right answer is: "right", or "exact" where an image has several labels.
        split: what was scored.
        grouped: whether the images have groups.
    """

    rows: Sequence[Slice]
    what: str
    split: str
    grouped: bool

    @property
    def sentence(self) -> str:
        """The worst slice with its interval; or that none is worse than the rest, as far as can be told."""
        below = [one for one in self.rows if one.told_apart and one.difference < 0]
        tests = count(len(self.rows), "slice")
        worst = min(below or self.rows, key=lambda one: (one.score, -one.n))
        low, high = worst.interval
        numbers = (
            f"{100 * worst.score:.1f} % {self.what} of {count(worst.n, 'image')} (95 % interval {100 * low:.1f} to "
            f"{100 * high:.1f})"
        )
        if below:
            return (
                f"The worst slice that can be told from the rest is {worst.title}: {numbers}, "
                f"{-100 * worst.difference:.1f} points below the rest (p = {worst.corrected:.2g}, corrected for "
                f"{tests})."
            )
        above = sum(one.told_apart for one in self.rows)
        other = f" {count(above, 'is', 'are')} better." if above else ""
        return (
            f"No slice can be told to be worse than the rest ({tests}, corrected for their number).{other} The lowest "
            f"score is that of {worst.title}: {numbers}, which chance may give."
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What makes the numbers worth less than they look."""
        alike = "Images of one group are alike; intervals and p take them for independent, and are too sure."
        return (alike,) if self.grouped else ()


def slices_of(right: Bools, columns: Mapping[str, Sequence[str]]) -> list[Slice]:
    """The slices of images, column by column, values in the order of numbers or of text.

    Args:
        right: whether each image was answered rightly, (N,).
        columns: of each column the slice of each image, N of them.

    Raises:
        DataError: if a column has one value for all images.
    """
    from scipy.stats import fisher_exact

    found = []
    total, hits = len(right), int(right.sum())
    for by, names in columns.items():
        array, distinct = np.array(names, dtype=object), sorted(set(names), key=_place)
        if len(distinct) < 2:
            raise DataError(
                f"{printable(by)} is {printable(distinct[0])!r} for all {total:,} scored images: there is no other "
                "slice to compare with.",
                "Name another column.",
            )
        for name in distinct:
            held = array == name
            n, own = int(held.sum()), int(right[held].sum())
            p = float(fisher_exact([[own, n - own], [hits - own, total - n - hits + own]]).pvalue)
            found.append(Slice(by, name, n, own, total - n, hits - own, min(1.0, p), 1.0))
    corrected = holm([one.p for one in found])
    return [
        Slice(one.by, one.name, one.n, one.right, one.rest_n, one.rest_right, one.p, p)
        for one, p in zip(found, corrected, strict=True)
    ]


def names_of(by: str, cells: Sequence[str]) -> list[str]:
    """The slice of each cell of a column: its text, or the bin of its number where there are many.

    Bins are quarters of the images by number; what is equal is in one bin, which is named by its least and greatest.
    Cells without a number, empty or NaN, are a slice of their own.

    Raises:
        DataError: if the column has too many different texts.
    """
    texts = [cell.strip() or _EMPTY for cell in cells]
    numbers = _numbers(texts)
    if numbers is not None:
        texts = [_EMPTY if number is None else text for number, text in zip(numbers, texts, strict=True)]
    distinct = set(texts) - {_EMPTY}
    if len(distinct) <= _AS_THEY_ARE or (numbers is None and len(distinct) <= MOST):
        return texts
    if numbers is None:
        raise DataError(
            f"Column {printable(by)!r} has {len(distinct):,} different values on {len(cells):,} scored images, and "
            f"slices are of {MOST} at most.",
            "Name a column of fewer, or of numbers: these are taken in four bins.",
        )
    names = iter(bins([number for number in numbers if number is not None]))
    return [_EMPTY if number is None else next(names) for number in numbers]


def bins(numbers: Sequence[float]) -> list[str]:
    """`LOW to HIGH` for each of N numbers: the least and the greatest of its bin, exactly."""
    values = np.array(numbers, dtype=np.float64)
    edges = np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS))
    place = np.searchsorted(edges, values, side="left").tolist()  # what equals an edge is below it
    held: dict[int, list[float]] = {code: [] for code in place}
    for code, number in zip(place, numbers, strict=True):
        held[code].append(number)
    name = {code: f"{exactly(min(own))} to {exactly(max(own))}" for code, own in held.items()}
    return [name[code] for code in place]


def exactly(number: float) -> str:
    """A number in the fewest digits that tell it from any other, a whole one without a point."""
    if isinstance(number, int) or (number.is_integer() and abs(number) < _EXACT):
        return str(int(number))
    return repr(float(number))


def write_slices(stored: Stored, columns: Mapping[str, Sequence[str]], *, grouped: bool) -> Slices:
    """Compute the slices of an evaluation, and write them and what they are of into its folder.

    Raises:
        DataError: see `slices_of`.
        DiskError: if a file cannot be written.
    """
    found = _slices(stored, columns, grouped=grouped)
    answers = stored.answers
    rows = [["path", "right", "grouped", *map(guarded, columns)]]
    for row, path in enumerate(answers.paths):
        cells = [guarded(names[row]) for names in columns.values()]
        rows.append([guarded(path), str(int(answers.right[row])), str(int(grouped)), *cells])
    replace_text(stored.folder / VALUES, _csv(rows))
    numbers = [
        [
            *(guarded(one.by), guarded(one.name), one.n, one.right, one.score, *one.interval, one.rest_n),
            *(one.rest_right, one.difference, *one.ends, one.p, one.corrected),
        ]
        for one in found.rows
    ]
    replace_text(stored.folder / SLICES, _csv([list(_HEADER), *([str(cell) for cell in row] for row in numbers)]))
    return found


def read_slices(stored: Stored) -> Slices | None:
    """The slices that were asked for of an evaluation, computed again; None where none were.

    Raises:
        OSError, ValueError, KeyError: if slice_values.csv cannot be read, or is of other images.
        DataError: if it has a column of one value.
    """
    from imgkit.cells import bare

    file = stored.folder / VALUES
    if not file.is_file():
        return None
    header, *rows = ([bare(cell) for cell in row] for row in table(file))
    if header[:3] != ["path", "right", "grouped"] or [row[0] for row in rows] != list(stored.answers.paths):
        raise ValueError(f"{VALUES} is of other images")
    columns = {name: [row[at] for row in rows] for at, name in enumerate(header) if at > 2}
    return _slices(stored, columns, grouped=any(row[2] == "1" for row in rows))


def _slices(stored: Stored, columns: Mapping[str, Sequence[str]], *, grouped: bool) -> Slices:
    answers = stored.answers
    what = "exactly right" if isinstance(answers, AnswersOfSets) else "right"
    return Slices(slices_of(answers.right, columns), what, stored.split, grouped)


def _numbers(texts: Sequence[str]) -> list[float | None] | None:
    """The texts as numbers, whole ones as they are; None where one is none, and of those that are empty or NaN."""
    found: list[float | None] = []
    for text in texts:
        try:
            value = math.nan if text == _EMPTY else float(text)
        except ValueError:
            return None
        if math.isinf(value):
            return None
        found.append(None if math.isnan(value) else _whole(text, value))
    return None if found.count(None) == len(found) else found


def _whole(text: str, value: float) -> float:
    """The number of a text as an int where it is one: a float holds 53 bits of it."""
    try:
        return int(text)
    except ValueError:
        return value


def _place(name: str) -> tuple[bool, float, str]:
    """Numbers, and bins by their first one, before texts."""
    try:
        return False, float(name.split(" to ", maxsplit=1)[0]), name
    except ValueError:
        return True, 0.0, name


def _csv(rows: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()
