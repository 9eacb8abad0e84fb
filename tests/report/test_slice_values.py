"""What images are sliced by: the table that the run was trained on, and the pictures; never others."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scored_runs import write_scored_run

from imgkit.data.load import load_data
from imgkit.data.sources import sha256_of
from imgkit.errors import DataError, UsageError
from imgkit.recipe.schema import DataSettings
from imgkit.report.slice_values import columns_of, has_groups
from imgkit.report.slices import write_slices
from imgkit.report.stored import Stored, stored_of
from imgkit.run import RunFolder

N = 60


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of grey pictures, brighter and wider from row to row; two cameras, three sites, a number."""
    rows = []
    for row in range(N):
        Image.new("RGB", (16 + row, 16), (4 * row, 4 * row, 4 * row)).save(tmp_path / f"{row:02d}.png")
        rows.append(
            [f"{row:02d}.png", "ab"[row % 2], "AB"[row // 30], f"s{row % 3}", row, ["train", "val", "test"][row // 20]]
        )
    with (tmp_path / "cells.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label", "camera", "site", "weight", "split"], *rows])
    return tmp_path / "cells.csv"


def run_on(table: Path, name: str = "one", sets: Sequence[str] = (), **told: object) -> tuple[RunFolder, Stored]:
    index = load_data(DataSettings(path=str(table))).index
    data = {"where": "cells.csv", "root": str(table.parent), "fingerprint": index.fingerprint, "n": {}}
    data |= {"tables": [{"path": str(table), "sha256": sha256_of(table)}], **told}
    run = write_scored_run(table.parent / "runs", name, index, {"val": 0.7, "test": 0.7}, sets=sets, data=data)
    stored = stored_of(run)
    assert stored is not None
    return run, stored


def test_columns_are_found_again_by_path(table: Path) -> None:
    run, stored = run_on(table)
    found = columns_of(run, stored, ["site", "camera", "weight"])
    assert list(stored.answers.paths) == [f"{row:02d}.png" for row in range(40, 60)]
    assert found["site"] == [f"s{row % 3}" for row in range(40, 60)]
    assert found["camera"] == ["B"] * 20
    assert found["weight"][0] == "40 to 44"
    assert found["weight"][-1] == "55 to 59"
    with pytest.raises(DataError, match="camera is 'B' for all 20 scored images"):
        write_slices(stored, found, grouped=False)
    assert not has_groups(run)


def test_what_pictures_show_is_computed(table: Path) -> None:
    run, stored = run_on(table)
    found = columns_of(run, stored, ["brightness", "aspect", "size"])
    assert set(found["size"]) == {"16"}
    assert found["aspect"][0] == f"{56 / 16:.6g} to {60 / 16:.6g}"
    assert found["brightness"][0] == f"{160 / 2.55:.2f} to {176 / 2.55:.2f}".replace(".00", "")
    assert len(set(found["brightness"])) == 4


def test_a_table_that_changed_is_refused(table: Path) -> None:
    run, stored = run_on(table)
    table.write_text(table.read_text().replace("s1", "s0", 1))
    with pytest.raises(DataError, match=r"cells\.csv has changed since one was trained on it: SHA-256 ") as error:
        columns_of(run, stored, ["site"])
    assert error.value.hint == "Put the file back as it was."
    table.unlink()
    with pytest.raises(DataError, match="is not there any more"):
        columns_of(run, stored, ["site"])


def test_a_picture_that_changed_is_refused(table: Path) -> None:
    run, stored = run_on(table)
    Image.new("RGB", (9, 9)).save(table.parent / "41.png")
    with pytest.raises(DataError, match=r"41\.png is not what it was when the run began"):
        columns_of(run, stored, ["size"])
    (table.parent / "41.png").unlink()
    with pytest.raises(DataError, match=r"41\.png cannot be read any more") as error:
        columns_of(run, stored, ["size"])
    assert "--root FOLDER" in error.value.hint


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, "The table that one was trained on has no column 'colour'"),
        ({"tables": []}, "was trained on folders, which have no columns"),
        ({"tables": None}, "before runs kept the hash of their table"),
    ],
)
def test_a_column_that_is_not_there_is_told(table: Path, told: dict[str, object], why: str) -> None:
    run, stored = run_on(table, **told)
    with pytest.raises(UsageError, match=why) as error:
        columns_of(run, stored, ["colour"])
    assert "brightness" in error.value.hint
    with pytest.raises(UsageError, match="--by size is given twice"):
        columns_of(run, stored, ["size", "size"])


def test_a_table_that_was_joined_with_a_folder_is_not_read(table: Path) -> None:
    run, stored = run_on(table, sets=["data.path=pictures", 'data.more=["cells.csv"]'])
    with pytest.raises(UsageError, match="--by site: one was trained on several data sets, of which columns are not"):
        columns_of(run, stored, ["site"])
    assert set(columns_of(run, stored, ["size"])["size"]) == {"16"}


def test_groups_are_known(table: Path) -> None:
    index = load_data(DataSettings(path=str(table), group_col="site")).index
    run = write_scored_run(table.parent / "runs", "grouped", index, {"test": 0.7})
    assert has_groups(run)
    assert np.unique(index.groups).tolist() == [0, 1, 2]
