import csv
import re
from pathlib import Path
from typing import Any

import pytest
from cli_run import Run
from pictures import MakeFolders, TreeHash, square

pytest_plugins = ["cli_fixture"]


def test_clean_data_exit_0_with_what_to_type_next(imgkit: Run, make_folders: MakeFolders, tree_hash: TreeHash) -> None:
    root = make_folders({"cat": 20, "dog": 25})
    before = tree_hash(root)
    code, out, err = imgkit("data", "check", str(root))
    assert (code, err) == (0, "")
    plain = " ".join(out.split())
    assert "45 images · 2 classes · 20 to 25 a class" in plain
    assert "✔ all files open" in plain
    assert re.search(r"\d warnings?, 0 errors", plain)
    assert plain.endswith(f"--data {root}")
    assert tree_hash(root) == before


@pytest.mark.parametrize(("here", "told"), [([], "resnet50"), (["tf_efficientnet_lite1"], "tf_efficientnet_lite1")])
def test_what_to_type_next_names_a_network_whose_weights_are_here(
    imgkit: Run, make_folders: MakeFolders, monkeypatch: pytest.MonkeyPatch, here: list[str], told: str
) -> None:
    monkeypatch.setattr("imgkit.weight_packages.installed_networks", lambda: here)
    root = make_folders({"cat": 20, "dog": 20})
    plain = " ".join(imgkit("data", "check", str(root))[1].split())
    assert plain.endswith(f"Next: imgkit finetune {told} --data {root}")


def test_the_names_of_the_classes_are_listed(imgkit: Run, make_folders: MakeFolders) -> None:
    out = imgkit("data", "check", str(make_folders({f"c{number:03d}": 3 for number in range(12)})))[1]
    assert f"Classes {', '.join(f'c{number:03d}' for number in range(12))} ✔" in " ".join(out.split())


def test_unreadable_files_are_all_named_and_exit_3(imgkit: Run, make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 20, "dog": 20})
    for number in range(12):
        (root / "cat" / f"bad{number:02d}.jpg").write_bytes(b"no picture")
    code, out, err = imgkit("data", "check", str(root))
    assert code == 3
    assert out.count("✗") == 10
    assert "… and 2 more files" in out
    assert "12 errors" in out
    assert "error: 12 files cannot be used as an image." in err
    assert "--on-bad skip" in err
    assert "✔ all files open" not in out


def test_data_that_training_refuses_for_want_of_validation_images_exit_3(
    imgkit: Run, make_folders: MakeFolders
) -> None:
    code, out, err = imgkit("data", "check", str(make_folders({"cat": 1, "dog": 1})))
    assert code == 3
    assert "error: There is no validation split" in err
    assert "Next:" not in out


def test_duplicates_are_warnings_that_exit_0(imgkit: Run, make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 20, "dog": 20})
    (root / "dog" / "copy.png").write_bytes((root / "dog" / "0000.png").read_bytes())
    code, out, _ = imgkit("data", "check", str(root))
    assert code == 0
    assert " ! " in out
    assert "0 errors" in out


def test_one_picture_under_two_labels_must_be_mended(imgkit: Run, make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 20, "dog": 20})
    (root / "dog" / "copy.png").write_bytes((root / "cat" / "0000.png").read_bytes())
    code, out, err = imgkit("data", "check", str(root))
    assert code == 3
    assert "✗ 1 image has another label, too, such as" in out
    assert "1 error" in out
    assert "error: 1 finding must be mended." in err
    assert "--fix-list FILE --html FILE" in " ".join(err.split())
    assert "Next:" not in out


def test_one_picture_in_two_given_splits_must_be_mended(imgkit: Run, make_folders: MakeFolders) -> None:
    root = make_folders({"train/cat": 20, "train/dog": 20, "val/cat": 20, "val/dog": 20})
    (root / "val/dog/copy.png").write_bytes((root / "train/dog/0000.png").read_bytes())
    (root / "train/cat/bad.png").write_bytes(b"no picture")
    code, out, err = imgkit("data", "check", str(root))
    assert code == 3
    assert "✗ 1 image is in a later split, too" in out
    assert "2 errors" in out
    assert "error: 1 file cannot be used as an image, and 1 other finding must be mended." in " ".join(err.split())


