"""What `imgkit data label-errors` and `imgkit data learning-curve` do, as functions: what features tell of the data."""

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from imgkit.api import prepared
from imgkit.api_options import FinetuneOptions
from imgkit.data.rows import exists
from imgkit.errors import UsageError, printable
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.label_errors import Judged

ERRORS_OUT = Path("label-errors")
_WEIGHTS = "loss.class_weights"  # they shift probabilities: measured, fewer of the planted errors come first


def label_errors(model: str, *, recipe: str = "probe", **options: Unpack[FinetuneOptions]) -> "Judged":
    """Rank the labels of all images, those of test too, by how likely they are wrong (confident learning).

    Each label is judged by a logistic regression on frozen features that was fitted without its image. Makes no run;
    writes labels.csv, the whole data set as a table to edit and train on, and label-errors.html.

    Args:
        model: timm's name; its pretrained weights are needed.
        recipe: a shipped recipe's name or a TOML file, for data and image size; of `probe`, class weights are left out.
        **options: data, weights, image_size, seed, sets; out, the folder of the files, or label-errors/.

    Raises:
        UsageError: if the table is there already, or images have several labels.
        ImgkitError: the kind says what has to be mended.
    """
    options["out"] = out = Path(options.get("out", ERRORS_OUT))
    screen = options.get("screen") or Screen(quiet=True)
    _refuse_edited(out / "labels.csv")
    if recipe == "probe" and not any(text.strip().startswith(_WEIGHTS) for text in options.get("sets", ())):
        options["sets"] = [f"{_WEIGHTS}=none", *options.get("sets", ())]
    with prepared("probe", model, recipe, options) as (setup, _, _):
        from imgkit.label_errors import judge_labels, write

        judged = judge_labels(setup, screen.progress)
        write(judged, setup, out)
    return judged


def _refuse_edited(file: Path) -> None:
    """See that no table is written over: it is made to be edited, and may be what is read."""
    if exists(file):
        raise UsageError(
            f"{printable(str(file))} is there already, perhaps with labels that you mended; it is not written over.",
            f"Move it away, or give another folder:  --out {printable(str(file.parent))}-2",
        )
