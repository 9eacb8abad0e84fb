"""Which images are labelled, and in which order."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgkit.data.folders import walk
from imgkit.data.rows import count, is_folder, listed
from imgkit.data.table_paths import Paths
from imgkit.errors import DataError, printable
from imgkit.labelling import Order
from imgkit.labelling.order import informative
from imgkit.labelling.session import Candidate
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.predict import Prediction


def images_of(root: Path, screen: Screen) -> list[str]:
    """The images below a folder that a table can name, relative to it, sorted; the others are told.

    Args:
        root: absolute.
        screen: told what is left out.

    Raises:
        DataError: if there is no such folder, or no such image in it.
    """
    if not is_folder(root):
        raise DataError(f"There is no folder {printable(str(root))}.", "Give the folder of the images to label.")
    paths, tree = Paths(root, printable(str(root))), walk(root)
    odd, outside, images = list[str](), list[str](), list[str]()
    for name in tree.images:
        if not name.isascii() and any(0xD800 <= ord(char) <= 0xDFFF for char in name):
            odd.append(name)
        elif paths.inside(name) != name:
            outside.append(name)
        else:
            images.append(name)
    if odd:
        screen.warn(
            f"{count(len(odd), 'image')} left out, of a name that is not UTF-8, as a CSV has to be: {listed(odd)}"
        )
    if outside:
        screen.warn(f"{count(len(outside), 'image')} left out, since links lead out of the folder: {listed(outside)}")
    if not images:
        raise DataError(
            f"There is no image to label in {printable(str(root))}.", "Give the folder of the images to label."
        )
    return images


def suggested(
    root: Path,
    names: Sequence[str],
    predict: Callable[[list[str]], Iterable["Prediction"]],
    order: Order,
    screen: Screen,
) -> list[Candidate]:
    """Images with what a model says of them, in their order; those that it cannot read come last.

    Args:
        root: the folder of the images.
        names: the images, relative to it.
        predict: gives an answer to each of these files.
        order: which come first.
        screen: shows how far it is, and is told what cannot be read.
    """
    probs: dict[int, tuple[float, ...]] = {}
    found: list[Candidate] = []
    with screen.progress("asking the model") as progress:
        for number, answer in enumerate(predict([str(root / name) for name in names])):
            progress(number + 1, len(names))
            found.append(Candidate(names[number], answer.top))
            if not answer.error:
                probs[number] = answer.probs
    unread = [number for number in range(len(found)) if number not in probs]
    if unread:
        screen.warn(
            f"{count(len(unread), 'image')} cannot be read and come last: {listed(names[one] for one in unread)}"
        )
    return [found[number] for number in [*informative(probs, order), *unread]]
