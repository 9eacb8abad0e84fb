"""Scoring a finished run again: where, from what, and what is shown instead of scored."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import short_run
from pictures import square
from torch import nn

import imgkit
from imgkit import evaluate, scoring
from imgkit.data.batches import EvalReader
from imgkit.data.load import LoadedData, load_data
from imgkit.data.preprocessing import Preprocessing
from imgkit.energy import Meter
from imgkit.errors import DataError, DeviceError, UsageError
from imgkit.features import BATCH
from imgkit.recipe.schema import DataSettings
from imgkit.screen import Screen


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures in in/, and lists/table.csv, which has them in a column of its own, from in/."""
    folder = tmp_path_factory.mktemp("place")
    rows = []
    for code, kind in enumerate(("a", "b")):
        (folder / "in" / kind).mkdir(parents=True)
        for number in range(15):
            square(100 * code + number, code=code, side_px=32).save(folder / "in" / kind / f"{number}.png")
            rows.append(f"{kind}/{number}.png;{kind}\n")
    (folder / "lists").mkdir()
    (folder / "lists" / "table.csv").write_text(f"foto;kind\n{''.join(rows)}")
    return folder


@pytest.fixture(scope="module")
def run(place: Path, tmp_path_factory: pytest.TempPathFactory) -> imgkit.Run:
    """A finished run of that table, as if trained on a GPU and with as many workers as the machine likes."""
    torch.set_num_threads(1)
    sets = ("data.image_col=foto", "data.label_col=kind", f"data.root={place / 'in'}", "data.test=0.2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.chdir(place / "lists")
        done = short_run(place, *sets, "phases.top.steps=1", "phases.all.epochs=1", data="table.csv")
    file = done.folder.path / "recipe.toml"
    lines = file.read_text().splitlines()
    lines = [line for line in lines if not line.startswith(("workers =", "device ="))]
    lines.insert(lines.index("[run]") + 1, 'device = "cuda"')
    file.write_text("\n".join(lines))
    return done


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """How `score` and the reader that it was given were called, each time; it loads in this process."""
    calls: list[dict[str, Any]] = []
    made: dict[str, Any] = {}
    original = scoring.score

    def score(*given: Any, **named: Any) -> scoring.Scores:  # noqa: ANN401
        calls.append(made | named)
        return original(*given, **named)

    def here(*given: Any, **named: Any) -> EvalReader:  # noqa: ANN401
        made.update(named)
        return EvalReader(*given, **{**named, "workers": 0})

    monkeypatch.setattr(evaluate, "score", score)
    monkeypatch.setattr(evaluate, "EvalReader", here)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    return calls


def test_the_log_of_a_run_begins_with_what_was_said_before_its_folder(run: imgkit.Run) -> None:
    lines = [line.partition("  ")[2] for line in (run.folder.path / "log.txt").read_text().splitlines()]
    assert lines[0].startswith("imgkit ")
    first = next(number for number, line in enumerate(lines) if line.startswith("Writes"))
    assert any(line.startswith("Data    table.csv") for line in lines[:first])
    assert any(line.startswith("note: Split the images") for line in lines[:first])


@pytest.mark.parametrize("split", ["train", None])
def test_a_split_is_scored_once_on_a_device_of_its_own(
    run: imgkit.Run, seen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, split: str | None
) -> None:
    monkeypatch.setattr("imgkit.machine.cores", lambda: 2)
    step = run.folder.read_json("checkpoints/best.json")["step"]
    place = run.folder.path / "evaluations" / f"{split or 'test'}@{step}"
    shutil.rmtree(place, ignore_errors=True)
    first = run.evaluate(split=split)
    assert [(call["device"], call["workers"]) for call in seen] == [(torch.device("cpu"), 1)], "workers as in training"
    assert first["folder"] == str(place)
    text = StringIO()
    assert run.evaluate(split=split, screen=Screen(file=text, width=1000)) == first
    assert len(seen) == 1, "the stored one is shown"
    assert f"scored already: {place}/; remove the folder to score again" in text.getvalue()


@pytest.mark.parametrize("content", ["{", '{"data": "of other images"}', None])
def test_an_evaluation_that_is_not_of_this_split_is_made_again(
    run: imgkit.Run, seen: list[dict[str, Any]], content: str | None
) -> None:
    file = Path(run.evaluate(split="val")["folder"]) / "metrics.json"
    before = json.loads(file.read_text())
    seen.clear()
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    again = run.evaluate(split="val")
    assert len(seen) == 1
    assert again["data"] == before["data"]
    assert json.loads(file.read_text())["f1_macro"] == before["f1_macro"]


def test_other_data_are_scored_each_time(run: imgkit.Run, seen: list[dict[str, Any]], place: Path) -> None:
    for _ in range(2):
        assert run.evaluate(data=place / "in")["n"] == 30
    assert len(seen) == 2


def test_the_table_of_the_training_is_read_as_it_was(
    run: imgkit.Run, seen: list[dict[str, Any]], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert run.evaluate(data="lists/table.csv")["n"] == 30
    answers = list(run.predict("lists/table.csv"))
    with (place / "lists" / "table.csv").open() as table:
        assert [answer.path for answer in answers] == [row["foto"] for row in csv.DictReader(table, delimiter=";")]
    assert [answer.error for answer in answers] == [""] * 30
    shutil.copy(place / "lists" / "table.csv", place / "copy.csv")
    assert all(answer.error for answer in run.predict("copy.csv")), "another table starts at its own folder"
    assert not any(answer.error for answer in run.predict("copy.csv", root="in", image_col="foto"))


def test_predictions_of_a_runs_own_tables_join_back_to_them(run: imgkit.Run, seen: list[dict[str, Any]]) -> None:
    predictions = Path(run.evaluate(split="val")["folder"]) / "predictions.csv"
    for file in (run.folder.path / "data" / "index.csv", predictions):
        with file.open() as table:
            rows = [row["path"] for row in csv.DictReader(table)]
        answers = list(run.predict(file))
        assert [answer.path for answer in answers] == rows, file
        assert [answer.error for answer in answers] == [""] * len(rows), file


def test_a_hidden_folder_gives_an_evaluation_that_is_seen(
    run: imgkit.Run, seen: list[dict[str, Any]], place: Path
) -> None:
    if not (place / ".hid").exists():
        shutil.copytree(place / "in", place / ".hid")
    metrics = run.evaluate(data=place / ".hid")
    name = Path(metrics["folder"]).name
    assert name.startswith("hid-")
    assert name in run.metrics


@pytest.mark.parametrize("device", ["cuda:99", "cuda"])
def test_a_device_that_is_asked_for_is_not_replaced(run: imgkit.Run, device: str) -> None:
    if torch.cuda.is_available() and device == "cuda":
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match=f"--device {device} was asked for"):
        run.evaluate(device=device)
    with pytest.raises(DeviceError, match=f"--device {device} was asked for"):
        next(run.predict("a.png", device=device))


class Large(nn.Module):
    """Does not fit anywhere."""

    def to(self, *_: object, **__: object) -> "Large":
        raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB")


def test_a_network_too_large_for_the_device_is_told(place: Path) -> None:
    index = load_data(DataSettings(path=str(place / "in"), val=0.2)).index
    rule = Preprocessing(size=(8, 8), crop_pct=1.0, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    reader = EvalReader(index, preprocessing=rule, batch_size=BATCH, workers=0, max_pixels=10**6)
    with pytest.raises(DeviceError, match="Out of memory on cpu while 32 images at a time were scored"):
        scoring.score(Large(), reader, index.rows("val"), device=torch.device("cpu"))


def test_energy_is_read_while_images_are_scored(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    for file, content in (("name", "package-0"), ("energy_uj", "1000000"), ("max_energy_range_uj", "9000000")):
        (zone / file).write_text(content)

    class Hungry(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            (zone / "energy_uj").write_text("3500000")
            return images.mean(dim=(2, 3))[:, :2]

    monkeypatch.setattr(scoring, "Meter", lambda: Meter(tmp_path))
    index = load_data(DataSettings(path=str(place / "in"), val=0.2)).index
    rule = Preprocessing(size=(8, 8), crop_pct=1.0, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    reader = EvalReader(index, preprocessing=rule, batch_size=BATCH, workers=0, max_pixels=10**6)
    scores = scoring.score(Hungry(), reader, index.rows("val"), device=torch.device("cpu"))
    assert scores.cost is not None
    assert scores.cost["processor_joules"] == 2.5


def test_images_of_other_data_that_were_trained_on_are_told(
    run: imgkit.Run, seen: list[dict[str, Any]], place: Path, tmp_path: Path
) -> None:
    lines = (run.folder.path / "data" / "index.csv").read_text().splitlines()[1:]
    trained = [line.split(",")[0] for line in lines if line.split(",")[2] == "train"][:3]
    for number, name in enumerate([*trained, "new"]):
        kind = tmp_path / "other" / "a"
        kind.mkdir(parents=True, exist_ok=True)
        if name == "new":
            square(999, code=0, side_px=32).save(kind / "new.png")
        else:
            shutil.copy(place / "in" / name, kind / f"{number}.png")
    text = StringIO()
    run.evaluate(data=tmp_path / "other", screen=Screen(file=text, width=1000))
    assert "warning: 3 of these 4 images were trained on, so their score flatters" in text.getvalue()
    assert len(seen) == 1


def test_stored_scores_need_no_pictures(run: imgkit.Run, seen: list[dict[str, Any]], place: Path) -> None:
    before = run.evaluate(split="val")
    seen.clear()
    (place / "in").rename(place / "moved")
    text = StringIO()
    try:
        assert run.evaluate(split="val", screen=Screen(file=text, width=1000)) == before
        assert "is gone: the data changed since the run began. The scores are of the images as they" in text.getvalue()
        shutil.rmtree(before["folder"])
        with pytest.raises(DataError, match="is gone: the data changed"):
            run.evaluate(split="val")
    finally:
        (place / "moved").rename(place / "in")
    assert seen == []


def test_splits_of_other_data_that_are_scored_together_are_named(
    run: imgkit.Run, seen: list[dict[str, Any]], place: Path, tmp_path: Path
) -> None:
    for split in ("train", "val", "test"):
        shutil.copytree(place / "in" / "a", tmp_path / "other" / split / "a")
    text = StringIO()
    assert run.evaluate(data=tmp_path / "other", screen=Screen(file=text, width=1000))["n"] == 45
    assert (
        f"note: train, val and test of {tmp_path / 'other'}/ (from --data) are scored together; "
        "for one of them alone:  --split test\n"
    ) in text.getvalue()
    text = StringIO()
    assert run.evaluate(data=tmp_path / "other", split="val", screen=Screen(file=text, width=1000))["n"] == 15
    assert run.evaluate(data=place / "in", screen=Screen(file=text, width=1000))["n"] == 30
    assert "scored together" not in text.getvalue()


def test_contents_are_compared_with_a_line_of_progress(run: imgkit.Run, seen: list[dict[str, Any]]) -> None:
    labels = []

    class Watching(Screen):
        @contextmanager
        def progress(self, label: str) -> Iterator[Callable[[int, int], None]]:
            calls: list[int] = []
            yield lambda done, total: calls.append(done)
            labels.append((label, len(calls) > 0))

    shutil.rmtree(run.evaluate(split="val")["folder"])
    run.evaluate(split="val", screen=Watching(quiet=True))
    assert labels == [("checking images", True), ("scoring", True), ("pictures", True)]


def test_columns_of_splits_and_groups_are_the_runs(tmp_path: Path, seen: list[dict[str, Any]], place: Path) -> None:
    lines = ["path,label,fold,patient\n"]
    for number, split in enumerate(["train"] * 8 + ["val"] * 3 + ["test"] * 4):
        lines += [f"in/{kind}/{number}.png,{kind},{split},{kind}{number}\n" for kind in "ab"]
    (tmp_path / "table.csv").write_text("".join(lines))
    (tmp_path / "in").symlink_to(place / "in")
    sets = ("data.split_col=fold", "data.group_col=patient", f"data.root={place}", "phases.top.steps=1")
    done = short_run(tmp_path, *sets, "phases.all.epochs=1", data=str(tmp_path / "table.csv"))
    assert done.evaluate(data=tmp_path / "table.csv", split="test")["n"] == 8
    assert done.evaluate(data=tmp_path / "table.csv", split="train")["n"] == 16
    (place / "none.csv").write_text("".join(",".join(line.split(",")[:2]) + "\n" for line in lines))
    assert done.evaluate(data=place / "none.csv")["n"] == 30, "a table without the columns is scored as a whole"
    other = DataSettings(path=str(place / "other.csv"), split_col="part")
    (place / "other.csv").write_text("".join(lines).replace("fold", "part", 1))
    assert done.evaluate(data=other, split="val")["n"] == 6


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_data_without_splits_have_none(run: imgkit.Run, seen: list[dict[str, Any]], place: Path, split: str) -> None:
    with pytest.raises(UsageError, match=rf"in/ \(from --data\) names no splits, .* no split '{split}'") as caught:
        run.evaluate(data=place / "in", split=split)
    assert "Leave out --split: all images are scored." in caught.value.hint
    assert seen == []


def test_rows_without_a_split_are_no_test(
    run: imgkit.Run, seen: list[dict[str, Any]], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = evaluate.load_data

    def load(*given: Any, **named: Any) -> LoadedData:  # noqa: ANN401
        """As a source of a plugin gives them: some rows are test, others name no split."""
        found = original(*given, **named)
        return replace(found, named=np.arange(len(found.index)) < 5)

    monkeypatch.setattr(evaluate, "load_data", load)
    text = StringIO()
    assert run.evaluate(data=place / "in", screen=Screen(file=text, width=1000))["n"] == 30
    assert "scored together" not in text.getvalue()
    assert run.evaluate(data=place / "in", split="test")["n"] == 5
    with pytest.raises(UsageError, match="There is no split 'val' in these data") as caught:
        run.evaluate(data=place / "in", split="val")
    assert caught.value.hint == "There are: test."


def test_larger_images_are_opened_where_that_is_asked_for(
    run: imgkit.Run, seen: list[dict[str, Any]], place: Path
) -> None:
    with pytest.raises(DataError, match=r"is [0-9,]+ pixels, over the limit of 1,000 .* --max-pixels"):
        run.evaluate(data=place / "in", max_pixels=1000)
    assert run.evaluate(data=place / "in", max_pixels=2000)["n"] == 30
    assert seen[-1]["max_pixels"] == 2000, "also while they are scored"
    assert run.evaluate(data=place / "in")["n"] == 30
    assert seen[-1]["max_pixels"] == 64_000_000
    with pytest.raises(UsageError, match="max_pixels is not used: it is for other data"):
        run.evaluate(max_pixels=1000)
    (answer,) = run.predict(place / "in" / "a" / "0.png", max_pixels=1000)
    assert "over the limit of 1,000" in answer.error
    (answer,) = run.predict(place / "in" / "a" / "0.png")
    assert answer.error == ""
