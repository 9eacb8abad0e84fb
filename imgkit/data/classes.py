"""The class map: sorted names of train, and how the other splits agree with it."""

import shlex
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgkit.data.columns import Rows
from imgkit.data.folders import FOLDER_SPLITS
from imgkit.data.index import SPLITS, Index
from imgkit.data.rows import Source, absolute, count, listed
from imgkit.errors import DataError, printable, typed
from imgkit.recipe.schema import DataSettings

_MISSING = {"nan", "null", "n/a", "<na>"}  # what programs write for an empty cell; "none" and "na" are often meant
_FEW = 30  # images of a validation set: below, top-1 is open by more than 18 points


def class_map(rows: Rows, source: Source, settings: DataSettings) -> tuple[str, ...]:
    """Class names in the order of their codes.

    Raises:
        DataError: if there is no train, no label in it, one class only in a single-label task, a class outside train
            only, a name that cannot be a line of text, or another number of classes than `settings.classes`.
    """
    _check_names(rows, source)
    train = rows.splits <= SPLITS.index("train")  # or not said
    if not train.any():
        raise DataError(f"{source.shown} has no usable image in train.", "Nothing can be learned without train.")
    names = tuple(sorted(rows.held(train)))
    if not names:
        raise DataError(f"{source.shown} has no image with a label in train.", "Nothing can be learned without labels.")
    for split in ("val", "test"):
        unknown = sorted(rows.held(rows.splits == SPLITS.index(split)) - set(names))
        if unknown:
            raise _only_outside_train(split, unknown, names, source)
    if len(names) == 1 and source.task == "single":
        raise _one_class(names[0], source)
    if settings.classes is not None and settings.classes != len(names):
        raise _wrong_number(settings.classes, names, source)
    return names


def check_known(rows: Rows, shown: str, classes: tuple[str, ...]) -> list[str]:
    """Notes on data that are scored with the class map of a trained run.

    Raises:
        DataError: if a label is not in `classes`; the message lists both sides.
    """
    found = rows.held()
    unknown, absent = sorted(found - set(classes)), [name for name in classes if name not in found]
    if unknown:
        raise DataError(
            f"{shown} has {count(len(unknown), 'class', 'classes')} that the model does not know: {listed(unknown)}"
            + _same_but(unknown, classes),
            f"+ only in the data:   {listed(unknown, 20)}\n- only in the model:  {listed(absent, 20) or 'none'}\n"
            "Rename or leave out these classes; labels are matched by name.\n"
            "Or train a new head for them, on the weights of this model:  "
            f"imgkit finetune NETWORK --weights RUN/model/model.safetensors --data {shlex.quote(shown)}",
        )
    if absent:
        return [f"{count(len(absent), 'class', 'classes')} of the model without an image here: {listed(absent)}."]
    return []


def missing_notes(index: Index) -> list[str]:
    """Classes without an image in val or test, whoever made the splits."""
    notes = []
    for split in ("val", "test"):
        counts = index.counts(split)
        absent = _names(index, counts == 0)
        if len(index.rows(split)) and absent:
            what = count(len(absent), "class of train has", "classes of train have")
            notes.append(f"{what} no image in {split}: {listed(absent)}.")
    return notes


def single_warnings(index: Index) -> list[str]:
    """Classes with one image to learn from, whoever made the splits."""
    single = _names(index, index.counts("train") == 1)
    what = count(len(single), "class has", "classes have")
    advice = f"Add images, or leave {'it' if len(single) == 1 else 'them'} out."
    return [f"{what} one image in train: {listed(single)}. {advice}"] if single else []


def name_warnings(index: Index) -> list[str]:
    """Names that are likely a mistake: two spellings of one class, and what programs write where a label is missing."""
    twins, warnings = twin_names(index.classes), []
    if twins:
        more = f" The same goes for {count(len(twins) - 1, 'other group')}." if len(twins) > 1 else ""
        first = listed(f"'{name}'" for name in twins[0])
        warnings.append(
            f"Classes that differ only in capitals, spaces, accents or the form of a number: {first}. "
            f"Each is learned as a class of its own; write them alike if they are one.{more}"
        )
    missing = [name for name in index.classes if means_none(name)]
    if missing:
        what = count(len(missing), "class is", "classes are")
        warnings.append(f"{what} called {listed(missing)}. If that stands for a missing label, delete its images.")
    return warnings


def means_none(name: str) -> bool:
    """Whether programs write this name where a label is missing."""
    return name.casefold() in _MISSING


def twin_names(names: Iterable[str]) -> list[list[str]]:
    """Groups of two names or more that a person takes for one."""
    alike: dict[str | float, list[str]] = {}
    for name in names:
        alike.setdefault(_meaning(name), []).append(name)
    return [same for same in alike.values() if len(same) > 1]


def _meaning(name: str) -> str | float:
    """The same for names that a person takes for one: '1' and '01', 'Cat' and 'cat ', but not '1' and '-1'."""
    try:
        number = float(name)
    except ValueError:
        return _plain(name, but="")
    return number if np.isfinite(number) else name


