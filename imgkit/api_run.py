"""What a user holds of a run: its folder, and what its model can do."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from imgkit.api_options import Cautions, other_data
from imgkit.notebook import usual_screen
from imgkit.plugin_files import require_plugins
from imgkit.recipe.schema import DataSettings
from imgkit.run import RunFolder
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.exports.formats import Format
    from imgkit.inference import Precision
    from imgkit.predict import Prediction
    from imgkit.vote import Rule


class Run:
    """A finished or unfinished run: its folder, and what its model can do.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r})"

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Metrics of each stored evaluation by name ("val@1200", "test@1200"), as in their metrics.json."""
        return self.folder.evaluations()

    def evaluate(
        self,
        *,
        data: str | Path | DataSettings | None = None,
        split: str | None = None,
        max_pixels: int | None = None,
        root: str | Path | None = None,
        device: str = "auto",
        images: bool = True,
        screen: Screen | None = None,
    ) -> dict[str, Any]:
        """Score the best weights on a split of the run's data, or on other data by class name.

        A split of the run's own data is scored once; after that its stored metrics are returned.

        Args:
            data: a folder or CSV, or a recipe's data settings where columns have to be named; None: the run's data.
            split: "train", "val" or "test"; None: test if there is one, else val; of other data all images.
            max_pixels: larger images of other data are refused; None: as in the training.
            root: the folder that the run's own data were moved to, kept in the run; or where paths of a CSV start.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps"; it need not be that of the training.
            images: whether small pictures and maps of mistakes and unsure answers are stored with the scores.
            screen: where to say what is going on; None: in the cell of a notebook, else nowhere.

        Returns: what metrics.json holds, and "folder": where all that is.

        Raises:
            DataError: if the data hold a class the model does not know.
            UsageError: if there is no such split or the run has no model yet.
            DeviceError: if torch does not see `device`, or memory runs out.
        """
        require_plugins(self.folder, "evaluate")
        from imgkit.evaluate import evaluate_run
        from imgkit.moved import move_data

        told, settings = screen or usual_screen(), other_data(data, max_pixels, root)
        if root is not None and settings is None:
            move_data(self.folder, root, told)
        return evaluate_run(self.folder, data=settings, split=split, device=device, images=images, screen=told)

    def predict(
        self,
        inputs: str | Path | Iterable[str | Path],
        *,
        top_k: int = 1,
        image_col: str | None = None,
        root: str | Path | None = None,
        max_pixels: int | None = None,
        device: str = "auto",
        together_with: Sequence["Run"] = (),
        vote: "Rule" = "mean",
        precision: "Precision" = "auto",
        screen: Screen | None = None,
        **cautions: Unpack[Cautions],
    ) -> Iterator["Prediction"]:
        """Label files, folders or the images a CSV lists; one answer per image, in input order.

        An unreadable file gives an answer with `error` instead of a label. Memory is flat in the number of images.

        Args:
            inputs: files, folders, tables; "-": paths on stdin. A single one may be given as it is.
            top_k: classes to tell for each image.
            image_col: column of a CSV with the paths; None: that of the training where there is one, else a usual name.
            root: where relative paths of a CSV start; None: as in the training for its own CSV, else the CSV's folder.
            max_pixels: larger images are not opened; None: as in the training.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps"; it need not be that of the training.
            together_with: runs that vote with this one; classes are the same by name.
            vote: "mean" of their probabilities, or "majority" of their answers: see `vote.vote_on_files`.
            precision: "float32", "bfloat16", "float16", or "auto": see `inference.Network`.
            screen: where to say which precision was found, and what validation says of `cautions`; None: nowhere.
            **cautions: reject_at, target_accuracy, unlike, conformal: `Cautions` tells each.

        Raises:
            DataError: if a CSV has no such column, or there is no folder `root`.
            UsageError: if a run has no model yet, classes or tasks differ, or cautions cannot be kept.
            DeviceError: if torch does not see `device`, or memory runs out.
        """
        for run in (self, *together_with):
            require_plugins(run.folder, "predict")
        from imgkit.caution import Wish, ask_cautiously

        folders = [run.folder for run in (self, *together_with)]
        how: dict[str, Any] = {"top_k": top_k, "image_col": image_col, "root": root, "max_pixels": max_pixels}
        how |= {"device": device, "rule": vote, "precision": precision}
        yield from ask_cautiously(folders, inputs, Wish(**cautions), screen, **how)

    def export(
        self,
        to: "Format",
        *,
        images: int | None = None,
        tolerance: float | None = None,
        max_drop: float | None = None,
        calibration: int | None = None,
        max_size: str | None = None,
        root: str | Path | None = None,
        screen: Screen | None = None,
    ) -> dict[str, Any]:
        """Write the best weights for other programs into `exports/FORMAT`, once both networks agree.

        Args:
            to: "onnx", "onnx-int8", "torch-export" or "timm".
            images: of validation that both answer; None: 256.
            tolerance: how far a logit may be from the run's; None: 0.001. Not for int8.
            max_drop: points of macro F1 that int8 may cost; None: 1.
            calibration: images of train that tell int8 its ranges; None: 128.
            max_size: of the file of weights, "100MB", or "none"; None: the run's limit.
            root: the folder that the run's own data were moved to, kept in the run.
            screen: where to say what is going on; None: in the cell of a notebook, else nowhere.

        Returns: what verify.json of the export holds, and "folder": where the export is.

        Raises:
            UsageError: if an option is not used, a package is not installed, or the run has no model yet.
            DataError: if an image is not what it was.
            WeightsError: if torch cannot make a graph of the network.
            GateError: if the networks do not agree, or the file is too large; nothing is left but what was measured.
        """
        require_plugins(self.folder, "export")
        from imgkit.exports.export import export_run
        from imgkit.exports.formats import Wish
        from imgkit.moved import move_data

        told = screen or usual_screen()
        wish = Wish(to, images, tolerance, max_drop, calibration, max_size)
        wish.check()
        if root is not None:
            move_data(self.folder, root, told)
        return export_run(self.folder, wish, told)
