"""Readers: class folders and tables as users have them, and what is said when they are wrong."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imgkit.data.csv_table import CSV_SPLITS, GUESSES
from imgkit.data.rows import EXTENSIONS, Row, Source, count, listed
from imgkit.data.sources import find_data, read_source, refuse_inside
from imgkit.errors import DataError, ImgkitError, UsageError
from imgkit.recipe.schema import DataSettings


def read(path: Path | str | None = None, *, training: bool = True, **given: object) -> Source:
    found = DataSettings(path=None if path is None else str(path), **given)
    return read_source(find_data(found), found, training=training)


def touch(root: Path, *names: str) -> Path:
    """Empty files: the readers do not look inside."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(root: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    touch(root, "a.jpg", "b.jpg", "c.jpg", "sub/d.jpg")
    file = root / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def pairs(rows: list[Row]) -> list[tuple[str, ...]]:
    """Path and labels of each row."""
    return [(row.path, *row.labels) for row in rows]


def message(error: pytest.ExceptionInfo[ImgkitError]) -> str:
    return str(error.value)


# Where the data are


def test_order_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "data/cat/1.jpg", "other/cat/1.jpg", "third/cat/1.jpg")
    assert str(find_data(DataSettings())) == "data/ (the default, since neither --data nor $IMGKIT_DATA is given)"
    monkeypatch.setenv("IMGKIT_DATA", "other")
    assert str(find_data(DataSettings())) == "other/ (from $IMGKIT_DATA)"
    assert str(find_data(DataSettings(path="third/"))) == "third/ (from --data)"
    assert find_data(DataSettings(path="../" + tmp_path.name + "/third")).path == tmp_path / "third"
    pair = find_data(DataSettings(train="other", val_path="third"))
    assert str(pair) == "other/ (from --train) and third/ (from --val)"
    assert str(find_data(DataSettings(train="other"))) == "other/ (from --train)"


def test_nothing_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"\$IMGKIT_DATA is not set and there is no folder ./data") as caught:
        find_data(DataSettings())
    assert "--data FOLDER" in message(caught)


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "pets/cat/1.jpg")
    assert find_data(DataSettings(path="~/pets")).path == tmp_path / "pets"


def test_builtins_unless_there_is_such_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = find_data(DataSettings(path="synthetic:3x2"))
    assert str(place) == "synthetic:3x2 (built in)"
    assert len(read("synthetic:3x2").rows) == 6
    touch(tmp_path, "synthetic:3x2/cat/1.jpg")
    assert find_data(DataSettings(path="synthetic:3x2")).path == tmp_path / "synthetic:3x2"


def test_wrong_folder_with_a_similar_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "data/pets/cat/1.jpg")
    with pytest.raises(DataError) as caught:
        find_data(DataSettings(path="datta/pets"))
    assert message(caught) == (
        "Data folder not found: datta/pets\n"
        f"Looked in {tmp_path}/datta/pets. There is a folder with a similar name: data/pets\n"
        "Try:  --data data/pets\n"
        "imgkit expects   data/pets/CLASS/*.jpg   or   data/pets/train/CLASS/*.jpg   or a CSV file."
    )
    assert caught.value.exit_code == 3


def test_wrong_names_without_a_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="Data folder not found: digitss") as caught:
        find_data(DataSettings(path="digitss"))
    assert "--data digits" in caught.value.hint
    with pytest.raises(DataError, match="Data folder not found: zzzz") as caught:
        find_data(DataSettings(path="zzzz"))
    assert "similar" not in caught.value.hint
    touch(tmp_path, "labels.csv", "pictures.zip")
    with pytest.raises(DataError, match=r"CSV file not found: lables.csv") as caught:
        find_data(DataSettings(path="lables.csv"))
    assert "a file with a similar name: labels.csv" in caught.value.hint
    with pytest.raises(DataError, match=r"pictures.zip is neither a folder nor a CSV file"):
        find_data(DataSettings(path="pictures.zip"))


