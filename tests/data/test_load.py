"""From settings to a checked index: labels by name, splits, bad files, what is said."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import corpus
import numpy as np
import pytest
from pictures import MakeFolders, TreeHash, square
from PIL import Image

from imgkit.data.index import SPLITS
from imgkit.data.load import LoadedData, load_data
from imgkit.errors import DataError, UsageError
from imgkit.recipe.schema import DataSettings


def load(path: Path | str, *, classes: tuple[str, ...] | None = None, **given: object) -> LoadedData:
    return load_data(DataSettings(path=str(path), **given), classes=classes)


def said(texts: tuple[str, ...], part: str) -> str:
    """The one text that holds `part`."""
    found = [text for text in texts if part in text]
    assert len(found) == 1, texts
    return found[0]


def counts(data: LoadedData) -> dict[str, list[int]]:
    return {split: data.index.counts(split).tolist() for split in SPLITS}


# Labels go by name; tests/faults/test_class_names.py tries many trees


def test_rows_are_sorted_and_sized(make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 3, "dog": 3})
    index = load(root).index
    assert list(index.paths) == sorted(index.paths)
    assert index.sizes.tolist() == [index.path(row).stat().st_size for row in range(6)]
    contents = [index.path(row).read_bytes() for row in range(6)]
    assert [row.tobytes() for row in index.hashes] == [hashlib.sha256(content).digest() for content in contents]
    assert index.groups is None
    assert index.root == root


def test_class_only_in_val(make_folders: MakeFolders) -> None:
    root = make_folders({"train/Persian": 2, "train/birman": 2, "val/persian": 1, "val/birman": 1})
    with pytest.raises(DataError) as caught:
        load(root)
    assert str(caught.value) == (
        "val has a class that train does not have: persian   "
        "(same as 'Persian' but for capitals, spaces or accents?)\n"
        f"Rename it in {root}/val/, or give the training images alone, and imgkit splits them:  --train {root}/train"
    )


def test_several_classes_only_in_test(make_folders: MakeFolders) -> None:
    root = make_folders({"train/a": 2, "train/b": 2, "test/x": 1, "test/y": 1})
    with pytest.raises(DataError, match=r"^test has 2 classes that train does not have: x, y\n"):
        load(root)


def test_accents_in_two_spellings(make_folders: MakeFolders) -> None:
    root = make_folders({"train/\u00e9": 2, "train/b": 2, "val/e\u0301": 1})
    with pytest.raises(DataError, match="accents"):
        load(root)


def test_one_class(make_folders: MakeFolders) -> None:
    root = make_folders({"pets/cat": 2, "pets/dog": 2})
    with pytest.raises(DataError, match="has one class only: pets") as caught:
        load(root)
    assert f"--data {root}/pets   holds cat, dog." in caught.value.hint


def test_number_of_classes(make_folders: MakeFolders) -> None:
    root = make_folders(dict.fromkeys("abcd", 2))
    assert load_data(DataSettings(path=str(root), classes=4)).index.classes == ("a", "b", "c", "d")
    with pytest.raises(DataError) as caught:
        load_data(DataSettings(path=str(root), classes=100))
    assert str(caught.value) == (
        f"--classes 100, but {root} has 4 classes.\n"
        "First: a, b, c ... last: d\n"
        "Leave out --classes (it is read from the data) or point --data at the data with 100 classes.\n"
        f"One level too deep or too high?  {root} is 4 folders of images; its parent {root.parent.name}/ has 1 folder."
    )


@pytest.mark.parametrize("name", ["new\nline", "\u2028", "\udcff"])
def test_class_names_are_lines_of_text(make_folders: MakeFolders, name: str) -> None:
    with pytest.raises(DataError, match="holds a line break or bytes that are not UTF-8"):
        load(make_folders({f"{name}x": 2, "dog": 2}))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("Cat", "cat", "dog"), "'Cat', 'cat'. Each"),
        (("\u00e9", "e\u0301", "dog"), "'\u00e9'"),
        (("1", "01", "-1"), "'01', '1'. Each"),
        (("Cat", "cat", "Dog", "dog"), "The same goes for 1 other group."),
        (("1-2", "12"), ""),
        (("-1", "1"), ""),
        (("nan", "null", "none"), "2 classes are called nan, null."),
    ],
)
def test_names_that_are_likely_a_mistake(make_folders: MakeFolders, names: tuple[str, ...], said: str) -> None:
    warnings = load(make_folders(dict.fromkeys(names, 2))).warnings
    assert [said in text for text in warnings if "differ only" in text or " called " in text] == [True] * bool(said)


def test_class_with_one_image(make_folders: MakeFolders) -> None:
    data = load(make_folders({"cat": 1, "dog": 9, "owl": 9}))
    assert "1 class has one image in train: cat. Add images, or leave it out." in data.warnings
    assert data.index.counts("train")[0] == 1
    assert "1 class has none" in said(data.warnings, "validation set has 4 images for 3 classes")


# Splits


def test_split_of_one_level(make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 10, "dog": 20})
    data = load(root)
    assert counts(data) == {"train": [8, 16], "val": [2, 4], "test": [0, 0]}
    note = "Split the images because no splits are given: train 24, val 6 (stratified, 0.2 for val, split seed 0)."
    assert note in data.notes
    small = "The validation set has 6 images for 2 classes. Top-1 would be known only to about ±40 points."
    assert data.warnings == (f"{small} A larger one, taken from train:  --val 0.4",)
    assert counts(load(root, val=0.5, test=0.1)) == {"train": [4, 8], "val": [5, 10], "test": [1, 2]}
    assert load(root).index.fingerprint == data.index.fingerprint
    assert load(root, split_seed=1).index.fingerprint != data.index.fingerprint


def test_train_and_test_only(make_folders: MakeFolders) -> None:
    root = make_folders({"train/cat": 10, "train/dog": 10, "test/cat": 3, "test/dog": 3})
    data = load(root)
    assert counts(data) == {"train": [8, 8], "val": [2, 2], "test": [3, 3]}
    note = said(data.notes, "Split train")
    assert note.startswith("Split train because no val split is given: train 16, val 4 (")
    assert note.endswith("; test is kept as given.")
    assert counts(load(root, val=0.0)) == {"train": [10, 10], "val": [0, 0], "test": [3, 3]}
    assert "no validation split" in said(load(root, val=0.0).warnings, "nothing chooses")


def test_given_splits_stay(make_folders: MakeFolders) -> None:
    root = make_folders({"train/cat": 10, "train/dog": 10, "val/cat": 3, "val/dog": 3})
    data = load(root)
    assert counts(data) == {"train": [10, 10], "val": [3, 3], "test": [0, 0]}
    assert not any(note.startswith("Split") for note in data.notes)
    assert counts(load(root, test=0.2)) == {"train": [8, 8], "val": [3, 3], "test": [2, 2]}


def test_pair(make_folders: MakeFolders) -> None:
    root = make_folders({"x/cat": 4, "x/dog": 4, "y/cat": 1, "y/dog": 1})
    data = load_data(DataSettings(train=str(root / "x"), val_path=str(root / "y")))
    assert counts(data) == {"train": [4, 4], "val": [1, 1], "test": [0, 0]}
    assert data.where == f"{root}/x/ (from --train) and {root}/y/ (from --val)"
    alone = load_data(DataSettings(train=str(root / "x")))
    assert counts(alone) == {"train": [3, 3], "val": [1, 1], "test": [0, 0]}


def write_table(root: Path, lines: list[str]) -> Path:
    (root / "labels.csv").write_text("\n".join(lines))
    return root / "labels.csv"


def test_groups(make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 20, "dog": 20})
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    lines = [f"{file},{file.split('/')[0]},p{number // 4}" for number, file in enumerate(files)]
    data = load(write_table(root, ["path,label,patient", *lines]), group_col="patient")
    assert counts(data) == {"train": [16, 16], "val": [4, 4], "test": [0, 0]}
    assert data.index.groups is not None
    pairs = set(zip(data.index.groups.tolist(), data.index.splits.tolist(), strict=True))
    assert len(pairs) == 10
    assert "in whole groups" in said(data.notes, "Split the images")
    lines = [f"{line},{'val' if number % 5 == 0 else 'train'}" for number, line in enumerate(lines)]
    data = load(write_table(root, ["path,label,patient,split", *lines]), group_col="patient")
    assert "8 groups have images in more than one of the given splits." in data.warnings


def test_table_without_train(make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 1, "dog": 1})
    with pytest.raises(DataError, match="has no usable image in train"):
        load(write_table(root, ["path,label,split", "cat/0000.png,cat,val"]))


def test_builtin() -> None:
    data = load("synthetic:3x50")
    assert data.where == "synthetic:3x50 (built in)"
    assert counts(data) == {"train": [40] * 3, "val": [10] * 3, "test": [0] * 3}
    assert data.warnings == ()


# The class map of a trained run


def test_other_data_by_name(make_folders: MakeFolders) -> None:
    root = make_folders({"zebra": 2, "cat": 1})
    data = load(root, classes=("ant", "cat", "zebra"))
    assert data.index.classes == ("ant", "cat", "zebra")
    assert [(data.index.paths[row].split("/")[0], code) for row, code in enumerate(data.index.labels())] == [
        ("cat", 1),
        ("zebra", 2),
        ("zebra", 2),
    ]
    assert counts(data) == {"train": [0, 0, 0], "val": [0, 0, 0], "test": [0, 1, 2]}
    assert "1 class of the model without an image here: ant." in data.notes
    assert data.warnings == ()


def test_other_data_with_splits_and_one_class(make_folders: MakeFolders) -> None:
    root = make_folders({"val/cat": 2, "test/cat": 1})
    assert counts(load(root, classes=("cat", "dog"))) == {"train": [0, 0], "val": [2, 0], "test": [1, 0]}
    assert counts(load(root / "val", classes=("cat", "dog")))["test"] == [2, 0]


def test_other_data_with_an_unknown_class(make_folders: MakeFolders) -> None:
    root = make_folders({"Cat": 1, "owl": 1, "dog": 1})
    with pytest.raises(DataError) as caught:
        load(root, classes=("cat", "dog"))
    assert str(caught.value) == (
        f"{root} has 2 classes that the model does not know: Cat, owl   "
        "(same as 'cat' but for capitals, spaces or accents?)\n"
        "+ only in the data:   Cat, owl\n"
        "- only in the model:  cat\n"
        "Rename or leave out these classes; labels are matched by name.\n"
        "Or train a new head for them, on the weights of this model:  "
        f"imgkit finetune NETWORK --weights RUN/model/model.safetensors --data {root}"
    )


# Bad files


def test_bad_files_stop(make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 5, "dog": 5})
    for number in range(22):
        (root / "cat" / f"bad{number:02d}.jpg").write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        load(root)
    lines = caught.value.message.splitlines()
    assert lines[0] == f"22 of 32 images in {root} cannot be used:"
    assert lines[1].startswith("  cat/bad00.jpg: not a JPEG, PNG")
    assert len(lines) == 22
    assert lines[-1] == "  and 2 more"
    assert "--on-bad skip" in caught.value.hint


def test_bad_files_skipped(make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 5, "dog": 5})
    (root / "cat" / "bad.jpg").write_bytes(b"x")
    data = load(root, on_bad="skip")
    assert len(data.index) == 10
    assert [error.path for error in data.bad] == [str(root / "cat" / "bad.jpg")]
    assert said(data.warnings, "left out").startswith(
        "1 file left out because they cannot be used, first cat/bad.jpg: not"
    )
    assert load(root / "..", on_bad="skip", classes=("pictures",)).bad


def test_a_class_lost_to_bad_files(make_folders: MakeFolders) -> None:
    root = make_folders({"train/cat": 2, "train/dog": 2, "val/owl": 1, "val/cat": 1})
    (root / "train" / "owl").mkdir()
    (root / "train" / "owl" / "x.png").write_bytes(b"x")
    with pytest.raises(DataError, match="val has a class that train does not have: owl"):
        load(root, on_bad="skip")


def test_nothing_left(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match="No usable image is left") as caught:
        load(tmp_path, on_bad="skip")
    assert "cat/x.png: empty file (0 bytes)" in caught.value.hint
    assert "--root" not in caught.value.hint
    file = write_table(tmp_path, ["path,label", "gone/x.png,cat", "gone/y.png,dog"])
    with pytest.raises(DataError, match="No usable image is left") as caught:
        load(file, on_bad="skip")
    assert caught.value.hint.endswith(f"Relative paths start at {tmp_path}; another folder:  --root FOLDER")


def test_missing_files_of_a_table_are_skipped(make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 3, "dog": 3})
    lines = [f"{path.relative_to(root)},{path.parent.name}" for path in root.rglob("*.png")]
    file = write_table(root, ["path,label", *lines, "cat/none.png,cat"])
    with pytest.raises(DataError, match=r"1 of 7 images do not exist. First: row 8"):
        load(file)
    assert [error.reason for error in load(file, on_bad="skip").bad] == ["No such file or directory"]


def test_max_pixels(make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 2, "dog": 2}, side_px=20)
    with pytest.raises(DataError, match=r"over the limit of 300"):
        load(root, max_pixels=300)


# What is said


def test_copies(make_folders: MakeFolders) -> None:
    root = make_folders({"train/cat": 3, "train/dog": 3, "val/cat": 2, "val/dog": 2})
    content = (root / "train" / "cat" / "0000.png").read_bytes()
    (root / "val" / "cat" / "0001.png").write_bytes(content)
    (root / "train" / "dog" / "0002.png").write_bytes(content)
    data = load(root)
    assert data.warnings == (
        "3 images in 1 group are exact copies in different splits, so scores are too good, "
        "for example train/cat/0000.png = val/cat/0001.png. Keep one of each.",
        "3 images in 1 group are exact copies with different labels, "
        "for example train/cat/0000.png = train/dog/0002.png. Keep one of each.",
        "The validation set has 4 images for 2 classes. Top-1 would be known only to about ±49 points. A larger one, "
        "taken from train:  give the training images alone (--train FOLDER, or a table of them)",
    )
    assert "3 images in 1 group are exact copies of each other." in data.notes


def test_picture_notes(make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 6, "dog": 6})
    (root / "cat" / "turned.jpg").write_bytes(corpus.exif_jpeg(6, (100, 60)))
    Image.new("L", (3, 3)).save(root / "dog" / "gray.png")
    notes = load(root).notes
    assert "PNG 13, JPEG 1; largest 60x100 px, median 16x16 px." in notes
    assert "1 image is turned upright as EXIF says." in notes
    assert "1 image is grayscale among colour ones, converted to RGB." in notes


def test_all_grayscale(tmp_path: Path) -> None:
    for code, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for number in range(4):
            square(number, code=code).convert("L").save(tmp_path / name / f"{number}.png")
    note = "All 8 images are grayscale and are repeated to 3 channels (unless model.in_chans is 1)."
    assert note in load(tmp_path).notes


def test_tiny_validation_set(make_folders: MakeFolders) -> None:
    root = make_folders({"train/a": 3, "train/b": 3, "train/c": 3, "val/a": 4})
    data = load(root)
    assert data.warnings == (
        "The validation set has 4 images for 3 classes, and 2 classes have none. Top-1 would be known only to about "
        "±49 points. A larger one, taken from train:  give the training images alone (--train FOLDER, or a table of "
        "them)",
    )
    assert "2 classes of train have no image in val: b, c." in data.notes


def test_progress(make_folders: MakeFolders) -> None:
    seen: list[tuple[int, int]] = []
    load_data(
        DataSettings(path=str(make_folders({"a": 2, "b": 2}))),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (4, 4)


@pytest.mark.parametrize("change", [lambda root: None, lambda root: (root / "cat" / "bad.png").write_bytes(b"x")])
def test_data_are_never_written(
    make_folders: MakeFolders, tree_hash: TreeHash, change: Callable[[Path], object]
) -> None:
    root = make_folders({"cat": 3, "dog": 3, ".hidden": 1})
    change(root)
    write_table(root, ["path,label", "cat/0000.png,cat", "cat/0001.png,cat", "dog/0000.png,dog"])
    before = tree_hash(root)
    load(root, on_bad="skip")
    load(root / "labels.csv")
    load(root, on_bad="skip", classes=("cat", "dog"))
    assert tree_hash(root) == before


def test_decoded_pixels_follow_the_label(make_folders: MakeFolders) -> None:
    from imgkit.data.decode import load_image

    index = load(make_folders({"red": 3, "green": 3})).index
    for row, code in enumerate(index.labels()):
        mean = np.asarray(load_image(index.path(row))).mean(axis=(0, 1))
        assert (mean.argmax() == 1) == (index.classes[code] == "red")  # "green" sorts first and gets the first colour


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_share_that_the_data_make_useless_is_refused(make_folders: MakeFolders, split: str) -> None:
    root = make_folders({"train/a": 3, "train/b": 3, f"{split}/a": 1, f"{split}/b": 1})
    with pytest.raises(UsageError, match=rf"data\.{split} = 0\.3 is not used: .* has a {split} split of its own"):
        load_data(DataSettings.model_validate({"path": str(root), split: 0.3}))
    assert load_data(DataSettings.model_validate({"path": str(root), split: 0.0})).index


def test_a_seed_of_splits_that_the_data_make_useless_is_refused(make_folders: MakeFolders) -> None:
    root = make_folders({"train/a": 6, "train/b": 6, "val/a": 1, "val/b": 1})
    with pytest.raises(UsageError, match=r"data\.split_seed = 3 is not used: imgkit makes no split of ") as caught:
        load(root, split_seed=3)
    assert caught.value.hint.endswith("--set data.test=0.2")
    held = [load(root, split_seed=seed, test=0.5).index.splits.tolist() for seed in (3, 3, 4)]
    assert held[0] == held[1] != held[2]
    whole = make_folders({"train/a": 6, "val/a": 2, "test/a": 2}, "whole")
    with pytest.raises(UsageError, match=r"data\.split_seed = 3 is not used") as told:
        load(whole, split_seed=3)
    assert told.value.hint == "Leave out --split-seed.", "a test split of its own leaves nothing to be held out"


@pytest.mark.parametrize("inner", [("cat", "dog"), ("train/cat", "val/cat")])
def test_data_sets_one_level_below_are_told(make_folders: MakeFolders, inner: tuple[str, str]) -> None:
    root = make_folders({f"{kind}/{name}": 2 for kind in ("my pets", "toys") for name in inner})
    first, second = (name.split("/")[0] for name in inner)
    assert (
        "The classes are my pets, toys, but each holds its images in folders of its own "
        f"(my pets/: {first}, {second}). If each is a data set, give one:  --data '{root}/my pets'"
    ) in load(root).warnings


@pytest.mark.parametrize(
    "more",
    [
        {"dog/1": 2},  # one folder in a class holds nothing apart
        {"dog": 2, "dog/1": 1, "dog/2": 1},  # images of the class itself
    ],
)
def test_folders_within_a_class_are_not_told(make_folders: MakeFolders, more: dict[str, int]) -> None:
    data = load(make_folders({"cat/1": 2, "cat/2": 2, **more}))
    assert not any("data set" in text for text in data.warnings)


def test_small_splits_have_the_same_words_whoever_made_them(make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 1, "dog": 9, "owl": 9})
    dealt = load(root)
    pairs = zip(dealt.index.paths, dealt.index.splits.tolist(), strict=True)
    for path, split in list(pairs):
        place = root.parent / "given" / SPLITS[split] / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((root / path).read_bytes())
    given = load(root.parent / "given")
    assert counts(given) == counts(dealt)
    for texts in (dealt.notes, given.notes):
        assert "1 class of train has no image in val: cat." in texts
    hints = ("--val 0.4", "give the training images alone (--train FOLDER, or a table of them)")
    assert [text.replace(hints[0], hints[1]) for text in dealt.warnings] == list(given.warnings)
    assert len(given.warnings) == 2


def test_a_class_left_with_one_image_by_the_split_is_told(make_folders: MakeFolders) -> None:
    data = load(make_folders({"cat": 2, "dog": 9}), val=0.5)
    assert data.index.counts("train").tolist()[0] == 1
    assert "1 class has one image in train: cat. Add images, or leave it out." in data.warnings
