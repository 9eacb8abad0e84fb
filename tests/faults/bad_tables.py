"""Tables and trees of pictures as users have them, wrong and odd, made on the spot."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from corpus import encoded
from pictures import square

Make = Callable[[Path], object]
"""Writes the case into a folder that holds the four pictures of `GOOD`."""

GOOD = {"a.png": "cat", "b.png": "cat", "c.png": "dog", "sub/d.png": "dog"}


class Odd(NamedTuple):
    """Data that can be used: what is read, and the one text that says what is odd, if it has to be said."""

    make: Make
    labels: Mapping[str, str]  # by path
    said: str = ""
    of: str = "labels.csv"


def pictures(root: Path, *names: str) -> None:
    """Pictures of which no two have the same bytes."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        number = int.from_bytes(os.fsencode(name)[-6:]) + len(os.fsencode(name))
        (root / name).write_bytes(encoded(square(number, side_px=4), "PNG"))


def table(text: str | bytes) -> Make:
    """A table by its content."""
    return lambda root: (root / "labels.csv").write_bytes(text.encode() if isinstance(text, str) else text)


def tree(*names: str, empty: str = "") -> Make:
    """Pictures in folders below `tree`, and perhaps a folder without one."""

    def make(root: Path) -> None:
        pictures(root / "tree", *names)
        if empty:
            (root / "tree" / empty).mkdir(parents=True)

    return make


def rows(labels: Mapping[str, str] = GOOD, comma: str = ",", end: str = "\n") -> str:
    """The lines of a table, with its header."""
    return "".join(f"{path}{comma}{label}{end}" for path, label in {"path": "label", **labels}.items())


def linked(root: Path, loop: str, target: str) -> None:
    """A good tree with a link to a folder in it."""
    pictures(root / "tree", *TREE)
    (root / "tree" / loop).symlink_to(target)


def folder(root: Path) -> None:
    (root / "labels.csv").mkdir()


def pipe(root: Path) -> None:
    os.mkfifo(root / "labels.csv")


TREE = {"cat/1.png": "cat", "cat/2.png": "cat", "dog/3.png": "dog", "dog/4.png": "dog"}
SPLIT = ("train/cat/1.png", "train/cat/2.png", "train/dog/3.png", "train/dog/4.png")