def test_contradictions(tmp_path: Path) -> None:
    touch(tmp_path, "a/cat/1.jpg", "b/cat/1.jpg", "x.csv")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    with pytest.raises(UsageError, match="without a training folder"):
        read(val_path=b)
    with pytest.raises(UsageError, match="Both --data and --train"):
        read(a, train=b)
    with pytest.raises(UsageError, match=r"label_col is for a CSV, but .*a is a folder"):
        read(a, label_col="x")
    with pytest.raises(DataError, match=r"x.csv is not a folder"):
        read(train=a, val_path=str(tmp_path / "x.csv"))


@pytest.mark.parametrize("text", ["x" * 5000, "x/" * 5000, "nul\0", "self"])
def test_paths_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "self").symlink_to("self")
    with pytest.raises(DataError, match="Data folder not found"):
        find_data(DataSettings(path=text))
    file = table(tmp_path, f"path,label\na.jpg,cat\n{text}.jpg,cat\n")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    with pytest.raises(DataError, match="holds NUL" if "\0" in text else "1 of 2 images do not exist. First: row 3"):
        read(file)


# Class folders


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val", "VALID"])
@pytest.mark.parametrize("train", ["train", "Train"])
def test_split_folders(tmp_path: Path, train: str, val: str) -> None:
    touch(
        tmp_path, f"{train}/cat/1.jpg", f"{train}/dog/x/y/2.PNG", f"{val}/cat/3.jpg", "test/dog/4.jpg", "more/owl/5.jpg"
    )
    source = read(tmp_path)
    assert sorted(source.rows) == sorted(
        [
            Row(f"{train}/cat/1.jpg", ("cat",), "train", None),
            Row(f"{train}/dog/x/y/2.PNG", ("dog",), "train", None),
            Row(f"{val}/cat/3.jpg", ("cat",), "val", None),
            Row("test/dog/4.jpg", ("dog",), "test", None),
        ]
    )
    assert source.rows == sorted(source.rows)
    assert any("more/" in note for note in source.notes)


def test_one_level(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "dog/deep/2.jpg", "01/3.jpg", "1/4.jpg")
    assert {(*row.labels, row.split) for row in read(tmp_path).rows} == {
        (name, None) for name in ("cat", "dog", "01", "1")
    }


@pytest.mark.parametrize("extension", [*EXTENSIONS, *(text.upper() for text in EXTENSIONS)])
def test_extensions(tmp_path: Path, extension: str) -> None:
    touch(tmp_path, f"cat/1{extension}", "cat/no.txt", "cat/jpg")
    source = read(tmp_path)
    assert [row.path for row in source.rows] == [f"cat/1{extension}"]
    assert "Ignored 2 files without an image extension (no extension 1, .txt 1)." in source.notes


def test_hidden_and_system_files(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "cat/1.jpg",
        "dog/1.jpg",
        ".ipynb_checkpoints/1.jpg",
        "__MACOSX/cat/1.jpg",
        "cat/._1.jpg",
        "cat/Thumbs.db",
    )
    source = read(tmp_path)
    assert [row.path for row in source.rows] == ["cat/1.jpg", "dog/1.jpg"]
    names = "._1.jpg, .ipynb_checkpoints, Thumbs.db, __MACOSX"
    assert source.notes == [f"Ignored 4 hidden or system files and folders: {names}."]


def test_images_beside_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1.jpg", "train/2.jpg", "3.jpg", "val/cat/4.jpg")
    source = read(tmp_path)
    assert len(source.rows) == 2
    assert "1 image directly in train/, outside the class folders, ignored." in source.notes
    source = read(tmp_path / "train")
    assert source.notes == [f"1 image directly in {tmp_path}/train, outside the class folders, ignored."]


