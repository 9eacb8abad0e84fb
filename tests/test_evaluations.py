import ast
import csv
import importlib.util
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from imgkit.calibration import calibrate
from imgkit.cells import bare
from imgkit.errors import DataError, DiskError, DivergedError
from imgkit.evaluations import write_evaluation
from imgkit.metrics import Ints, summarise

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "recompute_metrics.py"
NASTY = [
    "=1+1",
    "+a",
    "-b",
    "@c",
    "\td",
    "\re",
    "'=f",
    "''=g",
    "'h",
    'quote"d',
    "com,ma",
    "two\nlines",
    "NA",
    "01",
    "ñ",
]


class Row(NamedTuple):
    path: str
    label: str
    predicted: str
    label_rank: int


def read_predictions(folder: Path) -> list[Row]:
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        return [
            Row(*(bare(row[name]) for name in ("path", "label", "predicted")), int(row["label_rank"])) for row in rows
        ]


def read_metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


def recompute(folder: Path) -> int:
    spec = importlib.util.spec_from_file_location("recompute_metrics", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return int(module.main([str(folder)]))


def write(
    folder: Path,
    *,
    classes: Sequence[str] = ("cat", "dog", "emu"),
    n: int = 40,
    seed: int = 0,
    paths: Sequence[str] | None = None,
    absent: Sequence[int] = (),
    extra: Mapping[str, object] | None = None,
    rounded: bool = False,
) -> tuple[dict[str, Any], Ints, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    targets = rng.choice([c for c in range(len(classes)) if c not in absent], size=n)
    logits = (rng.normal(size=(n, len(classes))) * 2 + 2 * (np.arange(len(classes)) == targets[:, None])).astype(
        np.float32
    )
    logits = logits.round() if rounded else logits
    found = write_evaluation(
        folder,
        paths=paths or [f"{classes[0]}/{number}.png" for number in range(n)],
        targets=targets,
        logits=logits,
        classes=classes,
        split="test",
        step=53,
        seed=seed,
        extra=extra or {},
    )
    return found, targets, logits


def test_the_folder_holds_what_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "evaluations" / "test@53"
    found, targets, logits = write(folder, extra={"data": "cells/"})
    assert sorted(file.name for file in folder.iterdir()) == [
        "confusion.csv",
        "metrics.json",
        "per_class.csv",
        "predictions.csv",
        "scores.safetensors",
    ]
    assert read_metrics(folder) == found
    assert (found["schema"], found["split"], found["step"], found["data"]) == (1, "test", 53, "cells/")
    assert (load_file(folder / "scores.safetensors")["logits"] == logits).all()
    rows = read_predictions(folder)
    assert [row.path for row in rows] == [f"cat/{number}.png" for number in range(40)]
    assert [row.label for row in rows] == [("cat", "dog", "emu")[target] for target in targets]
    assert np.mean([row.label == row.predicted for row in rows]) == found["top1"]
    assert np.mean([row.label_rank == 1 for row in rows]) == found["top1"]
    assert list((tmp_path / "evaluations").iterdir()) == [folder]


def test_metrics_come_from_the_numbers_as_written(tmp_path: Path) -> None:
    found, targets, logits = write(tmp_path / "test@53")
    table = pd.read_csv(tmp_path / "test@53" / "predictions.csv", dtype=str)
    assert list(table.columns)[6:] == ["p:cat", "p:dog", "p:emu"]
    written = table[["p:cat", "p:dog", "p:emu"]].astype(float).to_numpy()
    exact = np.exp(logits.astype(np.float64))
    assert written == pytest.approx(exact / exact.sum(axis=1, keepdims=True), rel=1e-8)
    again = summarise(written, targets, ("cat", "dog", "emu"), seed=0)
    assert {key: found[key] for key in again} == again  # to the last bit


def test_scores_that_are_written_alike_rank_alike(tmp_path: Path) -> None:
    # The second probability is greater by 2.5e-10, which nine digits do not show.
    write_evaluation(
        tmp_path / "e",
        paths=["a.png", "b.png"],
        targets=np.array([0, 1]),
        logits=np.array([[0.0, 1e-9], [0.0, 1e-9]], dtype=np.float32),
        classes=["a", "b"],
        split="val",
        step=None,
        seed=0,
        extra={},
    )
    assert [(row.predicted, row.label_rank) for row in read_predictions(tmp_path / "e")] == [("a", 1), ("a", 2)]
    assert recompute(tmp_path / "e") == 0


def test_above_100_classes_there_is_no_column_for_each(tmp_path: Path) -> None:
    for count in (100, 101):
        write(tmp_path / str(count), classes=[f"c{number}" for number in range(count)], n=150)
        with (tmp_path / str(count) / "predictions.csv").open(newline="") as stream:
            assert len(next(csv.reader(stream))) == (106 if count == 100 else 6)
        assert recompute(tmp_path / str(count)) == 0


@pytest.mark.parametrize(
    "case",
    [{}, {"absent": (1,)}, {"rounded": True, "seed": 5}, {"n": 1}, {"n": 29}, {"n": 30}, {"classes": NASTY, "n": 90}],
)
def test_every_number_can_be_computed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: dict[str, Any]
) -> None:
    write(tmp_path / "test@53", **case)
    assert recompute(tmp_path / "test@53") == 0
    count = int(capsys.readouterr().out.split(": ")[1].split()[0].replace(",", ""))
    assert count > 25 + 4 * case.get("n", 40)


def edit_json(path: Sequence[str | int], value: Callable[[Any], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        found = json.loads((folder / "metrics.json").read_text())
        inner = found
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = value(inner[path[-1]])
        (folder / "metrics.json").write_text(json.dumps(found))

    return edit


def edit_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / name).read_bytes().decode()
        assert old in text
        (folder / name).write_bytes(text.replace(old, new, 1).encode())

    return edit


def more(value: float) -> float:
    return value + 1e-6


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        *((edit_json([name], more), f"metrics.json {name}") for name in ("loss", "top1", "topk", "f1_macro", "n")),
        *((edit_json([f"{name}_micro"], more), f"{name}_micro") for name in ("precision", "recall", "f1")),
        *((edit_json([f"{name}_weighted"], more), f"{name}_weighted") for name in ("precision", "recall", "f1")),
        (edit_json(["intervals", "top1", 0], more), "intervals.top1[0]"),
        (edit_json(["intervals", "f1_macro", 1], more), "intervals.f1_macro[1]"),
        (edit_json(["intervals", "f1_macro"], lambda ends: None), "intervals.f1_macro: written None"),
        (edit_json(["chance", "majority"], more), "chance.majority"),
        (edit_json(["chance", "majority_class"], lambda name: name + "s"), "majority_class"),
        (edit_json(["classes_without_support"], lambda names: ["cat"]), "classes_without_support"),
        (edit_text("per_class.csv", "cat,", "cat,1"), "per_class.csv 'cat' support"),
        (edit_text("confusion.csv", "\ndog,", "\ndog,1"), "confusion.csv 'dog' as 'cat'"),
        (edit_text("predictions.csv", ",dog,", ",emu,"), "predictions.csv row"),
    ],
)
def test_a_changed_number_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: Callable[[Path], None], said: str
) -> None:
    folder = tmp_path / "test@53"
    write(folder)
    edit(folder)
    assert recompute(folder) == 1
    assert said in capsys.readouterr().out