def label_notes(index: Index) -> list[str]:
    """How many labels the images of a multi-label task have, and how many have none."""
    if index.task == "single":
        return []
    per_image = np.diff(index.offsets)
    notes = [f"{per_image.mean():.2f} labels an image, at most {per_image.max()}."]
    none = int((per_image == 0).sum())
    if none:
        notes.append(f"{count(none, 'image has', 'images have')} no label, of {len(index):,}.")
    return notes


def constant_warnings(index: Index) -> list[str]:
    """Labels of a multi-label task that every image of train has, so that nothing tells when they do not apply."""
    always = _names(index, index.counts("train") == len(index.rows("train")))
    if index.task == "single" or not always:
        return []
    return [f"{count(len(always), 'label is', 'labels are')} on every image of train: {listed(always)}."]


def validation_warnings(index: Index, *, share: float | None) -> list[str]:
    """What a missing or tiny validation set means; `share`: what imgkit took of train; None: the data brought it."""
    counts = index.counts("val")
    images, empty = len(index.rows("val")), int((counts == 0).sum())
    if images == 0:
        return ["There is no validation split, so nothing chooses the best checkpoint."]
    if empty == 0 and images >= _FEW:
        return []
    larger = (
        "give the training images alone (--train FOLDER, or a table of them)"
        if share is None
        else f"--val {min(2 * share, 0.5):g}"
    )
    points = 98 / np.sqrt(images)  # half of a 95 % interval at 50 %, normal approximation
    score = "Top-1" if index.task == "single" else "Subset accuracy"
    none = f", and {count(empty, 'class has', 'classes have')} none" if empty else ""
    return [
        f"The validation set has {count(images, 'image')} for {count(len(counts), 'class', 'classes')}{none}. "
        f"{score} would be known only to about ±{points:.0f} points. A larger one, taken from train:  {larger}"
    ]


def _check_names(rows: Rows, source: Source) -> None:
    for name in sorted(rows.held()):
        if len(name.splitlines()) != 1 or any(0xD800 <= ord(char) <= 0xDFFF for char in name):
            raise DataError(
                f"{source.shown}: the class name {printable(name)!r} holds a line break or bytes that are not UTF-8.",
                "Rename it.",
            )


def _names(index: Index, chosen: npt.NDArray[np.bool_]) -> list[str]:
    return [name for name, is_chosen in zip(index.classes, chosen, strict=True) if is_chosen]


def _only_outside_train(split: str, unknown: Sequence[str], names: Collection[str], source: Source) -> DataError:
    what, it = ("a class", "it") if len(unknown) == 1 else (f"{len(unknown):,} classes", "them")
    rename, train = f"Rename {it} in {source.shown}", "FOLDER"
    is_folder = absolute(source.shown) == source.root  # and no table, nor a pair of --train and --val
    below = _folders(source.root) if is_folder else []
    folders = {FOLDER_SPLITS.get(name.lower()): f"{source.shown}/{name}" for name in below}
    if {"train", split} <= folders.keys():
        rename = f"Rename {it} in {printable(folders[split])}/"
        train = typed(folders["train"])
    return DataError(
        f"{split} has {what} that train does not have: {listed(unknown)}{_same_but(unknown, names)}",
        f"{rename}, or leave out the rows of {split}, and imgkit takes a share of train."
        if absolute(source.shown).is_file()
        else f"{rename}, or give the training images alone, and imgkit splits them:  --train {train}",
    )


def _same_but(unknown: Sequence[str], names: Collection[str]) -> str:
    """`   (same as 'Persian' but for capitals?)` where a known name differs only so."""
    plain = {_plain(name): name for name in names}
    near = next((plain[_plain(name)] for name in unknown if _plain(name) in plain), None)
    return f"   (same as {printable(near)!r} but for capitals, spaces or accents?)" if near is not None else ""


def _plain(name: str, but: str = "_-") -> str:
    """Without capitals, accents, spaces and the characters of `but`."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(char for char in letters if not unicodedata.combining(char) and char not in f" {but}")


def _one_class(name: str, source: Source) -> DataError:
    hint = "A classifier needs at least two classes."
    folder = source.root / name
    deeper = sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    if len(deeper) > 1:
        inside = shlex.quote(f"{source.shown}/{printable(name)}")
        hint = f"{hint}\nOne level too high?  --data {inside}   holds {listed(deeper)}."
    return DataError(f"{source.shown} has one class only: {printable(name)}.", hint)


def _wrong_number(asked: int, names: tuple[str, ...], source: Source) -> DataError:
    first = ", ".join(map(printable, names[:3]))
    lines = [
        f"First: {first} ... last: {printable(names[-1])}" if len(names) > 3 else f"They are: {first}",
        "Leave out --classes (it is read from the data) or point --data at the data with "
        f"{count(asked, 'class', 'classes')}.",
    ]
    if source.root.is_dir() and all((source.root / name).is_dir() for name in names):
        above = source.root.parent
        folders = len(_folders(above))
        parent = printable(above.name) or "/"
        lines.append(
            f"One level too deep or too high?  {source.shown} is {len(names):,} folders of images; "
            f"its parent {parent}/ has {count(folders, 'folder')}."
        )
    return DataError(f"--classes {asked}, but {source.shown} has {len(names):,} classes.", "\n".join(lines))


def _folders(folder: Path) -> list[str]:
    try:
        return [child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
    except OSError:
        return []