def test_empty_class_folder(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1.jpg", "train/dog/deep/2.jpg", "val/cat/4.jpg")
    (tmp_path / "train" / "owl").mkdir()
    assert read(tmp_path).warnings == ["No images in 1 class folder of train/: owl."]


def test_links(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg")
    outside = touch(tmp_path / "outside", "4.jpg")
    (root / "train" / "cat" / "loop").symlink_to("..")
    (root / "train" / "aaa").symlink_to("cat")  # sorts before the real folder
    (root / "train" / "owl").symlink_to(outside)
    (root / "val" / "up").symlink_to(root)
    source = read(root)
    assert pairs(source.rows) == [
        ("train/cat/1.jpg", "cat"),
        ("train/dog/2.jpg", "dog"),
        ("train/owl/4.jpg", "owl"),
        ("val/cat/3.jpg", "cat"),
    ]
    assert "Links to folders that were read already, not followed: train/aaa, train/cat/loop, val/up." in source.notes
    assert f"Followed 1 link out of {root}: train/owl." in source.notes


def test_two_links_to_one_folder(tmp_path: Path) -> None:
    outside = touch(tmp_path / "outside", "1.jpg")
    root = touch(tmp_path / "root", "dog/1.jpg")
    for name in ("b", "a"):
        (root / name).symlink_to(outside)
    assert [row.path for row in read(root).rows] == ["a/1.jpg", "dog/1.jpg"]


def test_names_that_are_not_utf8_or_odd(tmp_path: Path) -> None:
    names = [os.fsdecode(b"\xff.jpg"), "new\nline.jpg", "=1.jpg", "\u202e.jpg"]
    touch(tmp_path, *(f"cat/{name}" for name in names))
    assert {row.path for row in read(tmp_path).rows} == {f"cat/{name}" for name in names}


def test_jpegs_as_browsers_save_them(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jfif", "dog/2.JPE")
    assert [row.path for row in read(tmp_path).rows] == ["cat/1.jfif", "dog/2.JPE"]


def test_a_name_with_a_tilde_that_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "~no-such-user", "cat/1.jpg", "dog/1.jpg")
    found = read(Path("~no-such-user"))
    assert found.root == tmp_path / "~no-such-user"


def test_folder_called_like_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "cat/x.jpg/1.jpg", "dog/2.jpg")
    assert [row.path for row in read(tmp_path).rows] == ["cat/x.jpg/1.jpg", "dog/2.jpg"]


def test_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "pets.zip", "more.zip", "cat/notes.txt")
    with pytest.raises(DataError, match=r"No images in .* \(looked for .jpg .jpeg .jpe .jfif .png") as caught:
        read(tmp_path)
    assert caught.value.hint == "It holds 2 .zip files: unpack more.zip first."
    touch(tmp_path, "labels.csv")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert caught.value.hint == f"It holds a table:  --data {tmp_path}/labels.csv"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        read(tmp_path / "empty")
    assert "/CLASS/*.jpg" in caught.value.hint


def test_no_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "flat/1.jpg", "split/train/1.jpg", "split/val/2.jpg")
    with pytest.raises(DataError, match="flat holds 1 image, but none is in a class folder") as caught:
        read(tmp_path / "flat")
    assert f"imgkit label {tmp_path}/flat --classes A,B" in caught.value.hint
    with pytest.raises(DataError, match="split holds 2 images, but none is in a class folder") as caught:
        read(tmp_path / "split")
    assert "split/train/CLASS" in caught.value.hint


def test_val_without_train(tmp_path: Path) -> None:
    touch(tmp_path, "val/cat/1.jpg", "test/cat/1.jpg")
    with pytest.raises(DataError, match="has test/, val/ but no train/"):
        read(tmp_path)
    assert {row.split for row in read(tmp_path, training=False).rows} == {"val", "test"}


def test_a_class_called_test(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "test/1.jpg")
    source = read(tmp_path)
    assert {row.labels for row in source.rows} == {("cat",), ("test",)}
    assert source.warnings == ["There is no train/ folder, so test is taken for a class."]