def test_a_table_and_a_page_are_written_and_data_are_not(
    imgkit: Run, make_folders: MakeFolders, tree_hash: TreeHash, tmp_path: Path
) -> None:
    root = make_folders({"cat": 20, "dog": 20})
    (root / "dog" / "=copy.png").write_bytes((root / "cat" / "0000.png").read_bytes())
    before = tree_hash(root)
    table, page = tmp_path / "fix.csv", tmp_path / "page.html"
    code, out, err = imgkit("data", "check", str(root), "--fix-list", str(table), "--html", str(page))
    assert code == 3
    assert tree_hash(root) == before
    with table.open(newline="") as file:
        row, *_ = csv.DictReader(file)
    assert (row["finding"], row["severity"], row["path"]) == ("two-labels", "error", "dog/=copy.png")
    assert row["other"] == "cat/0000.png"
    assert "Table of " in out
    assert "Page: " in " ".join(out.split())
    assert "--fix-list FILE" not in err
    assert "data:image/webp;base64," in page.read_text()


def test_what_is_written_lies_outside_the_data(imgkit: Run, make_folders: MakeFolders, tmp_path: Path) -> None:
    root = make_folders({"cat": 4, "dog": 4})
    code, _, err = imgkit("data", "check", str(root), "--html", str(root / "page.html"))
    assert code == 2
    told = " ".join(err.split())
    assert "lies in the data, which are never written to" in told
    assert f"--html {root.parent}/page.html" in told.replace("/ ", "/")
    assert not (root / "page.html").exists()
    table = tmp_path / "cells.csv"
    table.write_text(
        "path,label\n" + "".join(f"pictures/{c}/000{n}.png,{c}\n" for c in ("cat", "dog") for n in range(4))
    )
    content = table.read_bytes()
    assert imgkit("data", "check", str(table), "--fix-list", str(table))[0] == 2
    picture = root / "cat" / "0000.png"
    pixels = picture.read_bytes()
    assert imgkit("data", "check", str(table), "--html", str(picture))[0] == 2
    assert (table.read_bytes(), picture.read_bytes()) == (content, pixels)


def test_data_that_cannot_be_read_exit_3(imgkit: Run, tmp_path: Path) -> None:
    code, _, err = imgkit("data", "check", str(tmp_path / "nowhere"))
    assert code == 3
    assert err.startswith("error: ")


def test_options_reach_the_reader(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgkit.errors import DataError

    seen: list[Any] = []

    def load(settings: object, **_: object) -> None:
        seen.append(settings)
        raise DataError("enough")

    monkeypatch.setattr("imgkit.check.whole.list_data", load)
    line = "d --classes 3 --max-pixels 2M --val 0.3 --split-seed 5 --split-col s --group-col g --root r"
    columns = ["--image-col", "i", "--label-col", "l"]
    assert imgkit("data", "check", *line.split(), *columns)[0] == 3
    (settings,) = seen
    assert settings.split_seed == 5
    assert (settings.path, settings.image_col, settings.label_col, settings.split_col) == ("d", "i", ("l",), "s")
    assert (settings.group_col, settings.root, settings.classes, settings.max_pixels) == ("g", "r", 3, 2_000_000)
    assert (settings.val, settings.on_bad) == (0.3, "skip")


def test_what_to_type_next_has_the_options_that_were_given(imgkit: Run, make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 20, "dog": 20}, name="my pictures")
    code, out, _ = imgkit("data", "check", str(root), "--classes", "2", "--split-seed", "4")
    plain = " ".join(out.split())
    assert code == 0
    assert "20 a class" in plain
    assert plain.endswith(f" --data '{root}' --split-seed 4 --classes 2")


def test_pictures_that_a_crop_would_cut_are_warned_of(imgkit: Run, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(6):
            square(number + 6 * (name == "dog")).resize((40, 20)).save(tmp_path / name / f"{number}.png")
    code, out, _ = imgkit("data", "check", str(tmp_path))
    assert code == 0
    assert "! The crop to a square cuts 50% off the median image" in out
    assert "2 warnings, 0 errors" in out, "the other is the small validation"


def test_several_data_sets_are_checked_as_one(imgkit: Run, make_folders: MakeFolders) -> None:
    one, two = make_folders({"cat": 10, "dog": 10}, name="one"), make_folders({"cat": 5, "owl": 5}, name="two")
    code, out, _ = imgkit("data", "check", str(one), str(two))
    plain = " ".join(out.split())
    assert code == 0
    assert "30 images · 3 classes" in plain
    assert "2 data sets are joined" in plain
    assert plain.endswith(f"--data {one} --data {two}")


def test_an_ambiguous_layout_and_joined_splits_exit_3(imgkit: Run, make_folders: MakeFolders) -> None:
    one, two = make_folders({"train/cat": 2, "val/cat": 2}, name="one"), make_folders({"cat": 5, "owl": 5}, name="two")
    code, _, err = imgkit("data", "check", str(one), str(two))
    assert code == 3
    assert "so they cannot be joined" in " ".join(err.split())
    for name in ("JPEGImages", "ImageSets/Main", "val"):
        (two / name).mkdir(parents=True)
    (two / "ImageSets/Main/cat_train.txt").touch()
    (two / "val/val_annotations.txt").touch()
    code, _, err = imgkit("data", "check", str(two))
    assert code == 3
    assert "laid out both as Tiny ImageNet and as Pascal VOC" in " ".join(err.split())


def test_unequal_classes_have_a_table_and_a_note(imgkit: Run, make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 40, "dog": 5})
    code, out, _ = imgkit("data", "check", str(root))
    assert code == 0
    assert re.search(r"class +images +uniform draws\n *dog +4 +4.0\n *cat +32 +32.0", out)
    assert "--sampler sqrt" in " ".join(out.split())
    code, out, _ = imgkit("data", "check", str(root), "--sampler", "balanced")
    assert code == 0
    assert re.search(r"dog +4 +18.0\n *cat +32 +18.0", out)
    assert "the largest class" not in out.lower()
    assert " ".join(out.split()).endswith(f"--data {root} --sampler balanced")