def test_the_script_stands_alone() -> None:
    tree = ast.parse(SCRIPT.read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert not any(name.startswith("imgkit") for name in imported)


def test_a_folder_without_predictions_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        recompute(tmp_path)
    assert caught.value.code == 2
    assert "has no predictions.csv" in capsys.readouterr().err


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    write(tmp_path / "e", classes=NASTY, n=30, paths=[f"{NASTY[row % len(NASTY)]}{row}" for row in range(30)])
    for name, text_columns in (("predictions.csv", (0, 1, 2)), ("per_class.csv", (0, 6)), ("confusion.csv", (0,))):
        with (tmp_path / "e" / name).open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in header)
        assert not any(
            row[column].startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for column in text_columns
        )
    with (tmp_path / "e" / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream))[1][0] == "'=1+10"


name = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6)
odd = st.text(st.sampled_from("=+-@\t\r\n',\"a"), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(
    paths=st.lists(name | odd, min_size=1, max_size=6),
    classes=st.lists(name | odd, min_size=2, max_size=4, unique=True),
)
def test_any_name_reads_back(tmp_path_factory: pytest.TempPathFactory, paths: list[str], classes: list[str]) -> None:
    folder = tmp_path_factory.mktemp("names") / "e"
    _, targets, _ = write(folder, classes=classes, n=len(paths), paths=paths)
    rows = read_predictions(folder)
    assert [row.path for row in rows] == paths
    assert [row.label for row in rows] == [classes[target] for target in targets]


def test_a_name_that_is_not_utf8_is_shown_with_escapes(tmp_path: Path) -> None:
    undecodable = os.fsdecode(b"caf\xe9.png")
    found, _, _ = write(tmp_path / "e", classes=["ok", os.fsdecode(b"\xff")], n=3, paths=[undecodable] * 3, absent=(1,))
    assert read_predictions(tmp_path / "e")[0].path == "caf\\udce9.png"
    assert found["classes_without_support"] == ["\\udcff"]
    assert recompute(tmp_path / "e") == 0


def test_an_evaluation_replaces_the_one_before(tmp_path: Path) -> None:
    first, _, _ = write(tmp_path / "e", seed=1)
    (tmp_path / "e" / "stale.txt").write_text("from before")
    second, _, _ = write(tmp_path / "e", seed=2)
    assert read_metrics(tmp_path / "e") == second != first
    assert not (tmp_path / "e" / "stale.txt").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["e"]


def test_a_failed_write_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _, _ = write(tmp_path / "e", seed=1)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imgkit.evaluations.save_file", full)
    with pytest.raises(DiskError) as caught:
        write(tmp_path / "e", seed=2)
    assert caught.value.message == f"Cannot write the evaluation {tmp_path / 'e'}: No space left on device."
    assert read_metrics(tmp_path / "e") == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["e"]


def stop_the_second_rename(patch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    rename = Path.rename

    def stopping(self: Path, target: Path) -> Path:
        if self.name.startswith(".e.tmp-"):
            raise error(5, "Input/output error")
        return rename(self, target)

    patch.setattr(Path, "rename", stopping)


def test_a_failed_replacement_leaves_the_one_before(tmp_path: Path) -> None:
    first, _, _ = write(tmp_path / "e", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        stop_the_second_rename(patch, OSError)
        with pytest.raises(DiskError, match="Input/output error"):
            write(tmp_path / "e", seed=2)
    assert read_metrics(tmp_path / "e") == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["e"]


def test_a_kill_while_one_is_replaced_costs_nothing(tmp_path: Path) -> None:
    first, _, _ = write(tmp_path / "e", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        stop_the_second_rename(patch, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "e", seed=2)
    assert not (tmp_path / "e").exists()
    write(tmp_path / "other", seed=3)
    assert read_metrics(tmp_path / "e") == first, "the next evaluation brings it back"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["e", "other"]


def test_leftovers_of_killed_evaluations_are_removed(tmp_path: Path) -> None:
    write(tmp_path / "e", seed=1)
    (tmp_path / ".e.was-1f-0a1b2c3d").mkdir()  # a kill after both renames
    for name, time_s in {".e.tmp-1f-0a1b2c3d": 0.0, ".f.tmp-1f-0a1b2c3d": time.time()}.items():
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time_s, time_s))
    write(tmp_path / "other", seed=2)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".f.tmp-1f-0a1b2c3d", "e", "other"]


def test_scores_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DivergedError):
        write_evaluation(
            tmp_path / "e",
            paths=["a"],
            targets=np.array([0]),
            logits=np.array([[np.nan, 0.0]], dtype=np.float32),
            classes=["a", "b"],
            split="val",
            step=None,
            seed=0,
            extra={},
        )
    assert not list(tmp_path.iterdir())


