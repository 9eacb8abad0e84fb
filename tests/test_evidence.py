"""The pictures beside an evaluation, from the files of a run."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from multilabel_data import write_patches
from oracle import short_run
from PIL import Image
from torch import nn

import imgkit
from imgkit import evidence
from imgkit.cam import NoMap
from imgkit.errors import DiskError, Interrupted
from imgkit.evaluate import load_run_model, read_index
from imgkit.evidence import LONGER_SIDE, Images
from imgkit.metrics import Scored, score

SHORT = ("phases.top.steps=1", "phases.all.epochs=2", "model.image_size=64", "data.val=0.3", "data.test=0.2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with EXIF and a colour profile, of 90 x 60 and of 300 x 200 pixels; nothing can be learned of them."""
    torch.set_num_threads(1)
    folder, rng = tmp_path_factory.mktemp("evidence"), np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    for kind in ("=a", "b"):
        (folder / "in" / kind).mkdir(parents=True)
        for number in range(16):
            size = (200, 300) if number % 2 else (60, 90)
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "in" / kind / f"{number}.jpg", exif=exif, icc_profile=b"secret" * 99)
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> imgkit.Run:
    return short_run(place, *SHORT, data=str(place / "in"))


def listed(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "images.json").read_text())
    return found


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def contents(folder: Path) -> dict[str, bytes]:
    files = [folder / "images.json", *(folder / "images").iterdir()]
    return {file.name: file.read_bytes() for file in files}


def again(run: imgkit.Run, split: str = "val") -> Path:
    """Score a split anew."""
    step = run.folder.read_json("checkpoints/best.json")["step"]
    shutil.rmtree(run.folder.path / "evaluations" / f"{split}@{step}")
    return Path(run.evaluate(split=split, device="cpu")["folder"])


def test_a_training_leaves_pictures_of_its_final_evaluations_alone(run: imgkit.Run) -> None:
    final = {name for name, metrics in run.metrics.items() if "calibration" in metrics}
    assert {name.partition("@")[0] for name in final} == {"val", "test"}
    assert len(run.metrics) > len(final), "the other epochs' evaluations"
    for name in run.metrics:
        folder = run.folder.path / "evaluations" / name
        assert (folder / "images.json").exists() == (folder / "images").exists() == (name in final)
        if name == "val@1":  # of the solved head, which was asked on features
            assert not (folder / "cost.json").exists()
        else:
            assert json.loads((folder / "cost.json").read_text())["images"] == run.metrics[name]["n"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_entries_are_rows_of_the_predictions(run: imgkit.Run, split: str) -> None:
    step = run.folder.read_json("checkpoints/best.json")["step"]
    folder = run.folder.path / "evaluations" / f"{split}@{step}"
    found, rows = listed(folder), rows_of(folder)
    assert (found["schema"], found["longer_side"], found["left_out"]) == (1, LONGER_SIDE, [])
    assert "note" not in found
    wrong = sorted((row for row in rows if row["label"] != row["predicted"]), key=lambda row: -float(row["prob"]))
    told = [rows[image["row"]]["path"] for image in found["images"] if "mistake" in image["why"]]
    assert told == [row["path"] for row in wrong][:24]
    for number, image in enumerate(found["images"]):
        row = rows[image["row"]]
        assert [image["path"], image["cam_of"]] == [row[key].removeprefix("'") for key in ("path", "predicted")]
        assert (image["file"], image["cam"]) == (f"{number:04d}.webp", f"{number:04d}-cam.webp")
    files = {image[key] for image in found["images"] for key in ("file", "cam")}
    assert {file.name for file in (folder / "images").iterdir()} == files


def test_pictures_are_small_and_hold_nothing_but_pixels(run: imgkit.Run, place: Path) -> None:
    folder = Path(run.evaluate(split="val")["folder"])
    for image in listed(folder)["images"]:
        for name in (image["file"], image["cam"]):
            content = (folder / "images" / name).read_bytes()
            assert content[12:16] == b"VP8 ", "the plain form, which has no room for anything else"
            assert not any(word in content for word in (b"EXIF", b"ICCP", b"XMP", b"secret", b"home"))
            with Image.open(folder / "images" / name) as shown:
                assert (shown.format, shown.size) == ("WEBP", (112, 75))
    sizes = [file.stat().st_size for file in (folder / "images").iterdir()]
    assert max(sizes) < 6000, "noise, which nothing compresses; photographs take about 1,500"


def test_the_same_evaluation_gives_the_same_bytes(run: imgkit.Run) -> None:
    first = contents(again(run))
    assert len(first) > 4
    assert contents(again(run)) == first


def test_the_network_answers_as_before(run: imgkit.Run, tmp_path: Path) -> None:
    index, loaded = read_index(run.folder, run.folder.read_json("run.json")), load_run_model(run.folder)
    model, rows = loaded.model, np.arange(len(index))
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scored = score(np.full((len(index), 2), 0.5), np.asarray(index.targets(), dtype=np.int64))
    done: list[tuple[int, int]] = []
    Images(model, index, rows, loaded.preprocessing, 10**6, lambda *place: done.append(place))(tmp_path, scored)
    assert done == [(8, 28), (16, 28), (24, 28), (28, 28)], "16 are wrong, and 12 of those that are right are told"
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_a_picture_that_is_gone_is_said_and_stops_nothing(
    run: imgkit.Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone after it was scored: before that, the run's own data are compared."""
    whole = listed(Path(run.evaluate(split="val")["folder"]))["images"]
    lost = place / "in" / whole[1]["path"]
    original = evidence.choose_rows

    def lose(scored: Scored) -> Any:  # noqa: ANN401
        lost.rename(tmp_path / "lost.jpg")
        return original(scored)

    monkeypatch.setattr(evidence, "choose_rows", lose)
    try:
        found = listed(again(run))
    finally:
        (tmp_path / "lost.jpg").rename(lost)
    assert found["left_out"] == [
        {"row": whole[1]["row"], "path": whole[1]["path"], "reason": "No such file or directory"}
    ]
    assert [image["row"] for image in found["images"]] == [image["row"] for image in whole if image != whole[1]]
    assert [image["file"] for image in found["images"]] == [f"{number:04d}.webp" for number in range(len(whole) - 1)]
    monkeypatch.undo()
    again(run)


def fails(error: Exception) -> Callable[..., torch.Tensor]:
    def grad_cam(model: nn.Module, images: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        raise error

    return grad_cam


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (NoMap("Odd has no places"), "this network gives no maps: Odd has no places"),
        (RuntimeError("out of\x1b memory"), "no maps could be made: RuntimeError: out of\\x1b memory"),
    ],
)
def test_without_maps_there_are_pictures_and_a_note(
    run: imgkit.Run, monkeypatch: pytest.MonkeyPatch, error: Exception, note: str
) -> None:
    monkeypatch.setattr(evidence, "grad_cam", fails(error))
    folder = again(run)
    found = listed(folder)
    assert found["note"] == note
    assert [(image["cam"], image["cam_of"]) for image in found["images"]] == [(None, None)] * len(found["images"])
    assert {file.name for file in (folder / "images").iterdir()} == {image["file"] for image in found["images"]}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Interrupted("stopped")])
