"""Data that were moved since a run began."""

import shutil
from io import StringIO
from pathlib import Path

import pytest
import torch
from oracle import fingerprint, short_run
from pictures import square

import imgkit
from imgkit.errors import DataError, Interrupted
from imgkit.screen import Screen


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    lines = ["path,label\n"]
    for number in range(24):
        name = f"{'ab'[number % 2]}{number}.png"
        (tmp_path / "here").mkdir(exist_ok=True)
        square(number, code=number % 2, side_px=32).save(tmp_path / "here" / name)
        lines.append(f"{name},{name[0]}\n")
    (tmp_path / "here" / "table.csv").write_text("".join(lines))
    return tmp_path / "here"


def test_a_run_finds_its_data_where_they_are_now(data: Path, tmp_path: Path) -> None:
    run = short_run(tmp_path, "phases.top.steps=1", "phases.all.epochs=1", data=str(data / "table.csv"))
    there = data.rename(tmp_path / "there")
    with pytest.raises(DataError, match="is gone") as caught:
        run.evaluate(split="train")
    assert "If the data were moved:  --root FOLDER" in caught.value.hint
    with pytest.raises(DataError, match=r"The root of the images does not exist: .*nowhere"):
        run.evaluate(split="train", root=tmp_path / "nowhere")
    text = StringIO()
    metrics = run.evaluate(split="train", root=there, screen=Screen(file=text, width=1000))
    assert f"note: the data of run are read from {there} from now on" in text.getvalue()
    assert run.evaluate(split="train") == metrics, "it is remembered"
    about = run.folder.read_json("run.json")
    assert [one["path"] for one in about["data"]["tables"]] == [str(there / "table.csv")]
    assert not any(answer.error for answer in run.predict(there / "table.csv")), "the table is its own, still"
    del about["data"]["tables"]  # as of a run that was made before it was kept
    run.folder.write_json("run.json", about)
    run.evaluate(split="train", root=there)
    assert "tables" not in run.folder.read_json("run.json")["data"]


def test_another_image_in_the_same_place_is_not_taken(data: Path, tmp_path: Path) -> None:
    run = short_run(tmp_path, "phases.top.steps=1", "phases.all.epochs=1", data=str(data / "table.csv"))
    before = run.folder.read_json("run.json")
    shutil.copytree(data, tmp_path / "other")
    square(99, code=0, side_px=32).save(tmp_path / "other" / "a0.png")
    with pytest.raises(DataError, match=r"other/a0\.png has"):
        run.evaluate(split="train", root=tmp_path / "other")
    assert run.folder.read_json("run.json") == before


def test_a_resume_on_moved_data_comes_to_the_same_bits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fingerprint(short_run(tmp_path / "whole", "phases.all.epochs=1", data=str(data / "table.csv")))
    original = Screen.update

    def stop(screen: Screen, step: int, *rest: object) -> None:
        if step == 4:
            raise Interrupted("stop")
        original(screen, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Screen, "update", stop)
        with pytest.raises(Interrupted):
            short_run(tmp_path / "cut", "phases.all.epochs=1", data=str(data / "table.csv"))
    there = data.rename(tmp_path / "there")
    with pytest.raises(DataError, match="is gone"):
        imgkit.resume("run", out=tmp_path / "cut" / "runs")
    assert fingerprint(imgkit.resume("run", out=tmp_path / "cut" / "runs", root=there)) == expected
