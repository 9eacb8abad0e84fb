"""Layouts of published data sets, with their real names and formats."""

import os
from pathlib import Path

import pytest
from PIL import Image
from published import (
    ground_truth,
    ids_of,
    imagenet,
    label_lists,
    meta,
    solution,
    synsets,
    tiny_imagenet,
    touch,
    voc,
    write,
)

from imgkit.data.layouts import LAYOUTS
from imgkit.data.load import load_data
from imgkit.data.rows import Source
from imgkit.data.sources import find_data, read_source
from imgkit.errors import DataError, UsageError
from imgkit.recipe.schema import DataSettings

CAT, DOG = {"cat": 1, "dog": -1}, {"cat": -1, "dog": 1}


def read(root: Path, **given: object) -> Source:
    found = DataSettings(path=str(root), **given)
    return read_source(find_data(found), found)


def labels(source: Source, split: str) -> dict[str, tuple[str, ...]]:
    """File name -> labels."""
    return {Path(row.path).name: row.labels for row in source.rows if row.split == split}


def said(source: Source, text: str) -> bool:
    return any(text in note for note in source.notes)


# ImageNet


@pytest.mark.parametrize("base", [".", "ILSVRC/Data/CLS-LOC"])
def test_imagenet_of_a_thousand_synsets_with_kaggles_list(tmp_path: Path, base: str) -> None:
    truth = imagenet(tmp_path, 1000, 50, base=base, each=1)
    solution(tmp_path, truth)
    touch(tmp_path / base, "test/ILSVRC2012_test_00000001.JPEG")
    write(tmp_path / "LOC_synset_mapping.txt", *(f"{name} tench, Tinca tinca" for name in synsets(1000)))
    source = read(tmp_path)
    assert labels(source, "val") == {f"{stem}.JPEG": (synset,) for stem, synset in truth.items()}
    assert {row.labels[0] for row in source.rows if row.split == "train"} == set(synsets(1000))
    assert len(source.rows) == 1050
    assert source.notes[0] == (
        f"{tmp_path} is read as ImageNet, since it has train/ with folders such as n01440764, and images directly in "
        "val/."
    )
    assert said(source, "Labels of val/ are those of LOC_val_solution.csv.")
    assert said(source, "1 image without labels left out, such as test/ILSVRC2012_test_00000001.JPEG")
    assert said(source, "n01440764 is tench, Tinca tinca")
    assert source.task == "single"
    assert all((source.root / row.path).is_file() for row in source.rows)


@pytest.mark.parametrize("place", [".", "ILSVRC2012_devkit_t12/data"])
@pytest.mark.parametrize("kind", ["meta.mat", "map_clsloc.txt"])
def test_imagenet_with_the_challenges_numbers(tmp_path: Path, place: str, kind: str) -> None:
    truth = imagenet(tmp_path)
    ids = ids_of(synsets(6))
    assert [ids[name] for name in synsets(6)] != sorted(ids.values()), "the alphabet would be wrong"
    ground_truth(tmp_path / place, truth, ids)
    if kind == "meta.mat":
        meta(tmp_path / place, ids)
    else:
        lines = [f"{name} {number} kit_fox" for number, name in sorted((n, name) for name, n in ids.items())]
        write(tmp_path / place / kind, *lines)
    source = read(tmp_path)
    assert labels(source, "val") == {f"{stem}.JPEG": (synset,) for stem, synset in truth.items()}
    assert said(source, "Labels of val/ are those of ILSVRC2012_validation_ground_truth.txt.")


def test_imagenet_without_what_explains_the_labels_is_refused(tmp_path: Path) -> None:
    truth = imagenet(tmp_path)
    with pytest.raises(DataError, match=r"images directly in val/, and has no list of their labels") as caught:
        read(tmp_path)
    assert "LOC_val_solution.csv" in caught.value.hint
    ground_truth(tmp_path, truth, ids_of(synsets(6)))
    write(tmp_path / "LOC_synset_mapping.txt", *synsets(6))
    with pytest.raises(DataError, match="what says which synset has which number is missing") as told:
        read(tmp_path)
    assert "meta.mat" in told.value.hint
    assert "the numbers have another order" in told.value.hint
    (tmp_path / "meta.mat").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"meta\.mat is not the table of synsets"):
        read(tmp_path)
    (tmp_path / "meta.mat").unlink()
    write(tmp_path / "map_clsloc.txt", "n02119789 kit_fox")
    with pytest.raises(DataError, match=r"map_clsloc\.txt is not a list of lines such as"):
        read(tmp_path)