REFUSED: dict[str, tuple[Make, str]] = {  # and what is said of labels.csv, or of tree where there is none
    "UTF-16": (table(rows().encode("utf-16")), "labels.csv is UTF-16 text"),
    "NUL": (table(b"path,label\na.png,c\0t\n"), "labels.csv holds NUL bytes"),
    "Latin-1": (table(b"path,label\na.png,cat\nb.png,caf\xe9\n"), "labels.csv is not UTF-8: byte 0xe9 in line 3"),
    "empty": (table(""), "labels.csv is empty"),
    "blank": (table("\n \n,,\n"), "labels.csv is empty"),
    "header only": (table("path,label\n"), "labels.csv has a header but no rows"),
    "no header": (table("a.png,cat\nc.png,dog\n"), "labels.csv has no image column"),
    "no label column": (table("path,split\na.png,train\n"), "labels.csv has no label column"),
    "two columns of one name": (table("path,label,label\na.png,cat,dog\n"), "two columns called 'label'"),
    "open quote": (table('path,label\na.png,"cat\nb.png,dog\n'), "row 2 cannot be read"),
    "huge cell": (table(f"path,label\na.png,{'x' * 200_000}\n"), "row 2 cannot be read: field larger"),
    "short row": (table("path,label,split\na.png,cat,train\n\nb.png,cat\n"), "row 4 has 2 cells, the header has 3"),
    "long row": (table("path,label\na.png,cat,\n"), "row 2 has 3 cells"),
    "no label": (table("path,label\na.png,cat\nb.png, \n"), "row 3 has no label"),
    "no path": (table("path,label\n,cat\n"), "row 2 has no image path"),
    "unknown split": (table("path,label,split\na.png,cat,dev\n"), "row 2 has the unknown split 'dev'"),
    "empty split": (table("path,label,split\na.png,cat,\n"), "row 2 has the unknown split ''"),
    "two labels": (
        table("path,label\na.png,cat\n./a.png,dog\n"),
        "a.png has two labels: 'cat' in row 2, 'dog' in row 3",
    ),
    "two splits": (table("path,label,split\na.png,cat,train\na.png,cat,val\n"), "two splits: 'train' in row 2, 'val'"),
    "URL": (table("path,label\nhttps://x.org/a.png,cat\n"), "row 2 is a URL"),
    "S3": (table("path,label\ns3://bucket/a.png,cat\n"), "row 2 is a URL"),
    "upwards": (table("path,label\n../a.png,cat\n"), "row 2 leads out of"),
    "upwards inside": (table("path,label\nsub/../../a.png,cat\n"), "row 2 leads out of"),
    "absolute": (table("path,label\n/etc/passwd,cat\n"), "row 2 leads out of .*: /etc/passwd"),
    "share": (table("path,label\n\\\\server\\share\\a.png,cat\n"), "row 2 leads out of"),
    "root itself": (table("path,label\n.,cat\n"), "row 2 leads out of"),
    "newline in a class": (table('path,label\na.png,"c\nt"\nc.png,dog\n'), r"class name 'c.*nt' holds a line break"),
    "one class": (table(rows(dict.fromkeys(GOOD, "cat"))), "labels.csv has one class only: cat"),
    "class only in val": (
        table("path,label,split\na.png,cat,train\nc.png,dog,train\nb.png,Cat,val\n"),
        r"val has a class that train does not have: Cat .*same as 'cat' but for capitals",
    ),
    "nothing in train": (table("path,label,split\na.png,cat,val\n"), "labels.csv has no usable image in train"),
    "minus one": (table("path,label\na.png,-1\nb.png,cat\nc.png,dog\n"), "has the label -1, first row 2"),
    "quantities": (table("path,label\na.png,0.25\nb.png,0.5\nc.png,1.75\n"), "column 'label' holds numbers with dec"),
    "a folder called so": (folder, "No images in labels.csv"),
    "a pipe": (pipe, "labels.csv is neither a folder nor a CSV file"),
    "nothing there": (lambda root: None, "Data folder not found: tree"),
    "empty folder": (tree(empty="cat"), "No images in tree"),
    "pictures in the root": (tree("1.png", "2.png"), "tree holds 2 images, but none is in a class folder"),
    "one folder": (tree("cat/1.png", "cat/2.png"), "tree has one class only: cat"),
    "no train": (tree("val/cat/1.png", "test/dog/2.png"), "tree has test/, val/ but no train/"),
    "two folders for val": (tree(*SPLIT, "val/cat/5.png", "valid/dog/6.png"), "tree has two folders for val"),
    "val class unknown": (tree(*SPLIT, "val/owl/5.png"), "val has a class that train does not have: owl"),
    "test class unknown": (tree(*SPLIT, "test/Cat/5.png"), "test has a class that train does not have: Cat"),
    "newline in a folder": (tree("c\nt/1.png", "dog/2.png"), r"class name 'c.*nt' holds a line break"),
    "not UTF-8": (tree(os.fsdecode(b"c\xfft/1.png"), "dog/2.png"), r"class name 'c.*udcfft' holds"),
}

