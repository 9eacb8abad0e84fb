from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgkit.errors import DataError, UsageError
from imgkit.pictures_given import Flat, PictureError, folder_names, listed_pictures, put

RED = np.full((4, 5, 3), (255, 0, 0), dtype=np.uint8)


@pytest.mark.parametrize(
    ("given", "n"),
    [
        (["a.png", Path("b.png")], 2),
        (("a.png",), 1),
        (np.array(["a.png", "b.png"]), 2),
        (np.array([["a.png"], ["b.png"]], dtype=object), 2),
        (pd.Series(["a.png", "b.png"]), 2),
        (pd.DataFrame({"path": ["a.png", "b.png"]}), 2),
        ([Image.new("L", (3, 2)), RED], 2),
        (np.zeros((3, 8, 8)), 3),
        (np.zeros((2, 8, 8, 3), dtype=np.uint8), 2),
    ],
)
def test_what_pictures_may_be(given: object, n: int) -> None:
    found = listed_pictures(given)
    assert found is not None
    assert len(found) == n


@pytest.mark.parametrize(
    "given",
    [np.zeros((3, 4)), [[1, 2], [3, 4]], pd.DataFrame({"a": [1, 2], "b": [3, 4]}), [], pd.DataFrame({"a": [1]})],
)
def test_what_is_left_to_scikit_learn(given: object) -> None:
    assert listed_pictures(given) is None


@pytest.mark.parametrize(
    "array",
    [RED, RED / 255, RED[:, :, 0], RED[:, :, :1], RED[:, :, 0] > 0, np.dstack([RED, RED[:, :, :1]])],
    ids=["uint8", "floats", "greys", "one channel", "bool", "alpha"],
)
def test_an_array_is_written_as_its_pixels(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    made = put(array, tmp_path, 3)
    assert made.name == "0000003.png"
    with Image.open(made) as image:
        wanted = [255, 0, 0] if array.ndim == 3 and array.shape[2] > 1 else [255, 255, 255]
        assert np.asarray(image.convert("RGB"))[0, 0].tolist() == wanted


@pytest.mark.parametrize(
    ("array", "told", "hint"),
    [
        (RED.astype(int), "Picture 7 has values from 0 to 255 in int64", "X.astype('uint8')"),
        (RED * 1.0, "values from 0 to 255 in float64; pixels are uint8, or floats from 0 to 1", "(X - low)"),
        (RED / -255.0, "values from -1 to", "(X - low)"),
        (np.full((2, 2), np.nan), "values from nan to nan", ""),
        (np.moveaxis(RED, -1, 0), "has the shape (3, 4, 5)", "np.moveaxis(X, 1, -1)"),
        (RED[:0], "has the shape (0, 5, 3)", "Give (H, W)"),
        (RED.astype(complex), "has no numbers in complex128", ""),
    ],
)
def test_an_array_that_is_no_picture_is_told(tmp_path: Path, array: np.ndarray[Any, Any], told: str, hint: str) -> None:
    with pytest.raises(PictureError) as caught:
        put(array, tmp_path, 7)
    assert told in caught.value.message
    assert hint in caught.value.hint
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, DataError)


def test_five_dimensions_are_told() -> None:
    with pytest.raises(PictureError, match=r"An array of 5 dimensions, \(1, 1, 1, 1, 1\), is no pictures"):
        listed_pictures(np.zeros((1, 1, 1, 1, 1)))


def test_a_file_is_linked_to_and_an_image_stands_upright(tmp_path: Path) -> None:
    file, place = tmp_path / "a.jpg", tmp_path / "made"
    place.mkdir()
    image, exif = Image.new("RGB", (6, 2)), Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image.save(file, exif=exif)
    link = put(file, place, 0)
    assert (link.name, link.resolve()) == ("0000000.jpg", file.resolve())
    with Image.open(file) as opened, Image.open(put(opened, place, 1)) as written:
        assert written.size == (2, 6)
    with Image.open(put(Image.new("CMYK", (2, 2)), place, 2)) as written:
        assert written.mode == "RGB"
    for path, why in (
        (tmp_path / "gone.png", "is not there"),
        (tmp_path, "is no file"),
        (tmp_path / "t.csv", "a table"),
    ):
        (tmp_path / "t.csv").touch()
        with pytest.raises(PictureError, match=why):
            put(path, place, 3)


def test_a_row_of_a_matrix_is_a_square_that_its_training_gives_a_range() -> None:
    matrix = np.array([[-1.0, 0.0, 1.0], [3.0, 3.0, 1.0]])
    flat = Flat.of(matrix, None)
    first, second = flat.pictures(matrix)
    assert first.tolist() == [[0, 64], [128, 0]]
    assert second.tolist() == [[255, 255], [128, 0]]
    assert flat.pictures(matrix + 10)[0].max() == 255, "above the range is white"
    assert Flat.of(matrix.astype(np.uint8), None).most == 255
    assert Flat.of(np.zeros((2, 12)), (2, 2, 3)).pictures(np.zeros((2, 12)))[0].shape == (2, 2, 3)
    with pytest.raises(UsageError, match=r"image_shape=\(2, 2\) is not the shape of 3 numbers"):
        Flat.of(matrix, (2, 2))


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (["cat", "a dog"], ["cat", "a dog"]),
        ([0, 1], ["0", "1"]),
        ([-1.0, 1.0], ["-1.0", "1.0"]),
        (["Cat", "cat"], ["class-0", "class-1"]),
        (["train", "val"], ["class-0", "class-1"]),
        (["a/b", "c"], ["class-0", "class-1"]),
        (["", "c"], ["class-0", "class-1"]),
        ([".a", *range(10)], [f"class-{code:02d}" for code in range(11)]),
    ],
)
def test_names_of_folders(classes: list[object], names: list[str]) -> None:
    assert folder_names(classes) == names
