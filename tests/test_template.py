"""Tables that are filled in: what is read, matched, and written."""

import csv
import io
from pathlib import Path

import pytest

from imgkit.errors import DataError, UsageError
from imgkit.template import Template, read_template


def template(tmp_path: Path, text: str, **options: object) -> Template:
    file = tmp_path / "answers.csv"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    return read_template(file, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "id,label\na,\nb,x\n",
        "id,label\r\na,\r\n\r\nb,x",
        '\ufeffid;note;label\n"a";" two; cells ""so""\nand a line";\n b ;;x\n',
        "id\tlabel\na\t\nb\t1\n\n",
    ],
)
def test_what_is_not_filled_keeps_its_bytes(text: str, tmp_path: Path) -> None:
    found = template(tmp_path, text, label_col="label")
    assert found.wanted == ["a", "b"]
    same = found.fill({}, "\0")
    for cell in ("x", "1"):
        text = text.replace(f"b{found.delimiter}{cell}", "b" + found.delimiter)
    empty = same.replace('"\0"', "").replace("\0", "")
    assert empty.replace(f" b {found.delimiter}{found.delimiter}x", f" b {found.delimiter * 2}") == text.replace(
        ";;x", ";;"
    )
    rows = list(csv.reader(io.StringIO(found.fill({"a": ['c"; ,t'], "b": ["dog"]}, None)), delimiter=found.delimiter))
    assert [row[-1] for row in rows if row][1:] == ['c"; ,t', "dog"]


def test_columns(tmp_path: Path) -> None:
    assert template(tmp_path, "label,file\nx,a\n", image_col="file").columns == (0,)
    probs = template(tmp_path, "id,dog,cat\na,0,0\n", classes=("cat", "dog"))
    assert probs.columns == (1, 2)
    assert probs.fill({"a": ["0.25", "0.75"]}, None) == "id,dog,cat\na,0.25,0.75\n"
    with pytest.raises(UsageError, match=r"has 2 columns besides 'id', and they are not the classes"):
        template(tmp_path, "id,dog,cat\na,0,0\n", classes=("cat", "cow"))
    with pytest.raises(DataError, match=r"has no column 'lable' \(did you mean 'label'\?\)"):
        template(tmp_path, "id,label\na,\n", label_col="lable")
    with pytest.raises(UsageError, match="names the images"):
        template(tmp_path, "id,label\na,\n", label_col="id")
    with pytest.raises(DataError, match="row 3 has 3 cells, and the header 2"):
        template(tmp_path, "id,label\na,\nb,c,d\n")
    for text in ("", "id\na\n"):
        with pytest.raises(DataError, match="has no column to fill"):
            template(tmp_path, text)
    with pytest.raises(DataError, match="cannot be read"):
        read_template(tmp_path / "gone.csv")


def test_rows_mean_ends_of_paths(tmp_path: Path) -> None:
    found = template(tmp_path, "id,label\na,\nb.png,\nsub/c,\nd.e,\n")
    paths = ["in/a.jpg", "in/b.png", "in/sub/c.jpg", "in/d.e.jpg"]
    assert found.match(iter(paths), lenient=False) == (
        {"a": paths[0], "b.png": paths[1], "sub/c": paths[2], "d.e": paths[3]},
        [],
    )
    with pytest.raises(DataError, match=r"'a' means 2 images: in/a.jpg, in/a.png"):
        found.match([*paths, "in/a.png"], lenient=True)
    with pytest.raises(DataError) as caught:
        found.match(["in/a.jpg", "in/z.jpg", "other/c.jpg"], lenient=False)
    assert "3 rows of" in caught.value.message
    assert "without an image: b.png, sub/c, d.e." in caught.value.message
    assert "2 images without a row" in caught.value.message
    assert found.match(["in/a.jpg", "in/z.jpg"], lenient=True) == ({"a": "in/a.jpg"}, ["in/z.jpg"])
