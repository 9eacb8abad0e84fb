"""ImageNet as its challenge (Russakovsky et al. 2015) lays it out: folders of synsets, and a validation set in a heap.

    train/n01440764/n01440764_10026.JPEG
    val/ILSVRC2012_val_00000001.JPEG
    LOC_val_solution.csv                          as Kaggle has it; or
    ILSVRC2012_validation_ground_truth.txt        numbers of synsets, and meta.mat or map_clsloc.txt, which explain them

Kaggle's folder ILSVRC/Data/CLS-LOC above train/ and val/, and the folder ILSVRC2012_devkit_t12/data of the
development kit, are looked into. An archive's test/ has no labels and is left out.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from imgkit.data.columns import Rows
from imgkit.data.csv_text import read_text
from imgkit.data.entries import entries, leads_inside
from imgkit.data.folders import add_rows, add_tree_notes, walk
from imgkit.data.rows import EXTENSIONS, Row, Source, count, is_folder
from imgkit.errors import DataError, printable

SYNSET = re.compile(r"n[0-9]{8}")
SOLUTION = "LOC_val_solution.csv"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
NAMES = "LOC_synset_mapping.txt"
_KAGGLE = "ILSVRC/Data/CLS-LOC"
_BESIDE = (".", "ILSVRC2012_devkit_t12/data", "devkit/data")  # where its text files may be, below the given folder


def is_here(root: Path) -> bool:
    """Whether train/ holds folders of synsets only, and val/ holds images and no folder."""
    base = _base(root)
    train, val = base / "train", base / "val"
    if not (is_folder(train) and is_folder(val)):
        return False
    synsets, _ = _inside(train)
    folders, files = _inside(val)
    if not synsets or not all(map(SYNSET.fullmatch, synsets)):
        return False
    return not folders and any(name.lower().endswith(EXTENSIONS) for name in files)


def _inside(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files that are not hidden."""
    found = [(entry.name, leads_inside(entry)) for entry in entries(folder) if not entry.name.startswith(".")]
    return [name for name, inside in found if inside], [name for name, inside in found if not inside]


def read(root: Path, shown: str) -> Source:
    """Read train/ by its folders and val/ by the list of its labels.

    Raises:
        DataError: if there is no such list, it cannot be read, or it lacks an image of val/.
    """
    base = _base(root)
    tree = walk(base)
    source = Source(base, shown, Rows())
    truth, told = _truth(root, shown)
    add_tree_notes(tree, source)
    add_rows(tree, source, "train", folder="train")
    val = [image for image in tree.images if image.startswith("val/")]
    lacking = [image for image in val if PurePosixPath(image).stem not in truth]
    if lacking:
        raise DataError(
            f"{told} has no label for {count(len(lacking), 'image')} of val/, first {printable(lacking[0])}.",
            "Take the list that belongs to these images.",
        )
    source.rows.extend(Row(image, (truth[PurePosixPath(image).stem],), "val", None) for image in val)
    source.notes.append(f"Labels of val/ are those of {told}.")
    gone = len(truth) - len(val)
    if gone > 0:
        source.notes.append(f"{count(gone, 'image')} of {told} not in val/.")
    others = [image for image in tree.images if not image.startswith(("train/", "val/"))]
    if others:
        source.notes.append(f"{count(len(others), 'image')} without labels left out, such as {printable(others[0])}.")
    add_names(root / NAMES, source)
    return source


def add_names(file: Path, source: Source) -> None:
    """Say what synsets mean, from lines such as `n01440764 tench, Tinca tinca`, where there is such a file."""
    if not file.is_file():
        return
    pairs = [line.replace("\t", " ").partition(" ") for line in read_text(file, file.name).splitlines()]
    words = {synset: name.strip() for synset, _, name in pairs}
    synsets = sorted(source.rows.held() & words.keys())
    if synsets:
        means = [f"{synset} is {words[synset]}" for synset in synsets[:5]]
        source.notes.append(f"Classes are called by their synsets; {file.name} has their names: {'; '.join(means)}.")