def test_a_wrong_sampler_or_one_without_its_column_exit_2(imgkit: Run, make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 4, "dog": 4})
    code, _, err = imgkit("data", "check", str(root), "--sampler", "balancd")
    assert code == 2
    assert "balanced" in err
    code, _, err = imgkit("data", "check", str(root), "--sampler", "weighted")
    assert code == 2
    assert "--weight-col COLUMN" in " ".join(err.split())


def test_a_weight_column_is_shown_and_passed_on(imgkit: Run, make_folders: MakeFolders) -> None:
    root = make_folders({"cat": 10, "dog": 10})
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    lines = [f"{file},{file[:3]},{1 if file < 'd' else 3}" for file in files]
    (root / "cells.csv").write_text("\n".join(["path,label,often", *lines]))
    code, out, _ = imgkit("data", "check", str(root / "cells.csv"), "--weight-col", "often")
    assert code == 0
    assert re.search(r"cat +8 +4.0\n *dog +8 +12.0", out)
    assert " ".join(out.split()).endswith("--weight-col often --sampler weighted")


def several_labels(folder: Path) -> Path:
    lines = ["path,odd,kind"]
    for number in range(24):
        square(number, side_px=8).save(folder / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{number % 2},{('', 'red', 'dark blue')[number % 3]}")
    (folder / "cells.csv").write_text("\n".join(lines))
    return folder / "cells.csv"


def test_labels_of_a_multilabel_table_are_counted(imgkit: Run, tmp_path: Path) -> None:
    file = several_labels(tmp_path)
    code, out, err = imgkit("data", "check", str(file), "--label-col", "odd", "--label-col", "kind", "--classes", "3")
    assert (code, err) == (0, "")
    plain = " ".join(out.split())
    assert "24 images · multi-label · 3 labels · 8 to 12 a label · train 19 · val 5" in plain
    assert "dark blue: train 6, val 2 odd: train 10, val 2 red: train 6, val 2" in plain
    assert "1.17 labels an image, at most 2." in plain
    assert "4 images have no label, of 24." in plain
    assert plain.endswith(f"--data {file} --label-col odd --label-col kind --classes 3")


def test_a_long_list_of_labels_is_cut(imgkit: Run, tmp_path: Path) -> None:
    names = [f"label {number:02d}" for number in range(60)]
    for number in range(6):
        square(number, side_px=8).save(tmp_path / f"{number}.png")
    rows = "".join(f"{number}.png,{'|'.join(names)}\n" for number in range(6))
    (tmp_path / "cells.csv").write_text(f"path,tags\n{rows}")
    _, out, _ = imgkit("data", "check", str(tmp_path / "cells.csv"), "--label-delimiter", "|")
    assert "label 49: train 5, val 1" in out
    assert "label 50" not in out
    assert "… and 10 more labels" in out


def test_a_task_that_the_columns_do_not_have_exit_2(imgkit: Run, tmp_path: Path) -> None:
    file = str(several_labels(tmp_path))
    code, _, err = imgkit("data", "check", file, "--label-col", "odd", "--label-col", "kind", "--task", "single")
    assert code == 2
    assert "data.task = 'single' means one label an image, but there are 2 label columns: odd" in " ".join(err.split())
    code, _, err = imgkit("data", "check", file, "--label-col", "kind", "--task", "multilabel")
    assert code == 3
    assert "--label-delimiter '|'" in err
    code, _, err = imgkit("data", "check", file, "--label-col", "odd", "--task", "multi")
    assert code == 2
    assert "multi" in err
