import io
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from sample_runs import write_run

from imgkit.errors import DiskError
from imgkit.report.collect import collect
from imgkit.report.leaderboard import csv_text, markdown
from imgkit.report.table import print_run, print_runs
from imgkit.run import RunFolder
from imgkit.screen import Screen
from imgkit.terminal import make_console

LONG = "20261122-114210-123-finetune-tf_efficientnet_lite0-cells-3f9b"


def printed(out: Path, width: int) -> str:
    file = io.StringIO()
    print_runs(collect(out), make_console(file, width=width))
    return file.getvalue()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_run(tmp_path, LONG, f1=0.9)
    write_run(tmp_path, "second", f1=0.7)
    write_run(tmp_path, "failed", f1=None, state="failed")
    write_run(tmp_path, "other", f1=0.95, fingerprint="bb" * 32, split="test", created="2025-01-01")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("[]")
    return tmp_path


@pytest.mark.parametrize("width", [60, 80, 140, 200])
def test_table_fits_and_cuts_no_name(runs: Path, width: int) -> None:
    text = printed(runs, width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    first = text.split("second")[0]
    column = first.splitlines()[1].index("run")
    shown = "".join(line[column:].split()[0] for line in first.splitlines()[2:] if line[column:].strip()[:1])
    assert LONG in shown


def test_scores_and_states_are_on_every_screen(runs: Path) -> None:
    for width in (60, 80, 200):
        text = printed(runs, width)
        for part in ("90.0 %", "70.0 %", "failed", "finished", "broken:", "data bbbbbbbb"):
            assert part in text


def test_equal_scores_share_a_rank(tmp_path: Path) -> None:
    for name, f1 in (("one", 0.9), ("two", 0.8), ("three", 0.8), ("four", 0.7)):
        write_run(tmp_path, name, f1=f1)
    rows = [line.split() for line in printed(tmp_path, 200).splitlines() if "resnet50" in line]
    assert {row[1]: row[0] for row in rows} == {"one": "1", "two": "2", "three": "2", "four": "4"}


def test_wide_screens_show_more(runs: Path) -> None:
    assert "23.6 M" not in printed(runs, 80).split("data bbbbbbbb")[0]
    assert "23.6 M" in printed(runs, 200).split("data bbbbbbbb")[0]
    assert "84.0 to 93.0" in printed(runs, 200)


def test_control_characters_of_names_stay_off_the_screen(tmp_path: Path) -> None:
    write_run(tmp_path, "one", model="a\x1b[31m\u202e", data="b\x1b]0;x\x07")
    text = printed(tmp_path, 200)
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert "a\\x1b[31m" in text


def test_one_run(tmp_path: Path) -> None:
    write_run(tmp_path, "one", f1=0.8)
    file = io.StringIO()
    print_run(RunFolder(tmp_path / "one"), Screen(file=file, width=80))
    text = file.getvalue()
    assert "Run     one\n        finished\n" in text
    assert "3 classes · train 300 · val 100\n" in text
    assert "val@10  top-1 90.0 % (85.0 to 92.0) · macro F1 80.0 % (74.0 to 83.0) · 100" in text
    assert "always answering 'cat' gives top-1 40.0 % · macro F1 19.0 %" in " ".join(text.split())
    assert "★" in text


def test_the_epochs_of_a_run_show_what_chose_the_best(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one", f1=0.8)
    status = folder.read_json("status.json")
    folder.write_json("status.json", status | {"best": status["best"] | {"metric": "val/loss_calibrated"}})
    folder.write_rows("history.jsonl", [{**row, "val/loss_calibrated": 0.321} for row in folder.history()])
    file = io.StringIO()
    print_run(folder, Screen(file=file, width=80))
    assert "cal. loss" in file.getvalue()
    assert "0.321" in file.getvalue()


def test_a_handful_of_images_has_no_interval(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one", f1=1.0)
    place = "evaluations/val@10/metrics.json"
    metrics = folder.read_json(place)
    folder.write_json(place, metrics | {"intervals": metrics["intervals"] | {"f1_macro": None}})
    assert "100.0 %  none " in printed(tmp_path, 200)
    runs = collect(tmp_path)
    assert "| 100.0 % (too few images or mistakes for an interval) | 90.0 % (85.0 to 92.0) |" in markdown(runs)
    assert ",1.000000,,,,,,,,,23600000," in csv_text(runs)
    file = io.StringIO()
    print_run(folder, Screen(file=file, width=200))
    assert "macro F1 100.0 % (too few images or mistakes for an interval) · 100 images" in file.getvalue()


def test_one_broken_run(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DiskError, match=r"run\.json cannot be read"):
        print_run(RunFolder(tmp_path), Screen(file=io.StringIO(), width=200))


@pytest.mark.parametrize(("file", "text"), [("run.json", '"classes": 3'), ("history.jsonl", "3\n")])
def test_content_that_is_not_expected_is_told(tmp_path: Path, file: str, text: str) -> None:
    folder = write_run(tmp_path, "one", f1=None)
    place = folder.path / file
    place.write_text(re.sub(r'"classes": \[[^]]*\]', text, place.read_text()) if place.exists() else text)
    with pytest.raises(DiskError, match="one has unexpected content"):
        print_run(folder, Screen(file=io.StringIO(), width=200))


def test_one_run_tells_each_score_once_and_in_order(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one", f1=0.8)
    (row,) = folder.history()
    folder.write_rows("history.jsonl", [row | {"step": 9}, row, row | {"step": 11, "best": False}])
    for name in ("val@9", "val@11", "test@10", "train@10"):
        place = folder.path / "evaluations" / name
        place.mkdir()
        (place / "metrics.json").write_text((folder.path / "evaluations" / "val@10" / "metrics.json").read_text())
    file = io.StringIO()
    print_run(folder, Screen(file=file, width=120))
    told = [line.split()[0] for line in file.getvalue().splitlines() if "@" in line]
    assert told == ["test@10", "train@10", "val@10"]
    assert len({line.index("top-1") for line in file.getvalue().splitlines() if "@" in line}) == 1


def test_a_bug_of_the_printing_is_not_called_a_damaged_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise KeyError("a bug")

    folder = write_run(tmp_path, "one")
    monkeypatch.setattr("imgkit.report.table.scores", fail)
    with pytest.raises(KeyError, match="a bug"):
        print_run(folder, Screen(file=io.StringIO(), width=200))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("history.jsonl", '{"step": 10, "seconds": 1, "val/loss": "low"}\n'),
        ("history.jsonl", '{"seconds": 1}\n'),
        ("evaluations/train@10/metrics.json", "{}"),
    ],
)
def test_damage_is_told_before_anything_is_printed(tmp_path: Path, file: str, text: str) -> None:
    folder = write_run(tmp_path, "one")
    (folder.path / file).parent.mkdir(exist_ok=True)
    (folder.path / file).write_text(text)
    shown = io.StringIO()
    with pytest.raises(DiskError, match="one has unexpected content") as caught:
        print_run(folder, Screen(file=shown, width=200))
    assert (caught.value.exit_code, shown.getvalue()) == (7, "")
