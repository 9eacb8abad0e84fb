import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from cli_run import Run
from sample_runs import write_run

from imgkit.cli.label import choose_format, friendly_line
from imgkit.errors import UsageError
from imgkit.predict import Prediction, expand_inputs
from imgkit.screen import Screen

pytest_plugins = ["cli_fixture"]

ASKED: dict[str, object] = {}
"""What `Run.predict` was asked besides, the last time."""
OLD = "path,label,prob,error\n"
TOP = (("birman", 0.91), ("ragdoll", 0.07), ("siamese", 0.001))


@pytest.fixture(autouse=True)
def _run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run in runs/ whose model calls every file a birman, unless it is called bad."""

    def answers(_: object, inputs: Iterable[str], *, top_k: int = 1, **options: object) -> Iterator[Prediction]:
        ASKED.update(options)
        for path, _ in expand_inputs(inputs):
            bad = "bad" in path
            yield (
                Prediction(path, "", 0.0, (), "is cut short") if bad else Prediction(path, "birman", 0.91, TOP[:top_k])
            )

    monkeypatch.setattr("imgkit.api.Run.predict", answers)
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs", "one")


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)


def test_a_pipe_gets_csv(imgkit: Run) -> None:
    code, out, err = imgkit("predict", "one", "a.jpg", "b.jpg")
    assert (code, err) == (0, "")
    assert out == "path,label,prob,error\na.jpg,birman,0.910000,\nb.jpg,birman,0.910000,\n"


def test_a_terminal_gets_lines_with_the_runners_up(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    on_terminal(monkeypatch)
    code, out, err = imgkit("predict", "one", "a.jpg", "bad.jpg")
    assert code == 0
    assert out == "a.jpg   birman 0.91 · ragdoll 0.07\nbad.jpg   cannot be read: is cut short\n"
    assert err == "warning: 1 of 2 files could not be read\n"


def test_a_terminal_gets_the_format_asked_for(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch)
    code, out, _ = imgkit("predict", "one", "a.jpg", "--format", "jsonl")
    assert code == 0
    assert json.loads(out)["label"] == "birman"


def test_a_file_by_its_name(imgkit: Run, tmp_path: Path) -> None:
    code, out, err = imgkit("predict", "one", "a.jpg", "bad.jpg", "--out", "p.csv", "--top-k", "2")
    assert (code, out) == (0, "")
    assert err.endswith("Wrote p.csv (2 rows)\n")
    rows = list(csv.reader(io.StringIO((tmp_path / "p.csv").read_text())))
    assert rows[0] == ["path", "label", "prob", "label_2", "prob_2", "error"]
    assert rows[2] == ["bad.jpg", "", "", "", "", "is cut short"]
    assert imgkit("predict", "one", "a.jpg", "--out", "p.jsonl")[0] == 0
    assert json.loads((tmp_path / "p.jsonl").read_text())["path"] == "a.jpg"


def test_stdin_and_names_that_are_not_utf8(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from imgkit.cli import app

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\xff.jpg\n=1.jpg\n")))
    monkeypatch.setattr(sys, "argv", ["imgkit", "predict", "one", "-"])
    with pytest.raises(SystemExit):
        app.main()
    lines = capfdbinary.readouterr().out.splitlines()
    assert [line.split(b",")[0] for line in lines] == [b"path", b"a\xff.jpg", b"'=1.jpg"]


def test_nothing_readable_exits_3_after_writing_the_rows(imgkit: Run) -> None:
    code, out, err = imgkit("predict", "one", "bad1.jpg", "bad2.jpg")
    assert code == 3
    assert len(out.splitlines()) == 3
    assert err.startswith("error: None of 2 files could be read as an image.")


def test_an_empty_folder_exits_3(imgkit: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = imgkit("predict", "one", "empty")
    assert code == 3
    assert "There is no image in what was given." in err


@pytest.mark.parametrize("out", ["{}/list.csv", "sub/../list.csv", "link.csv", "twin.csv"])
def test_an_input_is_never_written_over(imgkit: Run, tmp_path: Path, out: str) -> None:
    (tmp_path / "list.csv").write_text("path\na.jpg\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.csv").symlink_to("list.csv")
    (tmp_path / "twin.csv").hardlink_to("list.csv")
    code, _, err = imgkit("predict", "one", "list.csv", "--out", out.format(tmp_path))
    assert code == 2
    assert "is one of the inputs" in " ".join(err.split())
    assert (tmp_path / "list.csv").read_text() == "path\na.jpg\n"


def test_answers_take_the_place_of_old_ones_at_the_end(
    imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.csv").write_text(OLD)

    def answers(_: object, inputs: Iterable[str], **options: object) -> Iterator[Prediction]:
        yield Prediction("a.jpg", "birman", 0.91, TOP[:1])
        assert (tmp_path / "p.csv").read_text() == OLD
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("imgkit.api.Run.predict", answers)
        assert imgkit("predict", "one", "a.jpg", "--out", "p.csv")[0] == 130
    assert (tmp_path / "p.csv").read_text() == OLD
    assert not list(tmp_path.glob(".*"))
    assert imgkit("predict", "one", "bad.jpg", "--out", "p.csv")[0] == 3
    assert "cut short" in (tmp_path / "p.csv").read_text(), "rows that say why are kept"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", "image,label\na.jpg,birman\n"),
        ("p.csv", "path,label,suggested,prob,run\na.jpg,birman,,,\n"),
        ("p.csv", "path,label,split,group,size,sha256\n"),
        ("p.jsonl", '{"image": "a.jpg", "label": "birman"}\n'),
        ("p.jsonl", "\0\1"),
        ("p.csv", "\0" * 2**20),
    ],
)
def test_answers_are_not_written_over_another_file(imgkit: Run, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    code, _, err = imgkit("predict", "one", "a.jpg", "--out", name)
    assert code == 2
    assert f"--out {name} is there already, and holds something else than answers of a model." in " ".join(err.split())
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.ndjson"])
@pytest.mark.parametrize("top", ["1", "2"])
def test_answers_are_written_over_answers(imgkit: Run, tmp_path: Path, name: str, top: str) -> None:
    (tmp_path / name).write_text("")
    for _ in range(2):
        assert imgkit("predict", "one", "a.jpg", "bad.jpg", "--top-k", top, "--out", name)[0] == 0
    assert (tmp_path / name).read_text().count("a.jpg") == 1


def test_a_place_that_cannot_be_written_exits_7(imgkit: Run) -> None:
    code, _, err = imgkit("predict", "one", "a.jpg", "--out", "gone/p.csv")
    assert code == 7
    assert (
        err == "error: Cannot write gone/p.csv: No such file or directory.\n  Make its folder first:  mkdir -p gone\n"
    )
    Path("file").touch()
    code, _, err = imgkit("predict", "one", "a.jpg", "--out", "file/p.csv")
    assert (code, "A file is in the way, where a folder should be" in err) == (7, True)


def test_unknown_run_is_answered_with_the_nearest(imgkit: Run) -> None:
    code, _, err = imgkit("predict", "onne", "a.jpg")
    assert code == 2
    assert "'one'" in err


def test_where_a_table_starts_and_where_the_network_runs(imgkit: Run, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path\na.jpg\n")
    assert imgkit("predict", "one", "list.csv")[0] == 0
    assert isinstance(ASKED.pop("screen"), Screen)
    others = {"together_with": [], "vote": "mean", "precision": "auto"}
    others |= dict.fromkeys(("reject_at", "target_accuracy", "unlike", "conformal"))
    assert {"image_col": None, "root": None, "max_pixels": None, "device": "auto", **others} == ASKED
    assert (
        imgkit(
            "predict",
            "one",
            "list.csv",
            "--root",
            "in",
            "--image-col",
            "foto",
            "--device",
            "cpu",
            "--precision",
            "bfloat16",
        )[0]
        == 0
    )
    del ASKED["screen"]
    others["precision"] = "bfloat16"
    assert {"image_col": "foto", "root": "in", "max_pixels": None, "device": "cpu", **others} == ASKED
    assert imgkit("predict", "one", "list.csv", "--max-pixels", "72M")[0] == 0
    assert ASKED["max_pixels"] == 72_000_000


@pytest.mark.parametrize("command", [["predict", "one", "a.jpg"], ["evaluate", "one", "--data", "x"]])
def test_a_limit_of_pixels_is_a_number(imgkit: Run, command: list[str]) -> None:
    code, _, err = imgkit(*command, "--max-pixels", "many")
    assert (code, err) == (2, "error: --max-pixels 'many' is not a number of pixels.\n  Write 300000000 or 300M.\n")


@pytest.mark.parametrize("flag", ["--root", "--image-col"])
def test_a_column_or_root_without_a_table_is_refused(imgkit: Run, flag: str) -> None:
    code, out, err = imgkit("predict", "one", "a.jpg", flag, "x")
    assert (code, out) == (2, "")
    assert f"{flag} is not used: it describes a table" in err
    assert "give a table of images (.csv .tsv .txt .parquet)." in err


def test_the_format() -> None:
    assert choose_format(None, None, terminal=True) is None
    assert choose_format(None, None, terminal=False) == "csv"
    assert choose_format(Path("a.CSV"), None, terminal=True) == "csv"
    assert choose_format(Path("a.txt"), "jsonl", terminal=True) == "jsonl"
    with pytest.raises(
        UsageError, match=r"--out a\.txt does not end in \.csv or \.jsonl, which say .*\nSay it:  --format csv"
    ):
        choose_format(Path("a.txt"), None, terminal=True)


def test_names_on_a_terminal_are_printable() -> None:
    line = friendly_line(Prediction("a\x1b.jpg", "c\r", 0.5, (("c\r", 0.5),)))
    assert line == "a\\x1b.jpg   c\\r 0.50"


def test_a_run_without_a_model_leaves_the_old_answers_alone(
    imgkit: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unfinished(*_: object, **__: object) -> Iterator[Prediction]:
        raise UsageError("one has no finished model yet.")
        yield  # a generator, as the real one is

    monkeypatch.setattr("imgkit.api.Run.predict", unfinished)
    (tmp_path / "old.csv").write_text(OLD)
    assert imgkit("predict", "one", "a.jpg", "--out", "old.csv")[0] == 2
    assert (tmp_path / "old.csv").read_text() == OLD
    code, out, _ = imgkit("predict", "one", "a.jpg")
    assert (code, out) == (2, ""), "no header without a row"


def test_more_classes_than_the_model_knows_are_said_and_left_out(imgkit: Run) -> None:
    code, out, err = imgkit("predict", "one", "a.jpg", "b.jpg", "--top-k", "99")
    assert code == 0
    assert out.splitlines()[0] == "path,label,prob,label_2,prob_2,label_3,prob_3,error"
    assert err == "note: --top-k 99: the model knows 3 classes, and all of them are told\n"
    assert imgkit("predict", "one", "a.jpg", "--top-k", "3")[2] == ""


@pytest.mark.parametrize("name", ["list.txt", "list.TSV", "list.csv"])
def test_a_root_goes_with_every_kind_of_table(imgkit: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("path\na.jpg\n")
    code, out, _ = imgkit("predict", "one", name, "--root", "in")
    assert (code, out.splitlines()[1]) == (0, "a.jpg,birman,0.910000,")


def test_where_paths_of_a_table_start_is_said_if_none_is_there(imgkit: Run, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path\nbad.jpg\n")
    hint = "Relative paths of a table start at its folder; at another one:  --root FOLDER"
    assert hint in " ".join(imgkit("predict", "one", "list.csv")[2].split("\n  "))
    assert "--root" not in imgkit("predict", "one", "list.csv", "--root", ".")[2]
    assert "--root" not in imgkit("predict", "one", "bad.jpg")[2]


@pytest.fixture
def _sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A multi-label run that answers cat and dog for every file, or nothing if it is called none."""

    def answers(_: object, inputs: Iterable[str], *, top_k: int = 1, **__: object) -> Iterator[Prediction]:
        for path, _ in expand_inputs(inputs):
            top, probs = (("cat", 0.9), ("dog", 0.6), ("eel", 0.2)), (0.9, 0.6, 0.2)
            labels = () if "none" in path else ("cat", "dog")
            yield Prediction(path, "cat", 0.9, top[:top_k], labels=labels, probs=probs)

    monkeypatch.setattr("imgkit.api.Run.predict", answers)
    write_run(tmp_path / "runs", "sets", task="multilabel")