def _base(root: Path) -> Path:
    inside = root / _KAGGLE
    return inside if is_folder(inside) else root


def _truth(root: Path, shown: str) -> tuple[dict[str, str], str]:
    """The synset of each validation image by its stem, and the list they are from."""
    solution, truth = _find(root, SOLUTION), _find(root, TRUTH)
    if solution is not None:
        return _solution(solution), SOLUTION
    if truth is None:
        raise DataError(
            f"{shown} is laid out as ImageNet, with images directly in val/, and has no list of their labels.",
            f"Put {SOLUTION} into {shown}/, or {TRUTH} with meta.mat of the development kit; or sort the images of "
            "val/ into folders of their synsets.",
        )
    return _numbered(truth, _synsets(root)), TRUTH


def _find(root: Path, name: str) -> Path | None:
    return next((root / place / name for place in _BESIDE if (root / place / name).is_file()), None)


def _solution(file: Path) -> dict[str, str]:
    """Kaggle's `ImageId,PredictionString`: the string begins with the synset; boxes follow."""
    header, *rows = [row for row in csv.reader(read_text(file, file.name).splitlines()) if row] or [[]]
    if header != ["ImageId", "PredictionString"]:
        raise DataError(
            f"{file.name} has the header {printable(','.join(header))!r}, not 'ImageId,PredictionString'.",
            "Take the file as it was published.",
        )
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        synset = row[1].split(" ", 1)[0] if len(row) == len(header) else ""
        if SYNSET.fullmatch(synset) is None:
            raise DataError(
                f"{file.name}: row {number:,} does not name a synset: {printable(','.join(row))!r}",
                "A row is like  ILSVRC2012_val_00048981,n03995372 85 1 499 272",
            )
        found[row[0]] = synset
    return found


def _numbered(file: Path, synsets: Mapping[int, str]) -> dict[str, str]:
    """A number of a synset on each line, for the images in the order of their numbers."""
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(file, file.name).split("\n"), 1):
        text = line.strip()
        if not text:
            continue
        if not text.isdecimal() or int(text) not in synsets:
            raise DataError(
                f"{file.name}: line {number:,} is {printable(text)!r}, which is not the number of a synset.",
                f"A line holds one of the numbers 1 to {max(synsets):,}.",
            )
        found[f"ILSVRC2012_val_{number:08d}"] = synsets[int(text)]
    return found


def _synsets(root: Path) -> dict[int, str]:
    """ILSVRC2012_ID -> synset. The numbers do not follow the alphabet, so no other list will do."""
    mapped, meta = _find(root, "map_clsloc.txt"), _find(root, "meta.mat")
    if mapped is not None:
        cells = [line.split() for line in read_text(mapped, mapped.name).splitlines() if line.strip()]
        if not all(len(row) > 1 and SYNSET.fullmatch(row[0]) and row[1].isdecimal() for row in cells):
            raise DataError(f"{mapped.name} is not a list of lines such as  n02119789 1 kit_fox", "Take the original.")
        return {int(row[1]): row[0] for row in cells}
    if meta is not None:
        return _from_meta(meta)
    raise DataError(
        f"{TRUTH} holds numbers, and what says which synset has which number is missing.",
        "Put meta.mat (ILSVRC2012_devkit_t12/data) or map_clsloc.txt beside it. A list of synsets in the order of the "
        "alphabet will not do: the numbers have another order.",
    )


def _from_meta(file: Path) -> dict[int, str]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        table = loadmat(str(file), squeeze_me=True)["synsets"]
        # Synsets with children are not classes; they come after the 1,000 that are.
        return {
            int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table.reshape(-1) if int(row["num_children"]) == 0
        }
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, MatReadError) as error:
        raise DataError(
            f"{file.name} is not the table of synsets of the development kit ({printable(str(error))}).",
            "Take the file as it was published, or map_clsloc.txt.",
        ) from error
