"""Several data sets read as one."""

from pathlib import Path

import pytest
from pictures import MakeFolders
from published import touch, write

from imgkit.cli.options import recipe_flags
from imgkit.data.load import load_data
from imgkit.data.rows import Source
from imgkit.data.sources import find_data, read_source, refuse_inside
from imgkit.errors import DataError, UsageError
from imgkit.recipe.schema import DataSettings


def read(*paths: Path, **given: object) -> Source:
    found = DataSettings(path=str(paths[0]), more=tuple(map(str, paths[1:])), **given)
    return read_source(find_data(found), found)


def test_folders_are_joined_by_class_name(tmp_path: Path) -> None:
    touch(tmp_path, "one/cat/1.jpg", "one/dog/1.jpg", "deep/two/cat/1.jpg", "deep/two/owl/1.jpg")
    source = read(tmp_path / "one", tmp_path / "deep" / "two")
    assert source.root == tmp_path
    assert [(row.path, row.labels) for row in source.rows] == [
        ("deep/two/cat/1.jpg", ("cat",)),
        ("deep/two/owl/1.jpg", ("owl",)),
        ("one/cat/1.jpg", ("cat",)),
        ("one/dog/1.jpg", ("dog",)),
    ]
    assert source.notes[0] == f"2 data sets are joined; paths start at {tmp_path}."
    assert f"Only {tmp_path}/one has dog; classes are joined by name." in source.notes
    assert f"Only {tmp_path}/deep/two has owl; classes are joined by name." in source.notes


def test_splits_stay_as_given_and_tables_go_with_folders(tmp_path: Path) -> None:
    touch(tmp_path, "one/train/cat/1.jpg", "one/train/dog/2.jpg", "one/val/cat/3.jpg", "two/x.jpg", "two/y.jpg")
    table = write(tmp_path / "two" / "all.csv", "file,kind,part", "x.jpg,cat,train", "y.jpg,dog,val")
    source = read(tmp_path / "one", table, image_col="file", label_col="kind", split_col="part")
    assert {row.path: row.split for row in source.rows} == {
        "one/train/cat/1.jpg": "train",
        "one/train/dog/2.jpg": "train",
        "one/val/cat/3.jpg": "val",
        "two/x.jpg": "train",
        "two/y.jpg": "val",
    }
    with pytest.raises(UsageError, match=r"data\.label_col is for a CSV"):
        read(tmp_path / "one", tmp_path / "one", label_col="kind")


def test_what_is_ambiguous_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "one/train/cat/1.jpg", "one/val/cat/3.jpg", "two/cat/1.jpg", "two/x.jpg", "two/y.jpg")
    with pytest.raises(DataError, match=r"one has splits, and .*two has none, so they cannot be joined"):
        read(tmp_path / "one", tmp_path / "two")
    groups = write(tmp_path / "two" / "all.csv", "path,label,who", "x.jpg,cat,1", "y.jpg,dog,2")
    plain = write(tmp_path / "two" / "some.csv", "path,label,who", "cat/1.jpg,cat,3")
    with pytest.raises(DataError, match=r"all.csv has groups, and .*three has none"):
        read(groups, touch(tmp_path / "three", "cat/1.jpg"), group_col="who")
    assert len(read(groups, plain, group_col="who").rows) == 3
    with pytest.raises(DataError, match=r"all.csv has weights, and .*three has none"):
        read(groups, tmp_path / "three", weight_col="who")
    with pytest.raises(DataError, match=r"all.csv has several labels an image, and .*three has none"):
        read(groups, tmp_path / "three", label_delimiter="|")


def test_a_file_in_two_data_sets_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "one/cat/1.jpg", "one/sub/dog/1.jpg")
    with pytest.raises(DataError, match="one is given twice"):
        read(tmp_path / "one", tmp_path / "one")
    with pytest.raises(DataError, match=r"dog/1.jpg is in .*one and in .*sub"):
        read(tmp_path / "one", tmp_path / "one" / "sub")


def test_the_flag_is_given_several_times(tmp_path: Path) -> None:
    assert recipe_flags({"data": ["a", "b", "c"]}) == {
        "data.path": ("--data", "a"),
        "data.more": ("--data", ["b", "c"]),
    }
    assert recipe_flags({"data": ["a"]}) == {"data.path": ("--data", "a")}
    assert recipe_flags({"data": []}) == {}
    with pytest.raises(UsageError, match=r"data\.more = 'b' is to be joined with data\.path, which is not given"):
        find_data(DataSettings(more=("b",)))
    touch(tmp_path, "one/cat/1.jpg", "two/cat/1.jpg")
    place = find_data(DataSettings(path=str(tmp_path / "one"), more=(str(tmp_path / "two"),)))
    assert str(place) == f"{tmp_path}/one/ and {tmp_path}/two/ (from --data)"
    with pytest.raises(UsageError, match="lies inside the data folder"):
        refuse_inside(place, None, tmp_path / "two" / "runs")
    with pytest.raises(DataError, match=r"Data folder not found: .*tow"):
        find_data(DataSettings(path=str(tmp_path / "one"), more=(str(tmp_path / "tow"),)))


def test_joined_data_are_split_as_one(make_folders: MakeFolders) -> None:
    one, two = make_folders({"a": 6, "b": 4}, name="one"), make_folders({"a": 4, "b": 6, "c": 5}, name="two")
    found = load_data(DataSettings(path=str(one), more=(str(two),)))
    assert found.index.classes == ("a", "b", "c")
    assert found.index.counts("val").tolist() == [2, 2, 1]
    assert found.name == f"{one}/ and {two}/"