def test_an_evaluation_is_old_or_new_with_its_pictures(
    run: imgkit.Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    folder = again(run)
    metrics, before = (folder / "metrics.json").read_bytes(), contents(folder)
    (folder / "metrics.json").write_text("{}")  # not of this split: it is made again
    original, saved = evidence._save, list[Path]()

    def save(picture: Image.Image, file: Path) -> None:
        if len(saved) == 3:
            raise error
        saved.append(file)
        original(picture, file)

    monkeypatch.setattr(evidence, "_save", save)
    with pytest.raises(DiskError if isinstance(error, OSError) else Interrupted):
        run.evaluate(split="val", device="cpu")
    assert (folder / "metrics.json").read_text() == "{}"
    assert contents(folder) == before
    assert not [entry for entry in folder.parent.iterdir() if entry.name.startswith(".")]
    monkeypatch.undo()
    run.evaluate(split="val", device="cpu")
    assert (folder / "metrics.json").read_bytes() == metrics


def test_pictures_are_stored_unless_they_are_not_wanted(run: imgkit.Run, place: Path) -> None:
    found = run.evaluate(data=place / "in", device="cpu", images=False)
    folder = Path(found["folder"])
    assert not [name for name in ("images", "images.json") if (folder / name).exists()]
    assert (folder / "cost.json").exists()
    assert run.evaluate(data=place / "in", device="cpu") == found
    assert 0 < len(listed(folder)["images"]) == len([*(folder / "images").iterdir()]) // 2


def test_several_labels_are_shown_by_their_worst_answers(tmp_path: Path) -> None:
    write_patches(tmp_path / "data", n=60)
    sets = ("data.label_delimiter=;", "phases.top.steps=1", "phases.all.epochs=1", "model.image_size=64")
    run = short_run(tmp_path, *sets, data=str(tmp_path / "data" / "patches.csv"))
    name = next(name for name, metrics in run.metrics.items() if "calibration" in metrics)
    folder = run.folder.path / "evaluations" / name
    found, rows, classes = listed(folder), rows_of(folder), run.folder.read_json("run.json")["classes"]
    assert found["images"]
    for image in found["images"]:
        row = rows[image["row"]]
        answers = {label: label in row["predicted"].split("|") for label in classes}
        sure = {
            label: float(row[f"p:{label}"]) if answers[label] else 1 - float(row[f"p:{label}"]) for label in classes
        }
        wrong = [label for label in classes if answers[label] != (row[f"y:{label}"] == "1")]
        if "unsure" in image["why"]:
            assert not wrong
            assert sure[image["cam_of"]] == min(sure.values())
        else:
            assert image["cam_of"] in wrong
        if "mistake" in image["why"]:
            assert sure[image["cam_of"]] == max(sure[label] for label in wrong)


def test_a_network_that_leaves_one_place_says_so(tmp_path: Path) -> None:
    run = short_run(tmp_path, "phases.top.steps=1", "phases.all.epochs=1")  # 32 pixels
    (name,) = (name for name, metrics in run.metrics.items() if "calibration" in metrics)
    found = listed(run.folder.path / "evaluations" / name)
    assert found["note"] == "this network gives no maps: ResNet leaves a single place of 32 × 32 pixels to its head"