def test_training_and_testing(tmp_path: Path) -> None:
    touch(tmp_path, "training/cat/1.jpg", "testing/cat/1.jpg")
    with pytest.raises(DataError, match="has a folder 'training'") as caught:
        read(tmp_path)
    assert "--train" in caught.value.hint


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1.jpg", "val/cat/1.jpg", "valid/cat/1.jpg")
    with pytest.raises(DataError, match="two folders for val: val, valid"):
        read(tmp_path)


def test_pair(tmp_path: Path) -> None:
    touch(tmp_path, "x/cat/1.jpg", "deep/y/cat/2.jpg", "z/3.jpg")
    source = read(train=str(tmp_path / "x"), val_path=str(tmp_path / "deep" / "y"))
    assert source.root == tmp_path
    assert source.rows == [Row("deep/y/cat/2.jpg", ("cat",), "val", None), Row("x/cat/1.jpg", ("cat",), "train", None)]
    alone = read(train=str(tmp_path / "x"))
    assert alone.rows == [Row("cat/1.jpg", ("cat",), None, None)]
    assert alone.root == tmp_path / "x"
    with pytest.raises(DataError, match="z holds 1 image, but none is in a class folder"):
        read(train=str(tmp_path / "x"), val_path=str(tmp_path / "z"))
    for val in (tmp_path / "x", tmp_path / "x" / "cat", tmp_path):
        with pytest.raises(DataError, match="overlap"):
            read(train=str(tmp_path / "x"), val_path=str(val))


# Tables


def test_table(tmp_path: Path) -> None:
    file = table(tmp_path, "path,label,split,who\na.jpg,cat,train,x\nb.jpg,01,VALID,y\nsub/d.jpg,1,testing,x\n")
    source = read(file, group_col="who")
    assert source.rows == [
        Row("a.jpg", ("cat",), "train", "x"),
        Row("b.jpg", ("01",), "val", "y"),
        Row("sub/d.jpg", ("1",), "test", "x"),
    ]
    assert source.root == tmp_path
    assert source.notes == [f"Columns of {file}: image 'path', label 'label', split 'split', group 'who'."]


@pytest.mark.parametrize("image", GUESSES["image"])
@pytest.mark.parametrize("label", GUESSES["label"])
def test_guessed_columns(tmp_path: Path, image: str, label: str) -> None:
    source = read(table(tmp_path, f"{label.title()},{image.upper()},other\ncat,a.jpg,x\n"))
    assert source.rows == [Row("a.jpg", ("cat",), None, None)]
    assert f"image {image.upper()!r}, label {label.title()!r}" in source.notes[0]


@pytest.mark.parametrize("word", [*CSV_SPLITS, "TRAIN", " Val "])
def test_split_words(tmp_path: Path, word: str) -> None:
    assert (
        read(table(tmp_path, f"path,label,split\na.jpg,cat,{word}\n")).rows[0].split == CSV_SPLITS[word.strip().lower()]
    )


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffpath,label\na.jpg,cat\nb.jpg,dog\n",
        "path,label\r\na.jpg,cat\r\nb.jpg,dog\r\n",
        "path;label\na.jpg;cat\nb.jpg;dog\n",
        "path\tlabel\na.jpg\tcat\nb.jpg\tdog",
        "\npath,label\n\na.jpg,cat\n , \nb.jpg,dog\n",
        '"path","label"\n"a.jpg","cat"\n"b.jpg","dog"\n',
        ' path , label \na.jpg,cat\nb.jpg,"dog"\n',
        '"path";"label";"a,b,c,d"\na.jpg;cat;\nb.jpg;dog;\n',
    ],
)
def test_dialects(tmp_path: Path, text: str) -> None:
    rows = read(table(tmp_path, text)).rows
    assert pairs(rows) == [("a.jpg", "cat"), ("b.jpg", "dog")]


