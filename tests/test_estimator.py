"""`ImageClassifier`: scikit-learn's own checks, and what pictures add to them."""

import gc
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import estimator_checks_generator

import imgkit
from imgkit.errors import RecipeError, UsageError
from imgkit.pictures_given import PictureError

TINY = imgkit.ImageClassifier("test_resnet", recipe="probe", weights="none", image_size=32, workers=0)
FEW = 30
QUICK = {  # checks that train twice at most
    "check_classifiers_one_label",
    "check_complex_data",
    "check_dtype_object",
    "check_estimator_sparse_array",
    "check_estimators_empty_data_messages",
    "check_estimators_unfitted",
    "check_fit2d_1sample",
    "check_n_features_in_after_fitting",
    "check_parameters_default_constructible",
    "check_requires_y_none",
    "check_supervised_y_no_nan",
}


def checks() -> Iterator[Any]:
    """Each of scikit-learn's checks; those that train often are for `make proof`."""
    for estimator, check in estimator_checks_generator(TINY):
        name = check.func.__name__
        yield pytest.param(estimator, check, id=name, marks=[] if name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize(("estimator", "check"), [*checks()])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_check(estimator: object, check: Callable[[object], None]) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    """Pictures uint8 (N, 8, 8) and their classes, of three digits."""
    bunch = load_digits()
    rows = np.flatnonzero(bunch.target < 3)[: 2 * FEW]
    return np.rint(bunch.images[rows] * (255 / 16)).astype(np.uint8), bunch.target[rows]


def answers(estimator: imgkit.ImageClassifier, given: object) -> list[list[float]]:
    found: list[list[float]] = estimator.predict_proba(given).tolist()
    return found


def test_paths_images_and_arrays_of_the_same_pixels_are_the_same(tmp_path: Path, digits: tuple[Any, Any]) -> None:
    images, y = digits
    paths = []
    for number, pixels in enumerate(images):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    fitted = [
        imgkit.ImageClassifier(**TINY.get_params()).fit(given[:FEW], y[:FEW])
        for given in (images, images / 255, [str(path) for path in paths])
    ]
    wanted = answers(fitted[0], images[FEW:])
    assert len({tuple(row) for row in wanted}) > 10
    for one in fitted:
        for given in (images[FEW:], paths[FEW:], [Image.open(path) for path in paths[FEW:]], np.array(paths[FEW:])):
            assert answers(one, given) == wanted
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before
    assert not hasattr(fitted[0], "n_features_in_")
    assert wanted[3:5] == answers(fitted[0], images[FEW + 3 : FEW + 5]), "whatever is asked beside it"


def test_a_matrix_is_flattened_pictures(digits: tuple[Any, Any]) -> None:
    images, y = digits
    fitted = imgkit.ImageClassifier(**TINY.get_params()).fit(images.reshape(len(images), -1) / 16.0, y)
    assert fitted.n_features_in_ == 64
    assert fitted.score(images.reshape(len(images), -1) / 16.0, y) > 0.9
    assert answers(fitted, images) == answers(fitted, images.reshape(len(images), -1) / 16.0), (
        "the range of this training is 0 to 16"
    )
    with pytest.raises(PictureError, match="A matrix is given, and the training saw pictures"):
        imgkit.ImageClassifier(**TINY.get_params()).fit(images[:FEW], y[:FEW]).predict(images.reshape(len(images), -1))


@pytest.mark.parametrize("names", [(2, 10, 1), ("b", "a", "train")], ids=["numbers", "text"])
def test_probabilities_are_in_the_order_of_the_classes(digits: tuple[Any, Any], names: tuple[Any, ...]) -> None:
    images, y = digits
    named = np.array(names)[y]
    fitted = imgkit.ImageClassifier(**TINY.get_params()).fit(images, named)
    assert fitted.classes_.tolist() == sorted(names)
    assert fitted.score(images, named) > 0.9
    assert (fitted.classes_[fitted.predict_proba(images).argmax(axis=1)] == fitted.predict(images)).all()
    assert fitted.predict(images[:1]).dtype == named.dtype


def test_a_run_is_kept_where_out_says_and_goes_with_the_estimator_elsewhere(
    tmp_path: Path, digits: tuple[Any, Any]
) -> None:
    images, y = digits
    kept = imgkit.ImageClassifier(**{**TINY.get_params(), "out": tmp_path / "runs"}).fit(images[:FEW], y[:FEW])
    run = imgkit.open_run(kept.run_.folder.name, out=tmp_path / "runs")
    assert run.evaluate(split="val")["n"] > 0
    assert [folder.name for folder in (tmp_path / "runs").glob("pictures-*/*")] != []
    gone = imgkit.ImageClassifier(**TINY.get_params()).fit(images[:FEW], y[:FEW])
    place, wanted, kilobytes = gone.run_.folder.path, answers(gone, images), pickle.dumps(gone)
    assert wanted == answers(kept, images)
    assert place.is_dir()
    assert list(place.parent.glob("pictures-*")) == []
    del gone
    gc.collect()
    assert not place.parent.exists()
    again = pickle.loads(kilobytes)  # noqa: S301
    assert answers(again, images) == wanted
    assert again.run_.metrics.keys() == kept.run_.metrics.keys()
    assert answers(pickle.loads(pickle.dumps(again)), images) == wanted  # noqa: S301


def test_parameters_are_values_of_the_recipe(tmp_path: Path, digits: tuple[Any, Any]) -> None:
    images, y = digits
    given = {**TINY.get_params(), "val": 0.4, "seed": 5, "out": tmp_path, "sets": ["model.fit=squash"]}
    about = imgkit.ImageClassifier(**given).fit(images, y).run_.folder
    assert about.read_json("run.json")["data"]["n"]["val"] == 24
    assert 'fit = "squash"' in (about.path / "recipe.toml").read_text()
    assert "seed = 5" in (about.path / "recipe.toml").read_text()
    with pytest.raises(RecipeError, match=r"epochs=|epochs = "):
        imgkit.ImageClassifier(**TINY.get_params()).set_params(epochs=3).fit(images, y)  # nothing in probe has epochs
    with pytest.raises(UsageError, match="val="):
        imgkit.ImageClassifier(**TINY.get_params()).set_params(val=2.0).fit(images, y)


def test_what_cannot_be_is_told(tmp_path: Path, digits: tuple[Any, Any], capsys: pytest.CaptureFixture[str]) -> None:
    images, y = digits
    with pytest.raises(PictureError, match="needs 2 classes, got 1 class"):
        imgkit.ImageClassifier(**TINY.get_params()).fit(images, np.zeros(len(images)))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        imgkit.ImageClassifier(**TINY.get_params()).fit(images, y[:-1])
    with pytest.raises(PictureError, match="is not there"):
        imgkit.ImageClassifier(**TINY.get_params()).fit(["gone.png", "too.png"], [0, 1])
    with pytest.raises(NotFittedError):
        TINY.predict(images)
    fitted = imgkit.ImageClassifier(**TINY.get_params()).fit(images[:FEW], y[:FEW])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"broken\.png cannot be read: "):
        fitted.predict([tmp_path / "broken.png"])
    assert capsys.readouterr().err == "", "warnings are in the log"
    assert "warning: The validation set has" in (fitted.run_.folder.path / "log.txt").read_text()


def test_scores_of_folds_of_paths(tmp_path: Path, digits: tuple[Any, Any]) -> None:
    images, y = digits
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    scores = cross_val_score(imgkit.ImageClassifier(**TINY.get_params()), paths, y, cv=2)
    assert scores.mean() > 0.8


@pytest.mark.slow
def test_a_search_in_processes(digits: tuple[Any, Any]) -> None:
    images, y = digits
    values = {"image_size": [32, 48]}
    one, two = (
        GridSearchCV(imgkit.ImageClassifier(**TINY.get_params()), values, cv=2, n_jobs=jobs).fit(images, y)
        for jobs in (1, 2)
    )
    assert one.cv_results_["mean_test_score"].tolist() == two.cv_results_["mean_test_score"].tolist()
    assert answers(one, images) == answers(two, images)
