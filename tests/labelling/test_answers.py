from pathlib import Path

import pytest

from imgkit.data.csv_table import read_table
from imgkit.errors import DataError, DiskError, UsageError
from imgkit.labelling.answers import Answer, Answers
from imgkit.recipe.schema import DataSettings

ODD = ["a.png", "sub/b c.png", "=1+2.png", "'-x.png", 'q"uote.png', "new\nline.png", "cr\r.png", "ü, é.png", "-9.png"]


def test_each_answer_is_in_the_file_and_reads_back(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    answers = Answers(file)
    assert not file.exists(), "nothing before the first answer"
    given = {
        name: Answer("=cat" if number % 2 else "dog", "dog", number / 10, "one") for number, name in enumerate(ODD)
    }
    for number, (name, answer) in enumerate(given.items(), 1):
        answers.put(name, answer)
        assert dict(Answers(file).rows) == dict(list(given.items())[:number])
    answers.put("a.png", Answer("eel"))
    answers.put("sub/b c.png", None)
    left = {"a.png": Answer("eel"), **{name: answer for name, answer in given.items() if name not in ODD[:2]}}
    assert dict(Answers(file).rows) == left
    assert list(Answers(file).rows) == [name for name in ODD if name != "sub/b c.png"], "a row keeps its place"
    assert [entry.name for entry in tmp_path.iterdir()] == ["labels.csv"]


def test_data_reads_what_is_written(tmp_path: Path) -> None:
    root, answers = tmp_path / "photos", Answers(tmp_path / "labels.csv")
    names = [name for name in ODD if name != "cr\r.png"] + ["cr\r.png"]
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
        answers.put(name, Answer("=cat" if number % 2 else "dog", "dog", 0.5, "one"))
    settings = DataSettings.model_validate({"path": str(answers.file), "root": str(root)})
    source = read_table(answers.file, "labels.csv", settings)
    found = {row.path: row.labels for row in source.rows}
    assert found == {name: ("=cat",) if number % 2 else ("dog",) for number, name in enumerate(names)}


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("path,label\na.png,cat\n", UsageError, r"is another table, .* its columns are path, label\.\nChoose another"),
        ("path,label,prob,error\n", UsageError, "is another table"),
        ("path;label;suggested;prob;run;more\n", UsageError, "is another table"),
        ("", DataError, "is empty"),
        ("path,label,suggested,prob,run\na.png,cat\n", DataError, "row 2 has 2 cells, the header has 5"),
        ("path,label,suggested,prob,run\na.png,,,,\n", DataError, r"row 2: a\.png has no label\.\nDelete the row"),
        ("path,label,suggested,prob,run\na.png,c,,,\na.png,c,,,\n", DataError, r"row 3: a\.png is there twice"),
        ("path,label,suggested,prob,run\na.png,c,d,much,\n", DataError, "row 2 has the probability 'much'"),
    ],
)
def test_a_table_of_another_form_is_never_written_over(
    tmp_path: Path, text: str, error: type[Exception], told: str
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(error, match=told):
        Answers(file)
    assert file.read_text() == text


@pytest.mark.parametrize("change", ["written", "removed", "made"])
def test_a_file_that_something_else_changed_is_left_as_it_is(tmp_path: Path, change: str) -> None:
    file = tmp_path / "labels.csv"
    answers = Answers(file)
    if change != "made":
        answers.put("a.png", Answer("cat"))
    if change == "removed":
        file.unlink()
    else:
        file.write_text("mine")
    with pytest.raises(DiskError, match=r"was changed by something else meanwhile.*\nStart imgkit label again"):
        answers.put("b.png", Answer("dog"))
    assert not file.exists() if change == "removed" else file.read_text() == "mine"
    assert "b.png" not in answers.rows


def test_what_cannot_be_written_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(tmp_path / "labels.csv")
    answers.put("a.png", Answer("cat"))
    before = answers.file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(DiskError, match="No space left"):
            answers.put("a.png", Answer("dog"))
    assert answers.file.read_bytes() == before
    assert answers.rows["a.png"] == Answer("cat")
    answers.put("a.png", Answer("dog"))
    assert Answers(answers.file).rows["a.png"] == Answer("dog")
