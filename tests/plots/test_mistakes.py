from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plot_data import plotted_run

from imgkit.errors import DiskError
from imgkit.evaluations import write_evaluation
from imgkit.plots import mistakes
from imgkit.plots.mistakes import write_mistakes
from imgkit.run import RunFolder
from imgkit.sheet import Sheet, draw_sheet

CLASSES = ["=cat", "猫", "eel", "fox", "gnu", "hen"]
BEST = {"step": 21, "metric": "val/loss", "value": 0.5}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Sheet]:
    """The sheets that are drawn."""
    sheets: list[Sheet] = []
    monkeypatch.setattr(mistakes, "draw_sheet", lambda sheet: sheets.append(sheet) or draw_sheet(sheet))
    return sheets


def pictures(root: Path, paths: Sequence[str]) -> None:
    root.mkdir()
    for number, path in enumerate(paths):
        Image.new("RGB", (10, 20), (number, 100, 200)).save(root / path)


def logits_of(probs: Sequence[float], answers: Sequence[int]) -> np.ndarray:
    """Logits (N, K) whose softmax gives the answers these probabilities and the others the same rest."""
    found = np.empty((len(probs), len(CLASSES)))
    for row, (prob, answer) in enumerate(zip(probs, answers, strict=True)):
        found[row] = np.log((1 - prob) / (len(CLASSES) - 1))
        found[row, answer] = np.log(prob)
    return found.astype(np.float32)


def scored(
    tmp_path: Path,
    split: str,
    paths: Sequence[str],
    truth: Sequence[int],
    answers: Sequence[int],
    probs: Sequence[float],
) -> RunFolder:
    """A run with an evaluation, and its pictures."""
    root, folder = tmp_path / "pictures", RunFolder(tmp_path / "one")
    if not root.exists():
        pictures(root, paths)
        plotted_run(tmp_path, best=BEST, classes=CLASSES, root=root)
    write_evaluation(
        folder.path / "evaluations" / f"{split}@21",
        paths=paths,
        targets=np.array(truth),
        logits=logits_of(probs, answers),
        classes=CLASSES,
        split=split,
        step=21,
        seed=0,
        extra={},
    )
    return folder


def test_the_surest_wrong_answers_come_first(tmp_path: Path, shown: list[Sheet]) -> None:
    paths = ["a.png", "b.png", "=c.png", "d.png"]
    folder = scored(tmp_path, "val", paths, [0, 1, 2, 0], [1, 1, 0, 3], [0.6, 0.99, 0.9, 0.7])
    said: list[str] = []
    assert write_mistakes(folder, tmp_path, said.append) == tmp_path / "worst-mistakes.png"
    (sheet,) = shown
    tiles = sheet.rows[0]
    assert [tile.caption for tile in tiles] == [
        ("eel", "→ =cat 0.900"),
        ("=cat", "→ fox 0.700"),
        ("=cat", "→ 猫 0.600"),
    ]
    assert [tile.picture.getpixel((0, 0))[0] for tile in tiles if tile.picture] == [2, 3, 0], "the picture of each"
    assert {tile.picture.size for tile in tiles if tile.picture} == {(80, 160)}
    assert sheet.title.startswith("3 surest of 3 wrong answers on val, 4 images")
    assert said == []


def test_test_comes_before_val(tmp_path: Path, shown: list[Sheet]) -> None:
    scored(tmp_path, "val", ["a.png"], [0], [1], [0.6])
    folder = scored(tmp_path, "test", ["a.png"], [0], [2], [0.6])
    write_mistakes(folder, tmp_path, print)
    assert shown[0].rows[0][0].caption == ("=cat", "→ eel 0.600")