@pytest.mark.usefixtures("_sets")
def test_sets_of_labels_in_each_form(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert imgkit("predict", "sets", "a.jpg", "none.jpg")[1].splitlines() == [
        "path,labels,p:cat,p:dog,p:eel,error",
        "a.jpg,cat|dog,0.900000,0.600000,0.200000,",
        "none.jpg,,0.900000,0.600000,0.200000,",
    ]
    assert imgkit("predict", "sets", "a.jpg", "--top-k", "1")[1].splitlines() == [
        "path,labels,label_1,prob_1,error",
        "a.jpg,cat|dog,cat,0.900000,",
    ]
    assert json.loads(imgkit("predict", "sets", "a.jpg", "--format", "jsonl")[1])["labels"] == ["cat", "dog"]
    on_terminal(monkeypatch)
    assert imgkit("predict", "sets", "a.jpg", "none.jpg")[1].splitlines() == [
        "a.jpg   cat + dog   (cat 0.90 · dog 0.60 · eel 0.20)",
        "none.jpg   no label   (cat 0.90 · dog 0.60 · eel 0.20)",
    ]


def test_answers_that_are_left_open_and_sets_as_lines() -> None:
    likely = (("birman", 0.51), ("ragdoll", 0.4))
    given = Prediction("a.jpg", "", 0.51, likely, rejected="unsure", in_set=("birman", "ragdoll"))
    assert friendly_line(given) == "a.jpg   left open, unsure   (birman 0.51 · ragdoll 0.40)   {birman, ragdoll}"
    given = Prediction("a.jpg", "birman", 0.51, likely, in_set=())
    assert friendly_line(given) == "a.jpg   birman 0.51 · ragdoll 0.40   {}"


def test_values_that_are_no_shares_are_refused_before_the_run_is_opened(imgkit: Run) -> None:
    code, _, err = imgkit("predict", "none", "a.jpg", "--reject-at", "95")
    assert code == 2
    assert "--reject-at is a share between 0 and 1, not 95." in err
