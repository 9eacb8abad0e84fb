import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scored_runs import index_of, logits_of, write_scored_run

from imgkit.errors import DataError, DiskError
from imgkit.report.answers import Answers, Shas, paired, read_answers
from imgkit.report.compare import compare, macro_f1
from imgkit.run import RunFolder

ODD = ("=cmd()", "a,b\n.png", "c\u2028d\x85.png", "e\udcff.png", "'-f.png", "<img src=x>.png")


def read(out: Path, name: str, evaluation: str = "test@10") -> Answers:
    return read_answers(RunFolder(out / name), evaluation, Shas())


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("classes", [("cat", "dog", "eel"), tuple(f"=c|{number:03d}\\" for number in range(120))])
def test_answers_are_read_as_they_were_scored(tmp_path: Path, several: bool, classes: tuple[str, ...]) -> None:
    index = index_of(300, classes, several=several, paths=ODD)
    folder = write_scored_run(tmp_path, "one", index, {"test": 0.8})
    found = read_answers(folder, "test@10", Shas())
    rows = index.rows("test")
    logits = logits_of(index, "test", 0.8)
    assert np.array_equal(found.targets, index.targets()[rows])
    assert np.array_equal(found.predicted, logits >= 0 if several else logits.argmax(axis=1))
    assert [path.encode() for _, path in found.images] == [
        index.paths[row].encode("utf-8", "backslashreplace") for row in rows
    ]
    assert [bytes.fromhex(sha) for sha, _ in found.images] == [index.hashes[row].tobytes() for row in rows]
    stored = json.loads((folder.path / "evaluations" / "test@10" / "metrics.json").read_text())
    assert macro_f1(found.targets, found.predicted) == pytest.approx(stored["f1_macro"], abs=1e-12)


@pytest.mark.parametrize("several", [False, True])
def test_pairs_are_found_by_image_and_class_name_never_by_row(tmp_path: Path, several: bool) -> None:
    index = index_of(300, several=several)
    write_scored_run(tmp_path, "base", index, {"test": 0.8}, draw=1)
    other = write_scored_run(tmp_path, "other", index, {"test": 0.9}, draw=2)
    base, straight = read(tmp_path, "base"), read(tmp_path, "other")
    file = other.path / "evaluations" / "test@10" / "predictions.csv"
    with file.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows[::-1]])
    about = other.read_json("run.json")
    other.write_json("run.json", about | {"classes": about["classes"][::-1]})
    turned = read(tmp_path, "other")
    assert not np.array_equal(turned.targets, straight.targets)
    assert compare(*paired(base, turned)) == compare(*paired(base, straight))
    assert compare(*paired(base, straight)).f1.value > 0


def test_other_images_are_refused_with_how_many_differ(tmp_path: Path) -> None:
    write_scored_run(tmp_path, "base", index_of(90), {"test": 0.8})
    write_scored_run(tmp_path, "more", index_of(120), {"test": 0.8})
    write_scored_run(tmp_path, "renamed", index_of(90, paths=["a.png", "b.png", "c.png"]), {"test": 0.8})
    with pytest.raises(DataError) as told:
        paired(read(tmp_path, "base"), read(tmp_path, "more"))
    assert told.value.message == (
        "not the same test images: 0 of the 30 of base are not among those of more, "
        "and 10 of its 40 are not among these"
    )
    with pytest.raises(DataError, match="1 of the 30 of base are not among those of renamed, and 1 of its 30"):
        paired(read(tmp_path, "base"), read(tmp_path, "renamed"))


def test_a_file_of_the_same_name_and_other_content_is_another_image(tmp_path: Path) -> None:
    base = write_scored_run(tmp_path, "base", index_of(90), {"test": 0.8})
    other = write_scored_run(tmp_path, "other", index_of(90), {"test": 0.8})
    file = other.path / "data" / "index.csv"
    sha = read(tmp_path, "base").images[0][0]
    file.write_text(file.read_text().replace(sha, "ff" * 32))
    assert base.name == "base"
    with pytest.raises(DataError, match="1 of the 30 of base are not among"):
        paired(read(tmp_path, "base"), read(tmp_path, "other"))


def test_other_labels_are_refused(tmp_path: Path) -> None:
    write_scored_run(tmp_path, "base", index_of(90, seed=0), {"test": 0.8})
    write_scored_run(tmp_path, "other", index_of(90, seed=1), {"test": 0.8})
    wrong = int((index_of(90, seed=0).labels() != index_of(90, seed=1).labels())[2::3].sum())
    with pytest.raises(DataError, match=f"in other {wrong} images have other labels"):
        paired(read(tmp_path, "base"), read(tmp_path, "other"))
    write_scored_run(tmp_path, "sets", index_of(90, several=True), {"test": 0.8})
    with pytest.raises(DataError, match="in sets another task"):
        paired(read(tmp_path, "base"), read(tmp_path, "sets"))


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("data/index.csv", ("path,label", "way,label"), "is damaged: the columns are not path, label, split"),
        ("data/index.csv", ("0005.png", "0002.png"), "is damaged: 'pictures/0002.png' twice"),
        (
            "data/index.csv",
            ("0005.png", "gone.png"),
            "cannot be matched with its images (KeyError: 'pictures/0005.png')",
        ),
        ("evaluations/test@10/predictions.csv", ("0005.png", "0002.png"), "has an image twice"),
        ("evaluations/test@10/predictions.csv", ("path,label", "path,truth"), "the columns are not path, label"),
        ("evaluations/test@10/predictions.csv", (",cat,cat,", ",cat,cow,"), "(KeyError: 'cow')"),
        ("evaluations/test@10/predictions.csv", (",cat,cat,", ",cat,dog,"), "gives macro F1 0."),
    ],
)
def test_damaged_files_are_told(tmp_path: Path, file: str, change: tuple[str, str], told: str) -> None:
    folder = write_scored_run(tmp_path, "one", index_of(90), {"test": 1.0})
    text = (folder.path / file).read_text()
    assert change[0] in text
    (folder.path / file).write_text(text.replace(*change))
    with pytest.raises(DiskError) as error:
        read_answers(folder, "test@10", Shas())
    assert told in error.value.message


def test_the_same_index_is_read_once(tmp_path: Path) -> None:
    one = write_scored_run(tmp_path, "one", index_of(90), {"test": 1.0})
    two = write_scored_run(tmp_path, "two", index_of(90), {"test": 0.9})
    shas = Shas()
    assert shas.of(one) is shas.of(two)