def test_imagenet_lists_that_are_wrong(tmp_path: Path) -> None:
    truth = imagenet(tmp_path)
    solution(tmp_path, dict(list(truth.items())[1:]))
    with pytest.raises(DataError, match=r"has no label for 1 image of val/, first val/ILSVRC2012_val_00000001.JPEG"):
        read(tmp_path)
    write(tmp_path / "LOC_val_solution.csv", "image,label")
    with pytest.raises(DataError, match="has the header 'image,label'"):
        read(tmp_path)
    write(tmp_path / "LOC_val_solution.csv", "ImageId,PredictionString", "ILSVRC2012_val_00000001,tench 1 2 3 4")
    with pytest.raises(DataError, match="row 2 does not name a synset"):
        read(tmp_path)
    (tmp_path / "LOC_val_solution.csv").unlink()
    write(tmp_path / "map_clsloc.txt", *(f"{name} {number} x" for number, name in enumerate(synsets(6), 1)))
    write(tmp_path / "ILSVRC2012_validation_ground_truth.txt", "3", "7")
    with pytest.raises(DataError, match="line 2 is '7', which is not the number of a synset") as caught:
        read(tmp_path)
    assert "1 to 6" in caught.value.hint


def test_more_labels_than_images_are_told(tmp_path: Path) -> None:
    truth = imagenet(tmp_path)
    solution(tmp_path, truth)
    (tmp_path / "val" / "ILSVRC2012_val_00000004.JPEG").unlink()
    assert said(read(tmp_path), "1 image of LOC_val_solution.csv not in val/.")


def test_sorted_imagenet_is_class_folders(tmp_path: Path) -> None:
    names = synsets(3)
    touch(tmp_path, *(f"{split}/{name}/{name}_1.JPEG" for split in ("train", "val") for name in names))
    source = read(tmp_path)
    assert not said(source, "is read as")
    assert len(labels(source, "val")) == 3


# Tiny ImageNet


def test_tiny_imagenet(tmp_path: Path) -> None:
    truth = tiny_imagenet(tmp_path, 200, 30)
    source = read(tmp_path)
    assert labels(source, "val") == {name: (synset,) for name, synset in truth.items()}
    assert {row.labels[0] for row in source.rows if row.split == "train"} == set(synsets(200))
    assert len(source.rows) == 430
    assert source.notes[0].endswith("is read as Tiny ImageNet, since it has val/val_annotations.txt.")
    assert said(source, "2 images without labels left out, such as test/images/test_0.JPEG.")
    assert said(source, "n01440764 is word, other n01440764")
    assert not said(source, "without an image extension"), "its own lists are no surprise"
    assert source.warnings == []


def test_tiny_imagenet_with_wrong_lists(tmp_path: Path) -> None:
    tiny_imagenet(tmp_path)
    touch(tmp_path, "val/images/val_99.JPEG")
    with pytest.raises(DataError, match=r"no line for 1 image of val/images/, first val_99\.JPEG"):
        read(tmp_path)
    (tmp_path / "val/images/val_99.JPEG").unlink()
    (tmp_path / "val/images/val_3.JPEG").unlink()
    assert said(read(tmp_path), "1 image of val/val_annotations.txt not in val/images/.")
    write(tmp_path / "wnids.txt", *synsets(4))
    with pytest.raises(DataError, match=rf"1 class that wnids.txt does not list: {synsets(5)[-1]}"):
        read(tmp_path)
    write(tmp_path / "wnids.txt", *synsets(6))
    assert "1 class of wnids.txt without images in train/" in read(tmp_path).warnings[0]
    write(tmp_path / "val/val_annotations.txt", "val_0.JPEG n01440764 0 0 1 1")
    with pytest.raises(DataError, match="line 1 does not name a synset"):
        read(tmp_path)


# Pascal VOC


def test_voc_with_empty_label_sets(tmp_path: Path) -> None:
    both, none = {"cat": 1, "dog": 1}, {"cat": -1, "dog": -1}
    root = voc(
        tmp_path,
        {
            "train": {"2008_000001": CAT, "2008_000002": none, "2008_000003": both},
            "val": {"2008_000004": {"cat": 0, "dog": -1}, "2008_000005": none},
        },
    )
    write(root / "ImageSets/Main/cat_trainval.txt", "2008_000001  1")
    touch(root, "JPEGImages/2008_000009.jpg", "SegmentationClass/2008_000001.png")
    source = read(root)
    assert source.task == "multilabel"
    assert labels(source, "train") == {
        "2008_000001.jpg": ("cat",),
        "2008_000002.jpg": (),
        "2008_000003.jpg": ("cat", "dog"),
    }
    assert labels(source, "val") == {"2008_000004.jpg": ("cat",), "2008_000005.jpg": ()}
    assert said(source, "is read as Pascal VOC, since it has JPEGImages/ and ImageSets/Main/")
    assert said(source, "1 label is marked 0, difficult, and taken as there.")
    assert said(source, "1 image of JPEGImages/ in no list, left out.")
    assert said(source, "1 image outside JPEGImages/ left out.")