def test_spaces_repeats_and_backslashes(tmp_path: Path) -> None:
    source = read(table(tmp_path, "path,label\na.jpg, cat\nb.jpg,dog \na.jpg,cat\n.\\sub\\d.jpg,cat\n"))
    assert pairs(source.rows) == [
        ("a.jpg", "cat"),
        ("b.jpg", "dog"),
        ("sub/d.jpg", "cat"),
    ]
    assert any(note.startswith("Spaces around 2 labels") for note in source.notes)
    assert any(note.startswith("1 repeated row") for note in source.notes)


def test_root(tmp_path: Path) -> None:
    file = table(tmp_path / "tables", "path,label\na.jpg,cat\n")
    images = touch(tmp_path / "images", "a.jpg", "sub/b.jpg")
    file.write_text(f"path,label\na.jpg,cat\n{images}/sub/b.jpg,dog\n")
    source = read(file, root=str(images))
    assert source.root == images
    assert [row.path for row in source.rows] == ["a.jpg", "sub/b.jpg"]
    with pytest.raises(DataError, match="The root of the image paths does not exist"):
        read(file, root=str(tmp_path / "nothing"))


def test_bad_column(tmp_path: Path) -> None:
    file = table(tmp_path, "file_name,category,split\na.jpg,cat,train\n")
    with pytest.raises(DataError) as caught:
        read(file, label_col="label", image_col="image")
    assert message(caught) == (
        f"{file} has no column 'image'.\n"
        "Columns: file_name, category, split\n"
        "Did you mean  --image-col file_name --label-col category ?"
    )
    file = table(tmp_path, "where,what\na.jpg,cat\n")
    with pytest.raises(DataError, match=r"has no image column \(looked for path, image, file") as caught:
        read(file)
    assert caught.value.hint == "Columns: where, what\nGive --label-col and --image-col."
    assert read(file, image_col="where", label_col="what").rows == [Row("a.jpg", ("cat",), None, None)]
    with pytest.raises(DataError, match="no column 'wat'") as caught:
        read(file, image_col="where", label_col="wat")
    assert "--label-col what" in caught.value.hint
    with pytest.raises(DataError, match="column 'where' is used for two things"):
        read(file, image_col="where", label_col="where")


