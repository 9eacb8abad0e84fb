"""`imgkit data split`: the file, what is said of it, and that the command it names trains on it."""

import csv
import hashlib
import json
import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from cli_run import Run
from multilabel_data import write_patches
from pictures import MakeFolders, TreeHash, square

from imgkit.data.load import load_data
from imgkit.recipe.schema import DataSettings

pytest_plugins = ["cli_fixture"]


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write_table(folder: Path, rows: Sequence[Sequence[object]], header: Sequence[str]) -> Path:
    """A table of pictures 00.png, 01.png, …, whose further columns are `rows`."""
    folder.mkdir()
    with (folder / "cells.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", *header])
        for number, cells in enumerate(rows):
            square(number + 1, code=number % 2).save(folder / f"{number:02d}.png")
            writer.writerow([f"{number:02d}.png", *cells])
    return folder / "cells.csv"


def said(text: str) -> str:
    return " ".join(text.split())


def next_words(out: str) -> list[str]:
    return shlex.split(said(out).rpartition("Next: imgkit ")[2])


def test_a_folder_becomes_a_table_and_its_next_command_trains(
    imgkit: Run, make_folders: MakeFolders, tree_hash: TreeHash, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgkit.weight_packages.installed_networks", lambda: ["test_resnet"])
    root, out = make_folders({"cat": 20, "=dog": 30}), tmp_path / "split.csv"
    before = tree_hash(root)
    code, text, err = imgkit("data", "split", str(root), "--val", "0.2", "--test", "0.1", "--out", str(out))
    assert (code, err) == (0, "")
    assert tree_hash(root) == before
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert f"SHA-256 {digest}" in said(text)
    assert "50 images · train 35 · val 10 · test 5" in said(text)
    rows = read(out)
    assert [*rows[0]] == ["path", "label", "split", "group", "size", "sha256"]
    assert sorted(row["path"] for row in rows) == sorted(
        "'" * path.parent.name.startswith("=") + f"{path.parent.name}/{path.name}" for path in root.rglob("*.png")
    )
    trained = load_data(DataSettings(path=str(root), val=0.2, test=0.1)).index
    again = load_data(DataSettings(path=str(out), root=str(root))).index
    assert again.classes == ("=dog", "cat")
    assert again.fingerprint == trained.fingerprint
    runs = tmp_path / "runs"
    words = [*next_words(text), "--weights", "none", "--image-size", "32", "--smoke", "--out", str(runs)]
    assert imgkit(*words, "--name", "one")[0] == 0
    about = json.loads((runs / "one" / "run.json").read_text())
    assert about["data"]["tables"] == [{"path": str(out), "sha256": digest}]


def test_the_same_again_is_fine_and_another_split_is_not_written_over_it(
    imgkit: Run, make_folders: MakeFolders, tmp_path: Path
) -> None:
    words = ("data", "split", str(make_folders({"cat": 20, "dog": 20})), "--out", str(tmp_path / "s.csv"))
    assert imgkit(*words)[0] == 0
    before = (tmp_path / "s.csv").read_bytes()
    assert imgkit(*words)[0] == 0
    code, _, err = imgkit(*words, "--split-seed", "1")
    assert code == 2
    assert "s.csv is there already, with another content. Remove it, or choose another --out." in said(err)
    assert (tmp_path / "s.csv").read_bytes() == before


def test_no_input_is_written_over(imgkit: Run, make_folders: MakeFolders, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t", [["ab"[row % 2]] for row in range(12)], ["label"])
    before = table.read_bytes()
    for out, told in (
        (table, "is what is to be split, and data are never written to"),
        (table.parent / "00.png", "is one of the pictures"),
    ):
        code, _, err = imgkit("data", "split", str(table), "--out", str(out))
        assert code == 2
        assert told in said(err)
    assert table.read_bytes() == before
    root = make_folders({"cat": 9, "dog": 9})
    code, _, err = imgkit("data", "split", str(root), "--out", str(root / "split.csv"))
    assert (code, (root / "split.csv").exists()) == (2, False)
    assert "lies inside the data folder" in said(err)


def test_columns_groups_and_folds_of_a_table_are_kept(
    imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgkit.weight_packages.installed_networks", lambda: ["test_resnet"])
    rows = [["ab"[row // 2 % 2], f"p{row // 2}", "=A1", row] for row in range(60)]
    table = write_table(tmp_path / "t", rows, ["class", "patient", "camera", "size"])
    out = tmp_path / "t" / "split.csv"
    words = ("data", "split", str(table), "--group-col", "patient", "--test", "0.1", "--folds", "3")
    code, text, _ = imgkit(*words, "--out", str(out))
    assert code == 0
    found = read(out)
    assert [*found[0]] == ["path", "label", "split", "group", "size", "sha256", "fold", "camera", "table.size"]
    assert {row["camera"] for row in found} == {"'=A1"}
    assert sorted(int(row["table.size"]) for row in found) == list(range(60))
    folds, groups = defaultdict(set), defaultdict(set)
    for row in found:
        folds[row["group"]].add((row["fold"], row["split"] == "test"))
        groups[row["fold"]].add(row["group"])
    assert all(len(one) == 1 for one in folds.values())
    assert all((fold == "") == test for ((fold, test),) in folds.values())
    assert {fold: len(held) for fold, held in groups.items()} == {"": 4, "1": 9, "2": 9, "3": 8}
    expected = ["finetune", "test_resnet", "--data", str(out), "--group-col", "group", "--folds", "3"]
    assert next_words(text) == expected
    once_more = tmp_path / "t" / "again.csv"  # a split file is a table like any other
    assert imgkit("data", "split", str(out), "--group-col", "group", "--out", str(once_more))[0] == 0
    assert [*read(once_more)[0]] == [*found[0]]


def test_several_labels_an_image_are_read_again(imgkit: Run, tmp_path: Path) -> None:
    table, out = write_patches(tmp_path / "patches"), tmp_path / "split.csv"
    words = ("data", "split", str(table), "--label-delimiter", ";", "--out", str(out), "--folds", "4")
    code, text, _ = imgkit(*words)
    assert code == 0
    assert [*read(out)[0]][:2] == ["path", "labels"]
    options = next_words(text)[2:]
    assert options[-6:] == ["--label-col", "labels", "--label-delimiter", "|", "--folds", "4"]
    before = load_data(DataSettings(path=str(table), label_delimiter=";")).index
    again = DataSettings(path=str(out), root=str(table.parent), label_col=("labels",), label_delimiter="|")
    assert load_data(again).index.fingerprint == before.fingerprint


def test_the_newest_images_are_test(imgkit: Run, tmp_path: Path) -> None:
    rows = [["ab"[row % 2], f"2026-01-{1 + row // 2:02d}"] for row in range(40)]
    table, out = write_table(tmp_path / "t", rows, ["label", "taken"]), tmp_path / "s.csv"
    words = ("data", "split", str(table), "--time-col", "taken", "--val", "0.2", "--out", str(out))
    code, text, _ = imgkit(*words, "--test", "0.1")
    assert code == 0
    assert "40 images · train 28 · val 8 · test 4" in said(text)
    days = {split: {row["taken"] for row in read(out) if row["split"] == split} for split in ("train", "val", "test")}
    assert max(days["train"]) < min(days["val"])
    assert max(days["val"]) < min(days["test"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--folds", "9"], "Class 'b' has 6 images, and each of 9 folds needs one to be scored on. Fewer folds:"),
        (["--folds", "1"], "With --folds 1 nothing is left to train on"),
        (["--folds", "4", "--group-col", "site"], "lie in 2 groups, and 4 folds that each have some of them would"),
        (["--folds", "3", "--time-col", "day"], "--folds and --time-col contradict each other"),
        (["--time-col", "day", "--split-seed", "1"], "--split-seed is not used"),
        (["--time-col", "dya"], "has no column 'dya'. Columns: file, label, site, day, split"),
        (["--time-col", "label"], "Column 'label' says 'a' of 00.png: no number and no date"),
        (["--time-col", "day", "--group-col", "site", "--test", "0.2"], "a split in time would tear it"),
        (["--time-col", "day", "--split-col", "split"], "has splits of its own"),
    ],
)
def test_what_cannot_be_done_is_told(imgkit: Run, tmp_path: Path, words: list[str], told: str) -> None:
    rows = [["b" if row % 3 == 2 else "a", f"s{row % 2}", row, "train"] for row in range(18)]
    table = write_table(tmp_path / "t", rows, ["label", "site", "day", "split"])
    if "--split-col" not in words:
        table.write_text(table.read_text().replace(",split\n", ",part\n").replace(",split\r\n", ",part\r\n"))
        told = told.replace("day, split", "day, part")
    code, _, err = imgkit("data", "split", str(table), *words, "--out", str(tmp_path / "s.csv"))
    assert code in (2, 3)
    assert told in said(err)
    assert not (tmp_path / "s.csv").exists()


def test_a_column_of_a_folder_is_none(imgkit: Run, make_folders: MakeFolders, tmp_path: Path) -> None:
    root = make_folders({"cat": 9, "dog": 9})
    code, _, err = imgkit("data", "split", str(root), "--time-col", "taken", "--out", str(tmp_path / "s.csv"))
    assert code == 3
    assert re.search(r"no column 'taken': .* is not one table\. Give a CSV", said(err))
