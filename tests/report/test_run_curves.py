import re
from pathlib import Path

from page_reader import read_page, text_of
from page_runs import make_run

from imgkit.report.run_curves import charts_of, epoch_table


def test_curves_have_their_phases_and_the_chosen_epoch(tmp_path: Path) -> None:
    charts = charts_of(make_run(tmp_path))
    texts = [text_of(chart) for chart in charts]
    assert [text.split(" ")[0] for text in texts] == ["Loss", "Accuracy", "F1", "Learning"]
    assert all({"head", "all"} <= set(text.split()) for text in texts[:3])
    assert "Lowest val loss: 0.275, epoch 4. Chosen by val/f1_macro: epoch 4." in texts[0]
    assert "F1, %" in texts[2]
    assert read_page(charts[0]).elements["rect"] == 1, "the second phase is shaded"


def test_one_epoch_makes_no_curve(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    folder.write_rows("history.jsonl", folder.history()[:1])
    assert charts_of(folder) == []
    folder.write_rows("history.jsonl", [])
    assert charts_of(folder) == []


def test_epochs_as_a_table(tmp_path: Path) -> None:
    folder = make_run(tmp_path, sets=True)
    rows = [*folder.history(), {"epoch": 5, "step": 50, "phase": "all", "train_loss": None, "val/loss": 0.25}]
    header, cells = epoch_table(rows)
    assert header == [
        "epoch",
        "phase",
        "learning rate",
        "train loss",
        "val loss",
        "val macro F1, %",
        "val mAP, %",
        "images/s",
        "best",
    ]
    assert cells[1] == ["2", "all", "0.0005", "0.5000", "0.5500", "60.0", "60.0", "321", "★"]
    assert cells[-1] == ["5", "all", "", "", "0.2500", "", "", "", ""]


def test_epochs_are_whole(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    folder.write_rows("history.jsonl", folder.history()[:2])
    for chart in charts_of(folder):
        beside = re.findall(r'text-anchor="middle">([\d.]+)</text>', chart)
        assert beside == ["1", "2"]