def test_pictures_that_are_gone_are_left_out_and_it_is_said(tmp_path: Path, shown: list[Sheet]) -> None:
    folder = scored(tmp_path, "val", ["a.png", "b.png", "c.png"], [0, 0, 0], [1, 1, 1], [0.9, 0.8, 0.7])
    (tmp_path / "pictures" / "a.png").unlink()
    (tmp_path / "pictures" / "b.png").write_bytes(b"no picture")
    said: list[str] = []
    write_mistakes(folder, tmp_path, said.append)
    assert [tile.caption[1] for tile in shown[0].rows[0]] == ["→ 猫 0.700"]
    assert said == ["2 wrong answers on val left out: the picture is not there any more, or cannot be read"]
    (tmp_path / "pictures" / "c.png").unlink()
    assert write_mistakes(folder, tmp_path, said.append) is None
    assert said[-1].startswith("no worst-mistakes.png: no picture is left. Data that were moved:  imgkit evaluate ")


def test_there_are_at_most_24(tmp_path: Path, shown: list[Sheet]) -> None:
    paths = [f"{number:02d}.png" for number in range(30)]
    folder = scored(tmp_path, "val", paths, [0] * 30, [1] * 30, [0.5 + number / 100 for number in range(30)])
    write_mistakes(folder, tmp_path, print)
    tiles = [tile for row in shown[0].rows for tile in row]
    assert [len(row) for row in shown[0].rows] == [6, 6, 6, 6]
    assert tiles[0].caption[1].endswith(" 0.790")
    assert tiles[-1].caption[1].endswith(" 0.560")


def test_no_mistake_and_no_score_are_said(tmp_path: Path) -> None:
    folder, said = plotted_run(tmp_path / "a", best=BEST), list[str]()
    assert write_mistakes(folder, tmp_path, said.append) is None
    assert said.pop() == "no worst-mistakes.png: nothing was scored yet"
    assert write_mistakes(scored(tmp_path, "val", ["a.png"], [0], [0], [0.9]), tmp_path, said.append) is None
    assert said.pop() == "no worst-mistakes.png: no answer on val is wrong, of 1"


def test_several_labels_tell_the_worst_one(tmp_path: Path, shown: list[Sheet]) -> None:
    names = ["a|b", "dog", "eel"]
    root = tmp_path / "pictures"
    folder = plotted_run(tmp_path, best=BEST, classes=names, task="multilabel", root=root)
    pictures(root, ["0.png", "1.png", "2.png"])
    probs = np.array([[0.9, 0.25, 0.6], [0.8, 0.2, 0.1], [0.1, 0.2, 0.05]])
    write_evaluation(
        folder.path / "evaluations" / "val@21",
        paths=["0.png", "1.png", "2.png"],
        targets=np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=np.float32),
        logits=np.log(probs / (1 - probs)).astype(np.float32),
        classes=names,
        split="val",
        step=21,
        seed=0,
        extra={},
    )
    write_mistakes(folder, tmp_path, print)
    assert [tile.caption for tile in shown[0].rows[0]] == [
        ("eel", "→ not eel 0.050"),
        ("no label", "→ a|b 0.800"),
        ("a|b + dog", "→ not dog 0.250"),
    ]


@pytest.mark.parametrize("text", [None, "path\n1\n", "path,label,predicted,prob\na,b,c,much\n"])
def test_a_damaged_table_is_told(tmp_path: Path, text: str | None) -> None:
    folder = scored(tmp_path, "val", ["a.png"], [0], [1], [0.9])
    file = folder.path / "evaluations" / "val@21" / "predictions.csv"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(DiskError):
        write_mistakes(folder, tmp_path, print)


def test_an_unfinished_run_shows_its_best_so_far(tmp_path: Path, shown: list[Sheet]) -> None:
    folder = scored(tmp_path, "val", ["a.png"], [0], [1], [0.9])
    folder.set_status("running", step=31, total_steps=40)
    rows = folder.history()
    folder.write_rows("history.jsonl", [{**row, "best": row["step"] in (11, 21)} for row in rows])
    assert write_mistakes(folder, tmp_path, print) is not None
    assert len(shown) == 1
