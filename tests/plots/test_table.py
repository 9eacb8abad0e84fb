import math
from pathlib import Path

import pytest
from plot_data import EPOCHS

from imgkit.errors import DataError, UsageError
from imgkit.plots.table import history_of_table


def table(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "epochs.csv"
    file.write_text(text)
    return file


def test_the_documented_columns(tmp_path: Path) -> None:
    text = "epoch,phase,train/loss,val/loss,train/top1,val/top1,val/top5,lr,best\n"
    file = table(tmp_path, text + "1,warm,2,1.5,0.1,0.2,0.5,0.01,True\n2,all,1,,0.3,0.4,0.6,0.001,False\n")
    found = history_of_table(file)
    assert (found.epochs, found.phases, found.held_out) == ((1, 2), ("warm", "all"), "val")
    assert found.columns["val/loss"][0] == 1.5
    assert math.isnan(found.columns["val/loss"][1])
    assert {name: found.columns[name] for name in ("train/top1", "val/top1", "val/top5")} == {
        "train/top1": (0.1, 0.3),
        "val/top1": (0.2, 0.4),
        "val/top5": (0.5, 0.6),
    }
    assert found.rates is not None
    assert (found.rates.x, found.rates.y, found.rates.by_epoch) == ((1, 2), (0.01, 0.001), True)
    assert found.chosen is not None
    assert (found.chosen.epochs, found.chosen.words) == ((1,), "chosen: epoch 1")
    assert found.notes == (
        f"scores of {file} are read as fractions, since none is above 1; if they are percent:  --unit percent",
    )


def test_the_example_needs_no_names_of_columns() -> None:
    found = history_of_table(EPOCHS, phases="20,30")
    assert found.held_out == "test"
    assert found.columns["val/top1"][-1] == pytest.approx(0.7027)
    assert [(span.name, span.start, span.stop) for span in found.spans] == [
        ("phase 1", 0.5, 20.5),
        ("phase 2", 20.5, 30.5),
        ("phase 3", 30.5, 39.5),
    ]
    assert "columns that are not plotted: train_seconds, it_per_s, delta_train_minus_test_top1" in found.notes[0]
    assert found.notes[1] == f"scores of {EPOCHS} are read as percent, since they go above 1"
    by_hand = history_of_table(EPOCHS, phases="20,30", columns=["val/top1=test_top1"])
    assert by_hand.held_out == "val"
    assert by_hand.columns["val/top1"] == found.columns["val/top1"]
    assert "val/loss" not in by_hand.columns, "those of test are left out, and that is said"
    assert by_hand.notes[-1] == "columns of val and of test: those of test are left out"


def test_a_val_column_without_a_number_does_not_hide_test(tmp_path: Path) -> None:
    file = table(tmp_path, "epoch,train_loss,val_loss,test_loss\n1,0.5,,0.6\n2,0.4,,0.5\n")
    found = history_of_table(file)
    assert (found.held_out, found.columns) == ("test", {"train/loss": (0.5, 0.4), "val/loss": (0.6, 0.5)})
    assert found.notes == ("columns without a number, which are not plotted: val_loss",)
    file = table(tmp_path, "epoch,train_loss,val_loss,test_loss\n1,0.5,0.7,\n2,0.4,0.6,\n")
    found = history_of_table(file)
    assert (found.held_out, found.columns["val/loss"]) == ("val", (0.7, 0.6))
    assert found.notes == ("columns without a number, which are not plotted: test_loss",)


def test_other_names_are_given(tmp_path: Path) -> None:
    file = table(tmp_path, "Ep;acc\n1;50\n2;60\n")
    found = history_of_table(file, columns=["epoch=Ep", "val/top1=acc"])
    assert found.columns == {"val/top1": (0.5, 0.6)}
    assert history_of_table(file, columns=["epoch=Ep", "val/loss=acc"]).columns == {"val/loss": (50, 60)}


def test_a_unit_that_is_stated_is_not_guessed(tmp_path: Path) -> None:
    file = table(tmp_path, "epoch,val/top1,val/f1_macro\n1,0.5,0.25\n2,0.75,0.5\n")
    found = history_of_table(file, unit="percent")
    assert found.columns["val/top1"] == (0.005, 0.0075)
    assert found.notes == ()


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("epoch\n", {}, DataError, "has no row under its header"),
        ("epoch,x\n1,2\n", {}, DataError, "has no column that can be drawn"),
        ("step,val/loss\n1,2\n", {}, DataError, "has no column epoch"),
        ("epoch,val/loss\n1,2\n1,2\n", {}, DataError, "row 3 has epoch 1 after 1; epochs have to grow"),
        ("epoch,val/loss\n,2\n", {}, DataError, "row 2 has no epoch"),
        ("epoch,val/loss\n1,2 %\n", {}, DataError, "row 2 has '2 %' under val/loss, which is no number"),
        ("epoch,test_loss\n1,\n2,nan\n", {}, DataError, "column that can be drawn: test_loss without a number"),
        ("epoch,a\n1,2\n", {"columns": ["val/top1"]}, UsageError, r"no column\.\nWrite val/top1=COLUMN; .*: epoch, a"),
        ("epoch,val/top1,val/top5\n1,0.9,1.1\n", {}, UsageError, "val/top5 has values above 1 and val/top1 has none"),
        ("epoch,val/top1\n1,101\n", {}, DataError, "val/top1 holds 101, and a score in percent lies between 0 and 100"),
        ("epoch,val/top1\n1,-1\n", {}, DataError, "val/top1 holds -1, and a score in fraction lies between 0 and 1"),
        ("epoch,val/top1\n1,2\n", {"unit": "fraction"}, DataError, "val/top1 holds 2"),
        ("epoch,best,val/loss\n1,perhaps,2\n", {}, DataError, "row 2 has 'perhaps' under best"),
        ("epoch,a\n1,2\n", {"columns": ["val/top=a"]}, UsageError, r"'val/top' is not known \(did you mean 'val/top"),
        ("epoch,a\n1,2\n", {"columns": ["val/top1=b"]}, UsageError, "has no column 'b'"),
        ("epoch,a\n1,2\n", {"columns": ["val/loss=a", "val/loss=a"]}, UsageError, "names val/loss twice"),
        ("epoch,phase,val/loss\n1,a,2\n", {"phases": "1"}, UsageError, "--phases is not used"),
        ("epoch,val/loss\n1,2\n2,2\n", {"phases": "2"}, UsageError, "growing epochs from 1 to before 2"),
        ("epoch,val/loss\n1,2\n9,2\n", {"phases": "5,4"}, UsageError, "growing epochs from 1 to before 9"),
        ("epoch,val/loss\n1,2\n9,2\n", {"phases": "five"}, UsageError, "growing epochs from 1 to before 9"),
    ],
)
def test_what_cannot_be_read_is_told(
    tmp_path: Path, text: str, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        history_of_table(table(tmp_path, text), **options)  # type: ignore[arg-type]


def test_the_hint_tells_the_unit(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        history_of_table(table(tmp_path, "epoch,val/top1,val/top5\n1,0.9,1.1\n"))
    assert "--unit percent" in caught.value.hint