def test_voc_of_trainval_and_test(tmp_path: Path) -> None:
    root = voc(tmp_path, {"trainval": {"000005": CAT, "000007": DOG}, "test": {"000001": CAT}})
    source = read(root)
    assert {row.path: row.split for row in source.rows} == {
        "JPEGImages/000005.jpg": None,
        "JPEGImages/000007.jpg": None,
        "JPEGImages/000001.jpg": "test",
    }


def test_voc_lists_that_are_wrong(tmp_path: Path) -> None:
    root = voc(tmp_path, {"train": {"1": CAT, "2": DOG}, "val": {"3": CAT}})
    lists = root / "ImageSets/Main"

    def wrong(file: str, *lines: str) -> str:
        kept = (lists / file).read_text()
        write(lists / file, *lines)
        with pytest.raises(DataError) as caught:
            read(root)
        (lists / file).write_text(kept)
        return caught.value.message

    assert "1 is in ImageSets/Main/cat_train.txt, but not in dog_train.txt" in wrong("dog_train.txt", "2 1")
    assert "line 2 is '2 yes'" in wrong("cat_train.txt", "1 1", "2 yes")
    assert "names 1 twice (line 2)" in wrong("cat_train.txt", "1 1", "1 -1")
    (lists / "dog_val.txt").rename(lists / "dog_val.bak")
    with pytest.raises(DataError, match=r"ImageSets/Main/dog_val\.txt is missing"):
        read(root)
    (lists / "dog_val.bak").rename(lists / "dog_val.txt")
    touch(root, "JPEGImages/1.png")
    with pytest.raises(DataError, match=r"JPEGImages/1\.jpg and JPEGImages/1\.png have one name"):
        read(root)
    (root / "JPEGImages/1.png").unlink()
    (root / "JPEGImages/2.jpg").unlink()
    assert "1 image named in ImageSets/Main/ not in JPEGImages/." in read(root).warnings
    twice = voc(tmp_path / "twice", {"train": {"1": CAT}, "val": {"1": CAT}})
    with pytest.raises(DataError, match="1 is in two splits, train and val"):
        read(twice)


# Which one


def test_two_layouts_in_one_folder_are_an_error_that_names_both(tmp_path: Path) -> None:
    tiny_imagenet(tmp_path)
    voc(tmp_path, {"train": {"1": CAT}})
    with pytest.raises(DataError, match="is laid out both as Tiny ImageNet and as Pascal VOC") as caught:
        read(tmp_path)
    assert "val/val_annotations.txt" in caught.value.hint
    assert "ImageSets/Main/" in caught.value.hint
    assert caught.value.exit_code == 3


def test_a_layout_one_level_below_is_named(tmp_path: Path) -> None:
    voc(tmp_path / "VOC2012", {"train": {"1": CAT}})
    with pytest.raises(DataError, match="VOC2012 is laid out as Pascal VOC, but") as caught:
        read(tmp_path)
    assert f"--data {tmp_path}/VOC2012" in caught.value.hint


def test_another_task_than_the_layout_has_is_refused(tmp_path: Path) -> None:
    tiny_imagenet(tmp_path / "tiny")
    voc(tmp_path / "voc", {"train": {"1": CAT}})
    with pytest.raises(UsageError, match="laid out as Tiny ImageNet: one label an image"):
        read(tmp_path / "tiny", task="multilabel")
    with pytest.raises(UsageError, match="laid out as Pascal VOC: any number of labels an image"):
        read(tmp_path / "voc", task="single")
    assert read(tmp_path / "voc", task="multilabel").task == "multilabel"
    with pytest.raises(UsageError, match=r"data\.label_col is for a CSV"):
        read(tmp_path / "voc", label_col="x")