def test_an_empty_split_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image"):
        write(tmp_path / "e", n=0)
    assert not list(tmp_path.iterdir())


# Several labels an image


def write_sets(
    folder: Path,
    *,
    labels: Sequence[str] = ("cat", "dog", "emu"),
    n: int = 60,
    seed: int = 0,
    rate: float = 0.4,
    calibrated: bool = True,
    shift: float = 0.0,
) -> tuple[dict[str, Any], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, len(labels))) < rate).astype(np.float32)
    logits = (4 * rng.normal(size=targets.shape) + 6 * targets - 3 + shift).astype(np.float32)
    found = write_evaluation(
        folder,
        paths=[f"{number}.png" for number in range(n)],
        targets=targets,
        logits=logits,
        classes=labels,
        split="test",
        step=53,
        seed=seed,
        extra={},
        calibration=calibrate(logits, targets, labels) if calibrated else None,
    )
    return found, targets, logits


def test_the_folder_of_a_multilabel_evaluation(tmp_path: Path) -> None:
    found, targets, logits = write_sets(tmp_path / "e", shift=-5.0)  # at 0.5 many labels would be missed
    assert sorted(file.name for file in (tmp_path / "e").iterdir()) == [
        "metrics.json",
        "per_class.csv",
        "predictions.csv",
        "scores.safetensors",
    ]
    assert read_metrics(tmp_path / "e") == found
    assert found["task"] == "multilabel"
    stored = load_file(tmp_path / "e" / "scores.safetensors")
    assert (stored["logits"] == logits).all()
    assert (stored["targets"] == targets).all()
    table = pd.read_csv(tmp_path / "e" / "predictions.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == [
        *("path", "labels", "predicted", "exact"),
        *("y:cat", "y:dog", "y:emu"),
        *("p:cat", "p:dog", "p:emu"),
    ]
    truth = ["|".join(name for name, one in zip(("cat", "dog", "emu"), row, strict=True) if one) for row in targets]
    assert list(table["labels"]) == truth
    assert "" in truth
    assert (table["exact"] == "1").mean() == found["subset_accuracy"]
    assert found["thresholds"] == found["calibration"]["thresholds"] != dict.fromkeys(("cat", "dog", "emu"), 0.5)
    assert found["loss"] < found["uncalibrated"]["loss"]
    assert found["f1_macro"] > found["uncalibrated"]["f1_macro"], "on the images that the thresholds were fitted on"


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"calibrated": False},
        {"n": 1},
        {"n": 29},
        {"rate": 0.0},
        {"rate": 0.02, "seed": 2},
        {"labels": ["only"]},
        {"labels": NASTY, "n": 31},
        {"labels": [f"c{number}" for number in range(101)], "n": 31},
    ],
)
def test_every_number_of_sets_can_be_computed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: dict[str, Any]
) -> None:
    write_sets(tmp_path / "e", **case)
    assert recompute(tmp_path / "e") == 0
    assert int(capsys.readouterr().out.split(": ")[1].split()[0].replace(",", "")) > 40


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        *((edit_json([name], more), f"metrics.json {name}") for name in ("loss", "ece", "brier", "map", "hamming")),
        *((edit_json([f"f1_{mean}"], more), f"f1_{mean}") for mean in ("macro", "micro", "weighted", "samples")),
        *((edit_json(["uncalibrated", name], more), f"uncalibrated.{name}") for name in ("loss", "ece", "f1_macro")),
        *((edit_json(["chance", name], more), f"chance.{name}") for name in ("map", "f1_macro", "subset_accuracy")),
        *((edit_json(["intervals", name, 0], more), f"intervals.{name}[0]") for name in ("map", "f1_macro")),
        (edit_json(["calibration", "temperature"], more), "probabilities, furthest"),
        (edit_text("per_class.csv", "cat,", "cat,1"), "per_class.csv 'cat' support"),
        (edit_text("predictions.csv", ",cat,", ",dog,"), "predictions.csv row"),
    ],
)
def test_a_changed_number_of_sets_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: Callable[[Path], None], said: str
) -> None:
    write_sets(tmp_path / "e")
    edit(tmp_path / "e")
    assert recompute(tmp_path / "e") == 1
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("count", [3, 101])
def test_a_calibrated_evaluation_says_what_it_was_before(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    targets, classes = rng.integers(0, count, 80), [f"c{number}" for number in range(count)]
    logits = (6 * rng.normal(size=(80, count)) + 6 * np.eye(count)[targets]).astype(np.float32)
    about: dict[str, Any] = {"paths": classes * 80, "targets": targets, "logits": logits, "classes": classes}
    about |= {"split": "val", "step": 1, "seed": 0, "extra": {}}
    plain = write_evaluation(tmp_path / "plain", **about)
    found = write_evaluation(tmp_path / "e", **about, calibration=calibrate(logits, targets, classes))
    assert "calibration" not in plain
    assert found["calibration"]["temperature"] > 1
    assert found["uncalibrated"] == pytest.approx({name: plain[name] for name in ("loss", "ece", "brier")}, rel=1e-6)
    assert found["loss"] < plain["loss"]
    assert (found["top1"], found["f1_macro"]) == (plain["top1"], plain["f1_macro"])
    assert recompute(tmp_path / "plain") == recompute(tmp_path / "e") == 0
