"""`imgkit.ImageClassifier`: a training as an estimator of scikit-learn.

Its parameters are the recipe's names; `fit` makes an ordinary run. What it knows beside them lies in that run's folder,
and a pickle holds the files that are needed to answer.
"""

import io
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from imgkit.api import RUNS, Run, finetune
from imgkit.api_options import FinetuneOptions
from imgkit.notebook import usual_screen
from imgkit.pictures_given import Flat, Picture, PictureError, check_file, folder_names, listed_pictures, put
from imgkit.recipe.load import Flag
from imgkit.run import RunFolder
from imgkit.screen import Screen

_OPTIONS = ("weights", "epochs", "lr", "batch_size", "image_size", "augment", "head", "seed", "workers", "plugin")
_KEYS = {"val": "data.val", "monitor": "monitor", "early_stop": "early_stop", "device": "run.device"}
_BATCH = 32  # images that `predict` asks at once; filled up, so that no answer depends on how many there are
_PICKLED = ("*.toml", "*.json", "history.jsonl", "model/*", "plugins/*", "evaluations/*/metrics.json")


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Fine-tunes a network of timm's registry on pictures.

    X is paths, PIL images, arrays (N, H, W[, C]) or a matrix (N, F) of flattened pictures, see `pictures_given`; y is a
    class of each, (N,). None stands for what the recipe says.

    Args:
        model: timm's name.
        recipe: a shipped recipe's name or a TOML file.
        weights: "auto", "none", a file, "part:FILE", "package:NAME" or "hub:OWNER/NAME".
        epochs: length of the only gradient phase.
        lr: rate of the only gradient phase.
        batch_size: images per update.
        image_size: side of the images, in pixels.
        augment: "none", "light", "medium" or "strong".
        head: "linear", or of several layers: "mlp:1000".
        val: share of X that chooses the epoch and calibrates, and is not trained on.
        monitor: the score that chooses, such as "val/f1_macro".
        early_stop: epochs without a gain after which training ends.
        seed: of order, augmentation, dropout and new weights.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        workers: processes that load images.
        sets: "key.path=value" for any other key of the recipe.
        plugin: Python files that names need.
        image_shape: of the pictures in a matrix's rows, (H, W) or (H, W, C); None: a square.
        out: folder of run folders, kept; None: a temporary one that goes with the estimator.
        verbose: whether the training speaks.

    Attributes:
        classes_: the classes, sorted, (K,).
        n_features_in_: numbers in a row, where X was a matrix.
        run_: the run.
    """

    def __init__(
        self,
        model: str = "resnet50",
        *,
        recipe: str = "finetune",
        weights: str | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        batch_size: int | None = None,
        image_size: int | None = None,
        augment: str | None = None,
        head: str | None = None,
        val: float | None = None,
        monitor: str | None = None,
        early_stop: int | None = None,
        seed: int | None = None,
        device: str | None = None,
        workers: int | None = None,
        sets: Sequence[str] = (),
        plugin: str | Sequence[str] = (),
        image_shape: tuple[int, ...] | None = None,
        out: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.weights = weights
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.image_size = image_size
        self.augment = augment
        self.head = head
        self.val = val
        self.monitor = monitor
        self.early_stop = early_stop
        self.seed = seed
        self.device = device
        self.workers = workers
        self.sets = sets
        self.plugin = plugin
        self.image_shape = image_shape
        self.out = out
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> "ImageClassifier":  # noqa: ANN401, N803
        """Train on pictures X (N, …) of classes y (N,).

        Raises:
            ValueError: if X or y are not what they should be.
            ImgkitError: what else has to be mended.
        """
        pictures = self._pictures(X, y, reset=True)
        if y is None:
            raise PictureError("ImageClassifier requires y to be passed, but the target y is None.", "Give classes.")
        targets = column_or_1d(check_array(y, ensure_2d=False, dtype=None, input_name="y"), warn=True)
        check_consistent_length(pictures, targets)
        check_classification_targets(targets)
        self.classes_, codes = np.unique(targets, return_inverse=True)
        if len(self.classes_) < 2:
            raise PictureError("ImageClassifier needs 2 classes, got 1 class.", "Give pictures of another class, too.")
        home = _Home() if self.out is None else None
        self._home, place = home, Path(self.out or RUNS) if home is None else home.path
        place.mkdir(parents=True, exist_ok=True)
        data = Path(tempfile.mkdtemp(prefix="pictures-", dir=place))
        self._names = folder_names(self.classes_.tolist())
        try:
            for name in self._names:
                (data / name).mkdir()
            for number, (picture, code) in enumerate(zip(pictures, codes.tolist(), strict=True)):
                put(picture, data / self._names[code], number)
            self.run_ = finetune(self.model, recipe=self.recipe, **self._options(data, place))
        finally:
            if home is not None:
                shutil.rmtree(data, ignore_errors=True)
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: ANN401, N803
        """The most probable class of each picture, (N,)."""
        probs = self.predict_proba(X)
        found: npt.NDArray[Any] = self.classes_[probs.argmax(axis=1)]
        return found

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:  # noqa: ANN401, N803
        """Calibrated probabilities (N, K), in the order of `classes_`.

        Raises:
            ValueError: if X are no pictures, or a file cannot be read.
        """
        check_is_fitted(self, "run_")
        pictures = self._pictures(X, None, reset=False)
        with tempfile.TemporaryDirectory(prefix="imgkit-") as place:
            files = [
                str(check_file(one) if isinstance(one, str | os.PathLike) else put(one, Path(place), number))
                for number, one in enumerate(pictures)
            ]
            files += files[-1:] * (-len(files) % _BATCH)
            how: dict[str, Any] = {"device": self.device or "auto", "precision": "float32", "screen": _silent()}
            answers = list(self.run_.predict(files, **how))[: len(pictures)]
        bad = next((one for one in answers if one.error), None)
        if bad is not None:
            raise PictureError(f"{bad.path} cannot be read: {bad.error}.", "Leave it out, or mend it.")
        known = self.run_.folder.read_json("run.json")["classes"]
        columns = [known.index(name) for name in self._names]
        return np.array([one.probs for one in answers], dtype=np.float64)[:, columns]

    def __getstate__(self) -> dict[str, Any]:
        """With the files of the run that are needed to answer, instead of where they lie."""
        state = dict(super().__getstate__())
        state.pop("_home", None)
        run = state.pop("run_", None)
        if run is not None:
            place = run.folder.path
            files = sorted(file for pattern in _PICKLED for file in place.glob(pattern) if file.is_file())
            state["_run"] = (run.folder.name, {file.relative_to(place).as_posix(): file.read_bytes() for file in files})
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lay the files of the run into a temporary folder."""
        name, files = state.pop("_run", ("", {}))
        super().__setstate__(state)
        if files:
            self._home = _Home()
            place = self._home.path / name
            for path, content in files.items():
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_bytes(content)
            self.run_ = Run(RunFolder(place))

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        """Arrays of three dimensions are fine."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _pictures(self, given: Any, y: Any, *, reset: bool) -> list[Picture]:  # noqa: ANN401
        """The pictures; how a row of a matrix is one is learned from the training's.

        Args:
            given: X.
            y: of a training, which scikit-learn asks for where X is a matrix.
            reset: whether this is a training.
        """
        found = listed_pictures(given)
        if found is not None:
            if reset:
                self._flat = None
            return found
        matrix = validate_data(self, given, *([] if not reset or y is None else [y]), reset=reset, dtype="numeric")
        matrix = matrix[0] if isinstance(matrix, tuple) else matrix
        if reset:
            self._flat = Flat.of(matrix, self.image_shape)
        if self._flat is None:
            raise PictureError("A matrix is given, and the training saw pictures.", "Give pictures, as then.")
        return self._flat.pictures(matrix)

    def _options(self, data: Path, place: Path) -> FinetuneOptions:
        options: dict[str, Any] = {name: getattr(self, name) for name in _OPTIONS if getattr(self, name) is not None}
        flags = {key: Flag(f"{name}=", getattr(self, name)) for name, key in _KEYS.items()}
        screen = usual_screen(spoken=True) if self.verbose else _silent()
        given = {key: flag for key, flag in flags.items() if flag.value is not None}
        options |= {"data": data, "out": place, "sets": list(self.sets), "flags": given, "screen": screen}
        return cast("FinetuneOptions", options)


class _Home:
    """A temporary folder that goes when nobody holds it any more, in the process that made it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="imgkit-"))
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: Path, maker: int) -> None:
    if os.getpid() == maker:
        shutil.rmtree(path, ignore_errors=True)


def _silent() -> Screen:
    """Warnings, too, go into the run's log alone: a search would repeat them for each fold."""
    return Screen(quiet=True, file=io.StringIO())