def test_missing_files(tmp_path: Path) -> None:
    text = "path,label\na.jpg,cat\nsub/d.jpeg,dog\nnothing.jpg,dog\n"
    file = table(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read(file)
    assert message(caught) == (
        f"{file}: 2 of 3 images do not exist. First: row 3, 'sub/d.jpeg' (there is 'sub/d.jpg').\n"
        "Fix the rows, or pass --on-bad skip to leave them out (they will be listed)."
    )
    assert len(read(file, on_bad="skip").rows) == 3  # the scan finds them


def test_group_column_must_be_full(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 3 has no group"):
        read(table(tmp_path, "path,label,who\na.jpg,cat,x\nb.jpg,cat,\n"), group_col="who")
    with pytest.raises(DataError, match=r"a.jpg has two groups"):
        read(table(tmp_path, "path,label,who\na.jpg,cat,x\na.jpg,cat,y\n"), group_col="who")


@pytest.mark.parametrize("link", ["file", "folder"])
def test_links_out_of_the_root(tmp_path: Path, link: str) -> None:
    outside = touch(tmp_path / "outside", "x.jpg")
    root = tmp_path / "root"
    file = table(root, "path,label\nlinked.jpg,cat\n" if link == "file" else "path,label\nlinked/x.jpg,cat\n")
    if link == "file":
        (root / "linked.jpg").symlink_to(outside / "x.jpg")
    else:
        (root / "linked").symlink_to(outside)
    with pytest.raises(DataError, match="row 2 leads out of"):
        read(file)


def test_links_inside_the_root(tmp_path: Path) -> None:
    file = table(tmp_path, "path,label\nlinked.jpg,cat\n")
    (tmp_path / "linked.jpg").symlink_to("a.jpg")
    assert read(file).rows == [Row("linked.jpg", ("cat",), None, None)]


def test_root_behind_a_link(tmp_path: Path) -> None:
    table(tmp_path / "real", "path,label\na.jpg,cat\n")
    (tmp_path / "link").symlink_to("real")
    assert read(tmp_path / "link" / "labels.csv").rows == [Row("a.jpg", ("cat",), None, None)]


CELL = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.sampled_from(
    ["a.jpg", "..", "cat", '"', "\0"]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(CELL, max_size=4), max_size=4), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_text_is_read_or_refused(tmp_path: Path, cells: list[list[str]], comma: str, end: str) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.jpg")
    lines = [comma.join(["path", "label"]), *(comma.join(row) for row in cells)]
    (tmp_path / "labels.csv").write_text(end.join(lines), newline="")
    try:
        source = read(tmp_path / "labels.csv", on_bad="skip")
    except DataError:
        return
    assert source.rows
    assert all(label for row in source.rows for label in row.labels)


def test_words() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"
    assert count(1, "class", "classes") == "1 class"
    assert count(1200, "class", "classes") == "1,200 classes"


def test_a_missing_folder_is_answered_with_its_own_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "my train/cat/1.jpg", "vall/cat/2.jpg")
    for given_, tried in (
        ({"train": "my trian"}, "--train 'my train'"),
        ({"train": "my train", "val_path": "val"}, "--val vall"),
        ({"path": "my trian"}, "--data 'my train'"),
    ):
        with pytest.raises(DataError) as caught:
            find_data(DataSettings.model_validate(given_))
        assert f"Try:  {tried}\n" in caught.value.hint


def test_pictures_of_other_kinds_are_a_warning(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "cat/2.HEIC", "dog/3.heic", "dog/4.avif", "dog/notes.txt")
    source = read(tmp_path)
    assert source.warnings[0].startswith("3 pictures left out (.heic 2, .avif 1): imgkit does not read this kind")
    assert "Ignored 1 file without an image extension (.txt 1)." in source.notes
    (tmp_path / "cat" / "1.jpg").unlink()
    with pytest.raises(DataError, match="No images") as caught:
        read(tmp_path)
    assert "3 pictures of another kind" in caught.value.hint


def test_columns_that_nothing_reads_are_told(tmp_path: Path) -> None:
    text = "path,label,Patient ID,note\na.jpg,cat,1,x\nb.jpg,dog,2,y\n"
    file = table(tmp_path, text)
    source = read(file)
    assert f"Columns of {file} that are not used: Patient ID, note." in source.notes
    assert len(source.warnings) == 1
    assert source.warnings[0].endswith("--group-col 'Patient ID'")
    assert read(file, group_col="Patient ID").warnings == []
    assert read(table(tmp_path, "path,label,split,group\na.jpg,cat,train,1\n", "given.csv")).warnings == []


def test_a_table_without_header_and_one_with_another_root(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(table(tmp_path, "cats/a.jpg,cat\ncats/b.jpg,cat\n"))
    assert "put a header above it" in caught.value.hint
    with pytest.raises(DataError) as caught:
        read(table(tmp_path, "path,label\ngone/a.jpg,cat\ngone/b.jpg,dog\n"), on_bad="stop")
    assert f"Relative paths start at {tmp_path}" in caught.value.hint
    assert "--root" in caught.value.hint


def test_names_of_places_without_their_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a/cat/1.jpg", "b/cat/2.jpg")
    assert find_data(DataSettings(path="a")).name == "a/"
    assert find_data(DataSettings(train="a", val_path="b")).name == "a/ and b/"
    assert find_data(DataSettings(path="synthetic")).name == "synthetic"


def test_runs_are_never_put_into_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("pictures/cat", "train", "val"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "table.csv").write_text("image,label\n")
    monkeypatch.chdir(tmp_path / "pictures")
    with pytest.raises(UsageError, match=r"runs lies inside the data folder \., which is never written to") as caught:
        refuse_inside(find_data(DataSettings(path=".")), None, Path("runs"))
    assert caught.value.hint.endswith("--out ../runs")
    refuse_inside(find_data(DataSettings(path=".")), None, Path("../runs"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("pictures")
    with pytest.raises(UsageError) as caught:
        refuse_inside(find_data(DataSettings(path="pictures")), None, Path("link") / "deep" / "runs")
    assert caught.value.hint.endswith("--out runs")
    with pytest.raises(UsageError, match="inside the data folder val"):
        refuse_inside(find_data(DataSettings(train="train", val_path="val")), None, Path("val"))
    for path in ("pictures", "table.csv", "digits"):
        refuse_inside(find_data(DataSettings(path=path)), None, Path("runs"))
    with pytest.raises(UsageError, match="inside the data folder pictures"):
        refuse_inside(find_data(DataSettings(path="table.csv")), "pictures", Path("pictures") / "runs")
    (Path("runs") / "5fold").mkdir(parents=True)
    (Path("runs") / "5fold" / "folds.csv").touch()  # of folds of table.csv: runs may lie beside that
    refuse_inside(find_data(DataSettings(path="runs/5fold/folds.csv")), ".", Path("runs") / "5fold")


PREDICTED = "path,label,prob,error\n'=a.jpg,'-one,0.9,\n''=b.jpg,x,0.9,\n'c.jpg,x,0.9,\n"


def test_a_table_of_predictions_is_read_back_as_it_was(tmp_path: Path) -> None:
    touch(tmp_path, "=a.jpg", "'=a.jpg", "'=b.jpg", "''=b.jpg", "'c.jpg")
    file = table(tmp_path, PREDICTED)
    assert pairs(read(file).rows) == [
        ("'=b.jpg", "x"),
        ("'c.jpg", "x"),
        ("=a.jpg", "-one"),
    ]
    evaluation = "path,label,predicted,prob,label_prob,label_rank,p:'-one\n'=a.jpg,'-one,x,0.9,0.1,2,0.1\n"
    assert pairs(read(table(tmp_path, evaluation)).rows) == [("=a.jpg", "-one")]


def test_apostrophes_in_other_tables_belong_to_the_names(tmp_path: Path) -> None:
    touch(tmp_path, "=a.jpg", "'=a.jpg", "'=b.jpg", "''=b.jpg", "'c.jpg")
    own = "\n".join(",".join(line.split(",")[:3]) for line in PREDICTED.splitlines())  # without the column of errors
    found = pairs(read(table(tmp_path, own)).rows)
    assert found == [("''=b.jpg", "x"), ("'=a.jpg", "'-one"), ("'c.jpg", "x")]


def test_a_table_without_labels_is_told_so(tmp_path: Path) -> None:
    looked = "has no label column (looked for label, class, category, target, labels, tags).\n"
    with pytest.raises(DataError) as caught:
        read(table(tmp_path, "image\na.jpg\n"))
    assert message(caught).endswith(f"{looked}Its only column is 'image': add one with the label of each image.")
    with pytest.raises(DataError) as caught:
        read(table(tmp_path, "image,what\na.jpg,cat\n"))
    assert message(caught).endswith(f"{looked}Columns: image, what\nGive --label-col.")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("cell", "hint"), [("../x/a.jpg", "without .. before them"), ("/x/a.jpg", "Give the folder")])
def test_what_to_do_about_paths_that_lead_out(tmp_path: Path, cell: str, hint: str) -> None:
    """A root cannot help where each path begins with a way up."""
    with pytest.raises(DataError, match="row 2 leads out of") as caught:
        read(table(tmp_path / "t", f"path,label\n{cell},cat\n"))
    assert hint in caught.value.hint
