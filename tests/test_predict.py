import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from imgkit.calibration import Calibration
from imgkit.cells import guarded
from imgkit.data.csv_table import GUESSES
from imgkit.data.decode import load_image
from imgkit.data.folders import read_folder
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import DataError, DeviceError
from imgkit.inference import Precision
from imgkit.predict import (
    Prediction,
    Trained,
    expand_inputs,
    predict_files,
)
from imgkit.prediction_rows import write_csv

torch.set_num_threads(1)


@dataclass
class Loaded:
    """As much of models.folder.LoadedModel as predictions need."""

    model: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    calibration: Calibration


class Colour(nn.Module):
    """Logits (B, 3): the mean of each channel; remembers how many images came at a time, and the modes."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.grads: list[bool] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        self.sizes.append(len(images))
        self.grads.append(torch.is_grad_enabled())
        return 4 * images.mean((2, 3))


@pytest.fixture
def loaded() -> Loaded:
    rule = Preprocessing(
        size=(8, 8), crop_pct=1.0, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3, fit="crop"
    )
    return Loaded(Colour().train(), rule, ("red", "green", "blue"), Calibration(1.0, None, "val", 100))


@pytest.fixture
def pictures(make_folders: Callable[..., Path]) -> Path:
    return make_folders({"a-red": 2, "b-green": 2, "c-blue": 2})


def files_of(
    *inputs: str | Path, image_col: str | None = None, root: str | Path | None = None, trained: Trained | None = None
) -> list[str]:
    """The files that `expand_inputs` finds."""
    return [one.file for one in expand_inputs(inputs, image_col=image_col, root=root, trained=trained)]


def by_hand(loaded: Loaded, path: str) -> torch.Tensor:
    """Probabilities (3,) of one file, one at a time."""
    image = loaded.preprocessing(load_image(Path(path)))
    pixels = (image.float() / 255 - 0.5) / 0.5
    return (4 * pixels.mean((1, 2))).double().softmax(0)


@pytest.mark.parametrize(("threads", "batch_size"), [(1, 32), (1, 4), (3, 4), (2, 1)])
def test_rows_come_in_order_with_errors_in_their_place(
    loaded: Loaded, pictures: Path, monkeypatch: pytest.MonkeyPatch, threads: int, batch_size: int
) -> None:
    monkeypatch.setattr("imgkit.machine.cores", lambda: threads)
    files = files_of(pictures)
    bad = pictures / "broken.jpg"
    bad.write_bytes(b"not a picture")
    paths = [files[5], str(bad), files[0], str(pictures / "missing.png"), *files, str(bad)]
    rows = list(predict_files(loaded, paths, top_k=3, batch_size=batch_size))
    assert [row.path for row in rows] == paths
    for row in rows:
        if row.path.endswith(("broken.jpg", "missing.png")):
            assert (row.label, row.prob, row.top) == ("", 0.0, ())
            assert row.error
            assert row.path not in row.error
            continue
        probs = by_hand(loaded, row.path)
        assert row.error == ""
        assert row.label == loaded.classes[int(probs.argmax())]
        assert row.label in row.path
        assert [prob for _, prob in row.top] == pytest.approx(sorted(probs.tolist(), reverse=True), abs=1e-5)
        assert (row.label, row.prob) == row.top[0]
    assert max(loaded.model.sizes) <= batch_size
    assert not any(loaded.model.grads)


def test_a_batch_of_unreadable_files_needs_no_network(loaded: Loaded) -> None:
    rows = list(predict_files(loaded, ["no.png"] * 3))
    assert all(row.error for row in rows)
    assert loaded.model.sizes == []


def test_more_classes_than_there_are_means_all(loaded: Loaded, pictures: Path) -> None:
    (row,) = predict_files(loaded, files_of(pictures)[:1], top_k=9)
    assert len(row.top) == 3


def test_too_many_pixels_is_an_error_of_that_row(loaded: Loaded, pictures: Path) -> None:
    (row,) = predict_files(loaded, files_of(pictures)[:1], max_pixels=100)
    assert row.error


@pytest.mark.parametrize(
    ("precision", "threads", "ahead"), [("float32", 3, 16), ("bfloat16", 3, 96), ("auto", 64, 256)]
)
def test_inputs_are_read_a_bounded_number_ahead(
    loaded: Loaded, pictures: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision, threads: int, ahead: int
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    files = files_of(pictures)
    drawn = 0

    def names() -> Iterator[str]:
        nonlocal drawn
        for number in range(2000):
            drawn += 1
            yield files[number % len(files)]

    most = 0
    for done, _ in enumerate(predict_files(loaded, names(), batch_size=16, precision=precision)):
        most = max(most, drawn - done)
    assert ahead / 2 <= most <= ahead
    assert done == 1999


def test_many_images_in_a_faster_format_have_the_rows_of_float32(
    loaded: Loaded, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgkit.inference.has_half", lambda _: torch.bfloat16)
    monkeypatch.setattr("imgkit.inference.Network._seconds", lambda *_: (1.0, 0.5))
    files, told = files_of(pictures) * 20, []
    files[100] = "gone.png"
    exact = list(predict_files(loaded, files, precision="float32"))
    found = list(predict_files(loaded, files, told=told.append))
    assert [row.path for row in found] == files
    assert ["bfloat16" in line for line in told] == [True]
    assert found[:64] == exact[:64]
    for one, other in zip(found, exact, strict=True):
        assert (one.label, one.error) == (other.label, other.error)
        assert one.probs == pytest.approx(other.probs, abs=0.02)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stopping_early_ends_the_threads(loaded: Loaded, pictures: Path, precision: Precision) -> None:
    import threading

    before = threading.active_count()
    rows = predict_files(loaded, files_of(pictures)[:1] * 100, batch_size=4, precision=precision)
    for _ in range(9):
        next(rows)
    assert threading.active_count() > before
    rows.close()
    assert threading.active_count() == before


def test_the_callers_code_is_not_in_inference_mode(loaded: Loaded, pictures: Path) -> None:
    for _ in predict_files(loaded, files_of(pictures)):
        assert torch.is_grad_enabled()


def test_folders_are_sorted_recursive_and_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "a/x/0.tif", ".hidden/1.png", "a/.secret.png", "notes.txt", "c.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    found = [os.path.relpath(path, tmp_path) for path in files_of(tmp_path)]
    assert found == ["a/x/0.tif", "b/1.png", "b/2.JPG", "c.webp"]


def test_links_to_folders_are_followed_once_as_in_training(tmp_path: Path) -> None:
    for name in ("in/a/1.png", "in/b/2.png", "elsewhere/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "b" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "again").symlink_to("a")
    (tmp_path / "all").symlink_to("in")
    trained = read_folder(tmp_path / "in", "in", training=True)
    for name in ("in", "all"):
        found = [os.path.relpath(path, tmp_path / name) for path in files_of(tmp_path / name)]
        assert found == [row.path for row in trained.rows] == ["a/1.png", "b/2.png", "b/out/3.png"]


@pytest.mark.parametrize("column", [*GUESSES["image"], "Image"])
def test_csv_gives_its_image_column_from_its_folder(tmp_path: Path, column: str) -> None:
    file = tmp_path / "list.csv"
    file.write_text(f'\ufefflabel,{column}\ncat,"a, b.png"\ndog,{tmp_path}/c.png\n\nfox,\n', encoding="utf-8")
    assert files_of(file) == [str(tmp_path / "a, b.png"), str(tmp_path / "c.png"), ""], "one for each row"


def test_a_table_is_read_as_for_training(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("foto;path\na,1.png;x\nb.png;y\n")
    foto, path = [str(tmp_path / "a,1.png"), str(tmp_path / "b.png")], [str(tmp_path / "x"), str(tmp_path / "y")]
    assert files_of(file) == path
    assert files_of(file, trained=Trained(None, tmp_path / "in", "foto")) == foto, "the run's column"
    assert files_of(file, trained=Trained(None, tmp_path / "in", "gone")) == path, "another table"
    assert files_of(file, image_col="path", trained=Trained(None, tmp_path, "foto")) == path


def test_the_table_of_the_training_starts_where_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("own.txt", "other.txt"):
        (tmp_path / name).write_text("path\na.png\n")
    (tmp_path / "link.csv").symlink_to("own.txt")
    (tmp_path / "asked").mkdir()
    monkeypatch.chdir(tmp_path)
    trained = Trained((tmp_path / "own.txt").resolve(), tmp_path / "in", None)
    inputs = ["own.txt", "link.csv", "other.txt"]
    assert files_of(*inputs, trained=trained) == [str(tmp_path / "in" / "a.png")] * 2 + ["a.png"]
    assert files_of(*inputs, root="asked", trained=trained) == ["asked/a.png"] * 3
    assert files_of("own.txt") == ["a.png"], "without the training, at its folder"


def test_a_column_or_root_that_was_asked_for_has_to_be_there(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("foto,path\na.png,b.png\n")
    with pytest.raises(
        DataError, match=r"list\.csv has no column 'fotos' \(did you mean 'foto'\?\)\.\nColumns: foto, path\."
    ):
        list(expand_inputs([file], image_col="fotos"))
    with pytest.raises(DataError, match=r"root of the image paths does not exist: .*gone\nGive an existing --root"):
        list(expand_inputs([file], root=tmp_path / "gone"))


def test_answers_are_called_as_the_table_calls_them(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    cells = ["a.png", "./a.png", str(tmp_path / "c.png"), ""]
    file.write_text("\n".join(["path", *cells[:3], '""']))
    assert [one.given for one in expand_inputs([file])] == cells
    assert [one.given for one in expand_inputs([file], root=tmp_path)] == cells
    assert [one.file for one in expand_inputs([file])] == [str(tmp_path / cell) if cell else "" for cell in cells]


def test_a_table_leads_to_no_file_outside_of_its_root(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "list.csv"
    file.write_text("path\n../a.png\n")
    with pytest.raises(DataError, match=r"list\.csv leads out of .*/in: \.\./a\.png\n.*--root"):
        files_of(file)
    file.write_text(f"path\n{tmp_path}/a.png\n")
    assert files_of(file, root=tmp_path) == [str(tmp_path / "a.png")]


def test_tables_of_the_run_start_where_its_data_do(tmp_path: Path) -> None:
    run, data = tmp_path / "runs" / "one", tmp_path / "cells"
    trained = Trained(data / "labels.csv", data, "foto", run)
    cells = ["a.png", "=1.png", "'=2.png"]
    tables = {
        "data/index.csv": "path,label,split,group,size,sha256",
        "evaluations/test@3/predictions.csv": "path,label,predicted,prob,label_prob,label_rank,p:cat",
        "evaluations/val@3-mean2/predictions.csv": "path,labels,predicted,exact,y:cat,p:cat",
    }
    for name, header in tables.items():
        (run / name).parent.mkdir(parents=True)
        lines = [header, *(guarded(cell) + "," * header.count(",") for cell in cells)]
        (run / name).write_text("\n".join(lines))
        found = list(expand_inputs([run / name], trained=trained))
        assert [one.given for one in found] == cells, name
        assert [one.file for one in found] == [str(data / cell) for cell in cells], name
        assert files_of(run / name, root=tmp_path, trained=trained) == [str(tmp_path / cell) for cell in cells]
    other = run / "evaluations" / "photos-3f9a-test@3" / "predictions.csv"
    other.parent.mkdir()
    other.write_text("path\na.png\n")
    assert files_of(other, trained=trained) == [str(other.parent / "a.png")], "its root is not the run's"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_out_of_memory_is_told(
    loaded: Loaded, pictures: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(images: torch.Tensor) -> None:
        raise error

    monkeypatch.setattr(loaded.model, "forward", fail)
    with pytest.raises(DeviceError, match="Out of memory on cpu while 4 images at a time were scored") as caught:
        list(predict_files(loaded, files_of(pictures), batch_size=4))
    assert "--device cpu" in caught.value.hint


def test_other_errors_of_the_network_stay_what_they_are(
    loaded: Loaded, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.model, "forward", lambda images: images.view(7))
    with pytest.raises(RuntimeError, match="shape"):
        list(predict_files(loaded, files_of(pictures)))


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot be listed: Permission denied"):
        list(expand_inputs([tmp_path]))


def test_csv_without_an_image_column_lists_what_it_has(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("foto,label\n1.png,cat\n")
    with pytest.raises(
        DataError, match=r"list\.csv has no column of images\. Columns: foto, label\.\nName it:  --image-col"
    ):
        list(expand_inputs([file]))
    file.write_text("1.PNG\n2.png\n")
    with pytest.raises(
        DataError, match=r"\nThe first row is an image: put a header above it.*\n.*on stdin:  imgkit predict NAME - < /"
    ):
        list(expand_inputs([file]))
    with pytest.raises(DataError, match=r"gone\.csv cannot be read: No such file"):
        list(expand_inputs([tmp_path / "gone.csv"]))


def test_dash_reads_paths_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"a b.png\r\n\nc\xff.png\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert files_of("-", "missing.png") == ["a b.png", "c\udcff.png", "missing.png"]


def test_expanding_twice_changes_nothing(pictures: Path) -> None:
    once = files_of(pictures, "missing.png")
    assert files_of(*once) == once


def test_probabilities_are_calibrated_and_all_are_told(loaded: Loaded, pictures: Path) -> None:
    path = files_of(pictures)[0]
    (plain,) = predict_files(loaded, [path], top_k=3)
    assert plain.labels == (plain.label,)
    assert dict(zip(loaded.classes, plain.probs, strict=True)) == dict(plain.top)
    loaded.calibration = Calibration(2.0, None, "val", 100)
    (soft,) = predict_files(loaded, [path])
    logits = torch.tensor(plain.probs).log() / 2
    assert soft.probs == pytest.approx(logits.softmax(0).tolist(), abs=1e-5)
    assert soft.label == plain.label


def test_labels_are_those_at_or_above_their_thresholds(loaded: Loaded, pictures: Path) -> None:
    path = files_of(pictures)[0]
    loaded.calibration = Calibration(1.0, dict.fromkeys(loaded.classes, 0.5), "val", 100)
    (plain,) = predict_files(loaded, [path])
    by_name = dict(zip(loaded.classes, plain.probs, strict=True))
    assert (plain.label, plain.labels) == ("red", ("red",))
    assert by_name["red"] > 0.5 > max(by_name["green"], by_name["blue"])
    assert sum(plain.probs) != pytest.approx(1.0)
    for least, labels in (
        ({"red": 0.999, "green": 0.999, "blue": 0.999}, ()),
        (
            {"red": by_name["red"], "green": 0.0001, "blue": 0.999},
            ("red", "green"),
        ),
    ):
        loaded.calibration = Calibration(1.0, least, "val", 100)
        (found,) = predict_files(loaded, [path])
        assert found.labels == labels
        assert (found.label, found.prob) == ("red", by_name["red"])


@given(st.text(max_size=8))
def test_no_cell_is_a_formula_and_none_is_lost(text: str) -> None:
    cell = guarded(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell in (text, f"'{text}")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_get_an_apostrophe(start: str) -> None:
    assert guarded(f"{start}1") == f"'{start}1"
    assert guarded(f"'{start}1") == f"''{start}1"  # so that reading back is unambiguous
    assert guarded(f"1{start}") == f"1{start}"


def test_predictions_are_read_back_as_inputs(tmp_path: Path) -> None:
    paths = ["=1.png", "'=2.png", "'3.png", "4.png"]
    with (tmp_path / "p.csv").open("w", newline="") as file:
        list(write_csv([Prediction(path, "cat", 0.5, (("cat", 0.5), ("@", 0.2))) for path in paths], file, top_k=2))
    assert files_of(tmp_path / "p.csv") == [str(tmp_path / path) for path in paths]
    (tmp_path / "own.csv").write_text("path\n'=1.png\n")
    assert files_of(tmp_path / "own.csv") == [str(tmp_path / "'=1.png")], "a name of the user's"