SUB = "tree"
ODD: dict[str, Odd] = {
    "byte order mark": Odd(table("\ufeff" + rows()), GOOD),
    "CR LF": Odd(table(rows(end="\r\n")), GOOD),
    "semicolons": Odd(table(rows(comma=";")), GOOD),
    "tabs": Odd(table(rows(comma="\t")), GOOD),
    "blank rows": Odd(table(rows().replace("\n", "\n\n , \n")), GOOD),
    "repeated row": Odd(table(rows() + "a.png,cat\n./a.png,cat\n"), GOOD, "2 repeated rows of labels.csv dropped."),
    "spaces": Odd(table(rows({**GOOD, "a.png": "cat "})), GOOD, "Spaces around 1 label of labels.csv were removed."),
    "backslashes": Odd(table(rows().replace("sub/", ".\\sub\\")), GOOD),
    "capitals": Odd(
        table(rows({**GOOD, "a.png": "Cat"})),
        {**GOOD, "a.png": "Cat"},
        "Classes that differ only in capitals, spaces, accents or the form of a number: 'Cat', 'cat'. Each is",
    ),
    "numbers": Odd(
        table(rows(dict(zip(GOOD, ("01", "1", "1.0", "2"), strict=True)))),
        dict(zip(GOOD, ("01", "1", "1.0", "2"), strict=True)),
        "Classes that differ only in capitals, spaces, accents or the form of a number: '01', '1', '1.0'. Each is",
    ),
    "NaN": Odd(
        table(rows({**GOOD, "a.png": "NaN"})),
        {**GOOD, "a.png": "NaN"},
        "1 class is called NaN. If that stands for a missing label, delete its images.",
    ),
    "slash in a class": Odd(table(rows({**GOOD, "a.png": "c/../t"})), {**GOOD, "a.png": "c/../t"}),
    "HTML in a class": Odd(table(rows({**GOOD, "a.png": "<b>"})), {**GOOD, "a.png": "<b>"}),
    "long class": Odd(table(rows({**GOOD, "a.png": "c" * 300})), {**GOOD, "a.png": "c" * 300}),
    "file missing": Odd(
        table(rows({**GOOD, "e.png": "cat"})),
        GOOD,
        "1 file left out because they cannot be used, first e.png: No such file or directory.",
    ),
    "other extension": Odd(
        table(rows({**GOOD, "a.PNG": "cat"})),
        GOOD,
        "1 file left out because they cannot be used, first a.PNG: No such file or directory.",
    ),
    "folder as a picture": Odd(
        table(rows({**GOOD, "sub": "cat"})), GOOD, "1 file left out because they cannot be used, first sub: a folder."
    ),
    "one image in a class": Odd(
        table(rows({**GOOD, "a.png": "owl"})), {**GOOD, "a.png": "owl"}, "one image in train: "
    ),
    "capital extension": Odd(tree("cat/1.PNG", "dog/2.Png"), {"cat/1.PNG": "cat", "dog/2.Png": "dog"}, of=SUB),
    "empty class folder": Odd(tree(*TREE, empty="owl"), TREE, "No images in 1 class folder of tree: owl.", SUB),
    "hidden class": Odd(tree(*TREE, ".ipynb_checkpoints/5.png"), TREE, "Ignored 1 hidden or system file", SUB),
    "left by systems": Odd(
        tree(*TREE, "__MACOSX/cat/._1.png", "cat/Thumbs.db", "dog/.DS_Store"), TREE, "Ignored 3 hidden or system", SUB
    ),
    "same leaf names": Odd(
        tree("x/a/1.png", "x/b/2.png", "y/a/3.png", "y/b/4.png"),
        {"x/a/1.png": "x", "x/b/2.png": "x", "y/a/3.png": "y", "y/b/4.png": "y"},
        "If each is a data set, give one:  --data tree/x",
        SUB,
    ),
    "picture beside the classes": Odd(tree(*TREE, "5.png"), TREE, "1 image directly in tree, outside the class", SUB),
    "link upwards": Odd(
        lambda root: linked(root, "cat/loop", ".."), TREE, "read already, not followed: cat/loop.", SUB
    ),
    "two links to one folder": Odd(
        lambda root: linked(root, "again", "cat"), TREE, "read already, not followed: again.", SUB
    ),
    "space in a folder": Odd(
        tree("cat/1.png", "cat /2.png", "dog/3.png"),
        {"cat/1.png": "cat", "cat /2.png": "cat ", "dog/3.png": "dog"},
        "Classes that differ only in capitals, spaces, accents or the form of a number: 'cat', 'cat '. Each is",
        SUB,
    ),
    "accents in two forms": Odd(
        tree("\u00e9/1.png", "e\u0301/2.png", "dog/3.png"),
        {"\u00e9/1.png": "\u00e9", "e\u0301/2.png": "e\u0301", "dog/3.png": "dog"},
        "Classes that differ only in capitals, spaces, accents or the form of a number:",
        SUB,
    ),
    "no class in val": Odd(
        tree(*SPLIT, "val/cat/5.png"),
        {name: name.split("/")[1] for name in (*SPLIT, "val/cat/5.png")},
        "1 class of train has no image in val: dog.",
        SUB,
    ),
}
