"""The whole check: every kind of finding is planted, and those are found and nothing else."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from pictures import TreeHash
from PIL import Image

from imgkit.check.whole import check
from imgkit.data.near import ALIKE
from imgkit.recipe.schema import DataSettings

SIDE = 96


def scene(number: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A smooth picture of its own in colours, such as no other number has."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[: size[1], : size[0]] / max(size)
    planes = []
    for _ in range(3):
        waves = sum(
            random.normal() * np.cos(2 * np.pi * (a * x + b * y) + random.uniform(0, 6))
            for a, b in random.uniform(-3, 3, (8, 2))
        )
        planes.append(128 + 110 * waves / np.abs(waves).max())
    return Image.fromarray(np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8))


def clean(root: Path, each: int = 20) -> Iterator[int]:
    """Two classes with train and val; numbers of scenes that nobody has taken follow."""
    number = 0
    for folder in ("train/cat", "train/dog", "val/cat", "val/dog"):
        (root / folder).mkdir(parents=True)
        for row in range(each):
            scene(number).save(root / folder / f"{row:02d}.png")
            number += 1
    return count(number)


def found_in(path: Path, **settings: object) -> set[tuple[str, str, str]]:
    """(kind, picture or class, the other picture) of each finding."""
    checked = check(DataSettings.model_validate({"path": str(path), **settings}))
    return {
        (section.kind, one.path or one.label, one.other) for section in checked.sections for one in section.findings
    }


def test_clean_data_have_no_findings(tmp_path: Path) -> None:
    clean(tmp_path / "d")
    checked = check(DataSettings(path=str(tmp_path / "d")))
    assert checked.sections == ()
    assert checked.warnings == ()
    assert checked.errors == ()


def test_everything_that_is_planted_is_found_and_nothing_else(tmp_path: Path, tree_hash: TreeHash) -> None:
    root = tmp_path / "d"
    new = clean(root, each=40)
    train, val = root / "train", root / "val"
    copied = (train / "cat/00.png").read_bytes()
    (val / "cat/bytes.png").write_bytes(copied)
    (train / "dog/labels.png").write_bytes((train / "cat/01.png").read_bytes())
    (train / "cat/twice.png").write_bytes((train / "cat/02.png").read_bytes())
    Image.open(train / "cat/03.png").save(train / "cat/pixels.bmp")
    scene(1000).save(train / "dog/photo.jpg", quality=90)
    Image.open(train / "dog/photo.jpg").save(train / "dog/photo-saved.png")
    Image.open(train / "cat/04.png").convert("RGB").save(val / "cat/again.jpg", quality=80)
    Image.open(train / "cat/05.png").resize((70, 70), Image.Resampling.BICUBIC).save(train / "dog/smaller.png")
    Image.open(train / "cat/06.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(train / "cat/mirrored.png")
    (train / "cat/cut.png").write_bytes(copied[: len(copied) // 2])
    (train / "cat/text.jpg").write_bytes(b"no picture")
    (train / "cat/empty.png").touch()
    Image.new("RGB", (SIDE, SIDE), "black").save(train / "cat/black.png")
    scene(next(new)).convert("CMYK").save(train / "dog/cmyk.jpg")
    scene(next(new)).resize((12, 12)).save(train / "dog/tiny.png")
    scene(next(new), (400, 60)).save(train / "dog/strip.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    scene(next(new)).save(train / "dog/turned.jpg", exif=turned)
    scene(next(new)).save(train / "stray.png")
    (train / "cat/dog").mkdir()
    scene(next(new)).save(train / "cat/dog/a.png")
    (train / "cat/photo.heic").write_bytes(b"x")
    scene(next(new)).save(train / "dog/Name.png")
    scene(next(new)).save(train / "dog/na me.png")
    for name, images in (("owl", 1), ("Owl", 1)):
        for folder in (train, val):
            (folder / name).mkdir()
            for row in range(images):
                scene(next(new)).save(folder / name / f"{row}.png")
    before = tree_hash(root)
    found = found_in(root)
    assert tree_hash(root) == before
    assert found == {
        ("leak", "train/cat/00.png", "val/cat/bytes.png"),
        ("two-labels", "train/dog/labels.png", "train/cat/01.png"),
        ("copy", "train/cat/twice.png", "train/cat/02.png"),
        ("copy", "train/cat/pixels.bmp", "train/cat/03.png"),
        ("copy", "train/dog/photo.jpg", "train/dog/photo-saved.png"),
        ("near-leak", "train/cat/04.png", "val/cat/again.jpg"),
        ("near-labels", "train/dog/smaller.png", "train/cat/05.png"),
        ("near", "train/cat/mirrored.png", "train/cat/06.png"),
        ("truncated", "train/cat/cut.png", ""),
        ("unreadable", "train/cat/text.jpg", ""),
        ("unreadable", "train/cat/empty.png", ""),
        ("blank", "train/cat/black.png", ""),
        ("mode", "train/dog/cmyk.jpg", ""),
        ("size", "train/dog/tiny.png", ""),
        ("size", "train/dog/strip.png", ""),
        ("crop", "train/dog/strip.png", ""),
        ("orientation", "train/dog/turned.jpg", ""),
        ("misplaced", "train/stray.png", ""),
        ("misplaced", "train/cat/dog/a.png", ""),
        ("unread-format", "train/cat/photo.heic", ""),
        ("file-names", "train/dog/na me.png", "train/dog/Name.png"),
        ("class-names", "owl", ""),
        ("few-images", "owl", ""),
        ("few-images", "Owl", ""),
        ("imbalance", "owl", ""),
        ("imbalance", "Owl", ""),
    }


def test_nothing_is_told_twice(tmp_path: Path) -> None:
    """What a training says in a sentence of its own is in a section here."""
    root = tmp_path / "d"
    clean(root)
    (root / "train/cat/photo.heic").write_bytes(b"x")
    (root / "train/cat/text.png").write_bytes(b"no picture")
    (root / "train/cat/twice.png").write_bytes((root / "train/cat/00.png").read_bytes())
    scene(1000).save(root / "train/stray.png")
    checked = check(DataSettings(path=str(root)))
    assert {section.kind for section in checked.sections} == {"unread-format", "unreadable", "copy", "misplaced"}
    assert checked.warnings == ()
    assert len(checked.notes) == 1
    assert checked.notes[0].startswith("PNG 81; largest")


def test_a_group_in_two_splits_is_found_by_its_name(tmp_path: Path) -> None:
    lines = ["path,label,split,person"]
    for number in range(40):
        scene(number).save(tmp_path / f"{number}.png")
        split = "val" if number >= 30 else "train"
        person = "anna" if number in {3, 35} else f"p{number}"
        lines.append(f"{number}.png,{'cat' if number % 2 else 'dog'},{split},{person}")
    (tmp_path / "d.csv").write_text("\n".join(lines))
    checked = check(DataSettings(path=str(tmp_path / "d.csv"), group_col="person"))
    (section,) = checked.sections
    (one,) = section.findings
    assert (section.kind, section.severity) == ("group-leak", "error")
    assert {one.path, one.other} == {"3.png", "35.png"}
    assert one.what == "group anna is in train and in val"


def test_copies_in_splits_that_imgkit_draws_are_no_errors(tmp_path: Path) -> None:
    for folder in ("cat", "dog"):
        (tmp_path / folder).mkdir()
        for row in range(20):
            scene(100 * len(folder) + row + (folder == "dog") * 50).save(tmp_path / folder / f"{row:02d}.png")
    for row in range(20):
        (tmp_path / "cat" / f"copy{row:02d}.png").write_bytes((tmp_path / "cat" / f"{row:02d}.png").read_bytes())
    checked = check(DataSettings(path=str(tmp_path)))
    kinds = {section.kind: len(section.findings) for section in checked.sections}
    assert set(kinds) == {"drawn-leak", "copy"}
    assert sum(kinds.values()) == 20
    assert checked.errors == ()


def test_pixels_that_differ_by_one_are_no_copies(tmp_path: Path) -> None:
    """In a corner of a large JPEG, which is first decoded at an eighth of its size."""
    new = clean(tmp_path / "d", each=5)
    picture = scene(next(new), (960, 960))
    picture.save(tmp_path / "d/train/cat/one.jpg", quality=95)
    whole = Image.open(tmp_path / "d/train/cat/one.jpg").copy()
    whole.save(tmp_path / "d/train/cat/same.png")
    red, green, blue = whole.getpixel((7, 7))
    whole.putpixel((7, 7), (red, green ^ 1, blue))
    whole.save(tmp_path / "d/train/cat/other.png")
    found = {row for row in found_in(tmp_path / "d") if row[0] != "size"}
    assert ("copy", "train/cat/same.png", "train/cat/one.jpg") in found
    assert not [row for row in found if row[0] == "copy" and "other.png" in row[1] + row[2]]
    assert [row for row in found if row[0] == "near" and "other.png" in row[1] + row[2]]


def test_several_labels_and_their_copies(tmp_path: Path) -> None:
    lines = ["path,tags"]
    for number in range(30):
        scene(number).save(tmp_path / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{'a|b' if number % 2 else 'b|c'}")
    scene(0).save(tmp_path / "30.png")
    lines.append("30.png,a|c")
    (tmp_path / "d.csv").write_text("\n".join(lines))
    checked = check(DataSettings(path=str(tmp_path / "d.csv"), label_delimiter="|"))
    (two,) = [section for section in checked.sections if section.kind == "two-labels"]
    assert "b + c" in two.findings[0].what
    assert "a + c" in two.findings[0].what


def test_dark_pictures_are_told_by_their_statistics(tmp_path: Path) -> None:
    clean(tmp_path / "d")
    for file in (tmp_path / "d").rglob("*.png"):
        Image.open(file).point(lambda level: level // 6).save(file)
    (section,) = check(DataSettings(path=str(tmp_path / "d"))).sections
    assert section.kind == "statistics"
    assert "Normalised as for ImageNet" in section.sentence


@pytest.mark.parametrize("quality", [60, 95])
def test_likeness_is_told(tmp_path: Path, quality: int) -> None:
    clean(tmp_path / "d")
    Image.open(tmp_path / "d/train/cat/00.png").save(tmp_path / "d/train/cat/zz.jpg", quality=quality)
    (section,) = check(DataSettings(path=str(tmp_path / "d"))).sections
    words = section.findings[0].what
    assert section.kind == "near"
    assert float(words.split("likeness ")[1].split(":")[0]) >= ALIKE