def test_class_folders_have_no_marks(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1.jpg", "val/cat/1.jpg", "train/n01440764/1.jpg", "val/n01440764/2.jpg")
    assert not any(layout.is_here(tmp_path) for layout in LAYOUTS)
    touch(tmp_path / "empty", "train/n01440764/1.jpg", "val/notes.txt")
    assert not any(layout.is_here(tmp_path / "empty") for layout in LAYOUTS)


def test_an_index_of_pascal_voc(tmp_path: Path) -> None:
    """Through the scan, with pictures of one pixel."""
    marks = {"cat": 1, "dog": -1}, {"cat": -1, "dog": -1}, {"cat": 1, "dog": 1}
    root = voc(
        tmp_path,
        {split: {f"{split}{n}": marks[n % 3] for n in range(6)} for split in ("train", "val")},
    )
    for number, file in enumerate(sorted((root / "JPEGImages").iterdir())):
        Image.new("L", (1, 1), number).save(file)
    found = load_data(DataSettings(path=str(root)))
    assert "4 images have no label, of 12." in " ".join(found.notes)
    index = found.index
    assert index.task == "multilabel"
    assert index.counts("train").tolist() == [4, 2]
    assert index.multi_hot()[index.rows("val")].sum(axis=1).tolist() == [1, 0, 2, 1, 0, 2]


# A list of images for each label


def test_lists_of_images_by_label(tmp_path: Path) -> None:
    label_lists(tmp_path, 12, {"bird": [1, 12], "sea": [12, 3], "car": [], "none": [40]})
    write(tmp_path / "annotations" / "tree.txt", "im2", "", "im11.jpg")
    touch(tmp_path, "readme.txt", "more/im99.jpg")
    source = read(tmp_path)
    assert source.task == "multilabel"
    held = {Path(row.path).name: row.labels for row in source.rows}
    named = {"im1": ("bird",), "im12": ("bird", "sea"), "im3": ("sea",), "im2": ("tree",), "im11": ("tree",)}
    assert held == {f"im{n}.jpg": named.get(f"im{n}", ()) for n in range(1, 13)}
    assert {row.split for row in source.rows} == {None}
    assert source.notes[0].endswith(
        "is read as lists of images by label, since it has images in images/, and nothing but text files in "
        "annotations/."
    )
    assert said(source, "7 images are in no list and so without a label.")
    assert said(source, "1 image outside images/ left out.")
    assert source.warnings == [
        "2 labels without an image: car, none.",
        "1 image named in annotations/ not in images/: 40.",
    ]


def test_lists_by_label_that_are_wrong(tmp_path: Path) -> None:
    label_lists(tmp_path / "a", 3, {"bird": [1, 2, 1]})
    with pytest.raises(DataError, match=r"annotations/bird\.txt names images/im1\.jpg twice \(line 3\)"):
        read(tmp_path / "a")
    label_lists(tmp_path / "b", 3, {"bird": [7]})
    with pytest.raises(DataError, match=r"None of the lists in annotations/ of .* names an image of images/") as caught:
        read(tmp_path / "b")
    assert caught.value.hint == "A line is the name of an image, such as im1.jpg, or the number in it."
    label_lists(tmp_path / "c", 3, {"bird": [2]})
    touch(tmp_path / "c", "images/2.jpg")
    with pytest.raises(
        DataError, match=r"line 1 is '2', which is the name of 2 images: images/2\.jpg, images/im2\.jpg"
    ):
        read(tmp_path / "c")


@pytest.mark.parametrize("files", [["annotations/im1.xml"], ["annotations/a/1.txt"], []])
def test_other_annotations_are_no_lists_by_label(tmp_path: Path, files: list[str]) -> None:
    touch(tmp_path, "images/im1.jpg", *files)
    (tmp_path / "annotations").mkdir(exist_ok=True)
    assert not any(layout.is_here(tmp_path) for layout in LAYOUTS)


# Folders that cannot be followed or listed


@pytest.mark.parametrize("at", ["self", "val/self", "train/self"])
def test_a_link_that_leads_to_itself_stops_nothing(tmp_path: Path, at: str) -> None:
    touch(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg")
    (tmp_path / at).symlink_to(tmp_path / at)
    assert labels(read(tmp_path), "train") == {"1.jpg": ("dog",)}
    assert len(read(tmp_path).rows) == 3
    assert not any(layout.is_here(tmp_path / "self") for layout in LAYOUTS)


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        (".", ["a/1.jpg"]),
        ("a", ["a/1.jpg"]),
        ("train", ["train/n01440764/1.jpg", "val/2.jpg"]),
        ("ImageSets/Main", ["JPEGImages/3.jpg", "ImageSets/Main/cat_train.txt"]),
    ],
)
def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, files: list[str]
) -> None:
    touch(tmp_path, *files)
    original, closed = os.scandir, tmp_path / folder

    def scandir(path: Path) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    with monkeypatch.context() as patch:  # undone before pytest removes the folder
        patch.setattr("os.scandir", scandir)
        with pytest.raises(DataError, match=f"{closed} cannot be listed: Permission denied"):
            read(tmp_path)


def test_marks_that_may_not_be_looked_at_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    original = Path.stat

    def stat(path: Path, **how: bool) -> os.stat_result:
        if tmp_path / "a" in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    assert len(read(tmp_path).rows) == 2
