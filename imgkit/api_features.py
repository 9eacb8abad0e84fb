"""What `imgkit data label-errors` and `imgkit data learning-curve` do, as functions: what features tell of the data."""

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from imgkit.api import prepared
from imgkit.api_options import FinetuneOptions
from imgkit.data.rows import exists, refuse_picture
from imgkit.errors import UsageError, printable
from imgkit.notebook import usual_screen

if TYPE_CHECKING:
    from imgkit.label_errors import Judged
    from imgkit.learning_curve import Curve

ERRORS_OUT, CURVE_OUT = Path("label-errors"), Path("learning-curve")


def label_errors(model: str, *, recipe: str = "probe", **options: Unpack[FinetuneOptions]) -> "Judged":
    """Rank the labels of all images, those of test too, by how likely they are wrong (confident learning).

    Each label is judged by a logistic regression on frozen features that was fitted without its image. Makes no run;
    writes labels.csv, the whole data set as a table to edit and train on, and label-errors.html.

    Args:
        model: timm's name; its pretrained weights are needed.
        recipe: a shipped recipe's name, whose class weights are left out, or a TOML file.
        **options: data, weights, image_size, seed, sets; out, the folder of the files, or label-errors/.

    Raises:
        UsageError: if the table is there already, or images have several labels.
        ImgkitError: the kind says what has to be mended.
    """
    options["out"] = out = Path(options.get("out", ERRORS_OUT))
    screen = options.get("screen") or usual_screen()
    _refuse_edited(out / "labels.csv")
    with prepared("probe", model, recipe, options) as (setup, _, _):
        from imgkit.label_errors import judge_labels, write

        judged = judge_labels(setup, screen.progress)
        write(judged, setup, out)
    return judged


def learning_curve(model: str, *, recipe: str = "probe", seeds: int = 5, **options: Unpack[FinetuneOptions]) -> "Curve":
    """The score of a linear probe against the number of images it is fitted to, and what more would bring.

    Nested shares of the training images, the same validation images throughout; test is not looked at. Makes no run;
    writes points.csv, learning-curve.json and, with matplotlib, learning-curve.png and .svg.

    Args:
        model: timm's name; its pretrained weights are needed.
        recipe: a shipped recipe's name or a TOML file, for data, image size and class weights.
        seeds: draws of each share, 2 or more.
        **options: data, weights, image_size, seed, sets; out, the folder of the files, or learning-curve/.

    Raises:
        UsageError: if images have several labels, or there are too few seeds.
        ImgkitError: the kind says what has to be mended.
    """
    if seeds < 2:
        raise UsageError(
            f"--seeds {seeds}: one draw does not tell how far draws differ.", "Give two or more:  --seeds 5"
        )
    options["out"] = out = Path(options.get("out", CURVE_OUT))
    screen = options.get("screen") or usual_screen()
    with prepared("probe", model, recipe, options) as (setup, _, _):
        from imgkit.learning_curve import POINTS, SUMMARY, measure, write
        from imgkit.plots.growth import draw_growth

        pictures = [setup.index.path(row) for row in range(len(setup.index))]
        for name in (POINTS, SUMMARY, "learning-curve.png", "learning-curve.svg"):
            refuse_picture(out / name, pictures)
        curve = measure(setup, screen.progress, seeds=seeds)
        write(curve, out)
        if not draw_growth(curve.growth(setup.about["model"]), out):
            screen.note('no learning-curve.png: matplotlib is not installed (pip install "imgkit-timm[plot]")')
    return curve


def _refuse_edited(file: Path) -> None:
    """See that no table is written over: it is made to be edited, and may be what is read."""
    if exists(file):
        raise UsageError(
            f"{printable(str(file))} is there already, perhaps with labels that you mended; it is not written over.",
            f"Move it away, or give another folder:  --out {printable(str(file.parent))}-2",
        )
