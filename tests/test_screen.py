import io
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from imgkit.errors import DataError, UsageError
from imgkit.screen import Screen
from imgkit.terminal import clock, encodable, percent, wrap_line

ROW = {
    "epoch": 3,
    "phase": "all",
    "train_loss": 0.0912,
    "val/loss": 1.5,
    "val/top1": 0.989,
    "val/f1_macro": 1.0,
    "images_per_second": 748.4,
    "seconds": 3725.0,
    "left_s": 61.0,
    "best": True,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Ascii(io.StringIO):
    encoding = "ascii"  # type: ignore[assignment]


def shown(screen_width: int | None = 80, **options: object) -> tuple[Screen, io.StringIO]:
    file = io.StringIO()
    return Screen(file=file, width=screen_width, **options), file  # type: ignore[arg-type]


def full_screen(width: int, file: io.StringIO) -> str:
    screen = Screen(file=file, width=width)
    screen.header()
    screen.fact("Data", "cells/ (from --data) · 2 classes · train 1,680 · val 419 · test 525 images in all", "seed 0")
    screen.note("no GPU was found, so this trains on 2 processor cores, which is fine for a small network")
    screen.warn("the validation set has 18 images for 37 classes, 21 classes have none of them")
    screen.table_row(
        {"phase": "head", "val/loss": 0.4, "val/top1": 0.5, "val/f1_macro": 0.25, "seconds": 8, "best": False}
    )
    screen.table_row(ROW)
    screen.result("Done in 12 s", ["Top-1 98.9 % (97.2 to 99.6), 360 images"], ["imgkit predict latest photos/", "b"])
    screen.error(DataError("Data folder not found: datta/pets and a long explanation of it all", "Try:  imgkit --help"))
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_every_line_fits_the_screen(width: int) -> None:
    text = full_screen(width, io.StringIO())
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text


def test_fact_aligns_and_hangs() -> None:
    screen, file = shown(30)
    screen.fact("Data", "one two three four five six", "next")
    screen.fact("A long topic", "x")
    assert file.getvalue().splitlines() == [
        "Data    one two three four",
        "        five six",
        "        next",
        "A long topic x",
    ]


def test_epoch_table_prints_its_header_once() -> None:
    screen, file = shown()
    screen.table_row({"phase": "head", "train_loss": None, "val/loss": 0.3, "val/top1": 0.5, "val/f1_macro": 0.4})
    screen.table_row(ROW)
    lines = file.getvalue().splitlines()
    assert lines[0] == ""
    assert lines[1].split() == [
        "epoch",
        "train",
        "loss",
        "val",
        "loss",
        "top-1",
        "macro",
        "F1",
        "img/s",
        "time",
        "left",
    ]
    assert lines[2].split() == ["head", "-", "0.300", "50.0", "%", "40.0", "%", "-", "-", "-"]
    assert lines[3].split()[:8] == ["all", "3", "0.091", "1.500", "98.9", "%", "100.0", "%"]
    assert lines[3].split()[8:] == ["748", "1:02:05", "1:01", "★", "best"]
    assert len(lines) == 4
    # Right-aligned: each number ends where its title ends.
    assert lines[1].index("val loss") + len("val loss") == lines[3].index("1.500") + len("1.500")


def test_narrow_table_keeps_the_scores() -> None:
    screen, file = shown(36)
    screen.table_row(ROW)
    assert "98.9 %" in file.getvalue()
    assert "100.0 %" in file.getvalue()
    assert "748" not in file.getvalue()


@pytest.mark.parametrize(
    ("monitor", "title", "cell"),
    [
        ("val/loss_calibrated", "cal. loss", "0.421"),
        ("val/topk", "top-k", "73.1 %"),
        ("val/f1_weighted", "weighted F1", "73.1 %"),
        ("val/precision_macro", "macro prec.", "73.1 %"),
        ("val/recall_micro", "micro recall", "73.1 %"),
    ],
)
@pytest.mark.parametrize("width", [36, 80, 120])
def test_the_score_that_chooses_the_best_row_has_a_column_and_stays(
    monitor: str, title: str, cell: str, width: int
) -> None:
    screen, file = shown(width)
    screen.table_row(ROW | {monitor: 0.421 if "loss" in monitor else 0.731}, monitor=monitor)
    header, line = file.getvalue().splitlines()[1:]
    assert header.count(title) == 1
    assert header.index(title) + len(title) == line.index(cell) + len(cell)
    assert line.rstrip().endswith(("★", "★ best"))
    assert max(map(cell_len, (header, line))) <= width
    assert ("macro F1" in header, "98.9 %" in line) == (width > 36, True)


def test_a_score_that_is_shown_anyway_has_no_second_column_and_stays() -> None:
    for width, columns in ((80, 7), (24, 1)):
        screen, file = shown(width)
        screen.table_row(ROW | {"val/loss": 0.25}, monitor="val/loss")
        header, line = file.getvalue().splitlines()[1:]
        assert header.count("val loss") == 1
        assert "0.250" in line
        assert len(header.replace("train loss", "t").replace("val loss", "v").replace("macro F1", "m").split()) == (
            columns + 1
        )


def test_long_phase_name_is_shortened_beside_its_epoch() -> None:
    screen, file = shown()
    screen.table_row(ROW | {"phase": "warm-up-of-everything", "epoch": 12})
    assert file.getvalue().splitlines()[2].startswith(" warm… 12 ")


def test_phase_is_said_before_the_table_and_only_logged_within(tmp_path: Path) -> None:
    screen, file = shown()
    screen.log_to(tmp_path / "log.txt")
    screen.phase("head")
    screen.table_row(ROW)
    screen.phase("all-the-rest")
    assert "head" in file.getvalue()
    assert "all-the-rest" not in file.getvalue()
    assert "all-the-rest" in (tmp_path / "log.txt").read_text()
    screen.phase("later", CHANGES)
    assert f"later: {CHANGES}" in " ".join(file.getvalue().split())


CHANGES = (
    "lr 0.01 → 0.0004 · momentum 0.9 → 0.95 · jitter [0.4, 0.4, 0.4, 0.1] → [0.2, 0.2, 0.2, 0.05] · jitter_p 0.8 → 0.5"
)


def test_what_a_phase_changes_is_one_line_and_only_a_terminal_wraps_it(tmp_path: Path) -> None:
    for number, file in enumerate((io.StringIO(), Terminal())):
        screen = Screen(file=file, width=80, color=False)
        screen.log_to(tmp_path / f"{number}.txt")
        screen.phase("all", CHANGES)
        assert logged(tmp_path / f"{number}.txt") == [f"all: {CHANGES}"]
        lines = file.getvalue().splitlines()
        if number:
            assert max(map(cell_len, lines)) <= 80
            assert lines[1].startswith("    ")
        else:
            assert lines == [f"all: {CHANGES}"]


HISTORY = {
    **{
        "epoch": 3,
        "step": 36,
        "phase": "all",
        "solved": False,
        "lr": 0.0004,
        "train_loss": 0.0912345678,
        "val/loss": 1.5,
    },
    **{
        "val/top1": 0.989,
        "val/f1_macro": 1.0,
        "best": True,
        "seconds": 3725.04,
        "images_per_second": None,
        "skipped": 0,
    },
}
LINE = (
    "Epoch 3: step=36 phase=all solved=false lr=0.0004 train_loss=0.0912346 val/loss=1.5 val/top1=0.989 val/f1_macro=1 "
    "best=true seconds=3725.04 images_per_second=none skipped=0"
)


def test_an_epoch_is_a_row_on_a_terminal_and_a_line_for_programs_elsewhere(tmp_path: Path) -> None:
    saved = "Checkpoint saved at epoch 3"
    for number, file in enumerate((io.StringIO(), Terminal())):
        screen = Screen(file=file, width=80, color=False)
        screen.log_to(tmp_path / f"{number}.txt")
        screen.epoch(HISTORY, left_s=61.0, saved=saved)
        screen.event("Checkpoint saved at step 40")
        assert logged(tmp_path / f"{number}.txt") == [LINE, saved, "Checkpoint saved at step 40"]
        lines = file.getvalue().splitlines()
        if number:
            assert [line.split()[0] for line in lines if line] == ["epoch", "all"]
            assert "1:01" in lines[2]
        else:
            assert lines == [LINE, saved, "Checkpoint saved at step 40"]


def test_control_characters_are_made_visible() -> None:
    screen, file = shown()
    screen.fact("Da\x1bta", "a\x1b[31m\u202e\r.png", "a\udcff")
    screen.warn("b\x07")
    text = file.getvalue()
    assert "\\x1b[31m\\u202e\\r.png" in text
    assert "\\udcff" in text
    assert not set(text) & {"\x1b", "\r", "\x07", "\u202e"}


def test_ascii_screen_loses_no_line() -> None:
    file = Ascii()
    text = full_screen(80, file)
    text.encode("ascii")
    assert "* best" in text
    assert encodable("Zoë ★ ·", "ascii") == "Zo\\xeb * -"
    assert encodable("Zoë ★", "utf-8") == "Zoë ★"


def test_colour_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b" in full_screen(80, Terminal())
    assert "\x1b" not in full_screen(80, io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in full_screen(80, Terminal())
    monkeypatch.delenv("NO_COLOR")
    file = Terminal()
    Screen(file=file, color=False).warn("x")
    assert file.getvalue() == "warning: x\n"


def test_quiet_prints_warnings_and_errors_only_and_logs_all(tmp_path: Path) -> None:
    screen, file = shown(quiet=True)
    screen.log_to(tmp_path / "log.txt")
    screen.note("nothing")
    screen.epoch(ROW)
    screen.warn("look")
    screen.error(DataError("no", "yes"))
    assert file.getvalue().splitlines() == ["warning: look", "error: no", "  yes"]
    assert "note: nothing" in (tmp_path / "log.txt").read_text()
    assert "Epoch 3: phase=all" in (tmp_path / "log.txt").read_text()


def test_log_has_time_stamps_and_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    screen, _ = shown(color=True)
    screen.log_to(log)
    screen.warn("a ★")
    before, line = log.read_text(encoding="utf-8").splitlines()
    assert before == "before"
    stamp, text = line.split("  ", 1)
    assert text == "warning: a ★"
    assert len(stamp) == len("2026-11-22T10:00:00Z")


def logged(file: Path) -> list[str]:
    return [line.partition("  ")[2] for line in file.read_text(encoding="utf-8").splitlines()]


def test_what_was_said_before_the_log_was_opened_comes_first(tmp_path: Path) -> None:
    screen, _ = shown(quiet=True)
    screen.fact("Data", "cells/")
    screen.note("split")
    screen.log_to(tmp_path / "log.txt")
    screen.line("later")
    assert logged(tmp_path / "log.txt") == ["Data    cells/", "note: split", "later"]


def test_a_second_run_on_the_same_screen_has_its_own_log(tmp_path: Path) -> None:
    screen, _ = shown()
    for name in ("one", "two"):
        screen.header(name)
        screen.fact("Data", name)
        screen.log_to(tmp_path / name)
        screen.line(f"end of {name}")
    for name in ("one", "two"):
        assert logged(tmp_path / name) == [name, "", f"Data    {name}", f"end of {name}"]


def test_a_screen_without_a_log_keeps_the_newest_lines_only(tmp_path: Path) -> None:
    screen, _ = shown(quiet=True)
    for number in range(1200):
        screen.line(str(number))
    screen.log_to(tmp_path / "log.txt")
    assert logged(tmp_path / "log.txt") == [str(number) for number in range(200, 1200)]


def test_a_log_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    screen, file = shown(200)
    screen.log_to(tmp_path / "gone" / "log.txt")
    screen.note("a")
    screen.note("b")
    assert file.getvalue().count("cannot write") == 1
    assert "going on without this log" in file.getvalue()
    assert file.getvalue().splitlines()[-1] == "note: b"


def test_progress_is_silent_in_a_pipe() -> None:
    screen, file = shown()
    with screen.progress("reading") as progress:
        progress(1, 2)
    screen.update(1, 10, 5.0)
    assert file.getvalue() == ""


def test_progress_on_a_terminal_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    screen = Screen(file=file, width=40, color=False)
    with screen.progress("reading\x1b") as progress:
        progress(500, 1000)
        progress(501, 1000)  # too soon after the first
    text = "reading\\x1b  500 of 1,000 (50 %)"
    assert file.getvalue() == f"\r{text}\r{' ' * len(text)}\r"
    screen.update(1, 10)
    screen.line("next")
    assert "501" not in file.getvalue()
    assert file.getvalue().endswith("next\n")


def test_live_line_gives_way_to_a_printed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    screen = Screen(file=file, width=40, color=False)
    screen.update(3, 10, 61)
    screen.line("printed")
    live = "step 3 of 10 (30 %)  1:01 left"
    assert file.getvalue() == f"\r{live}\r{' ' * len(live)}\rprinted\n"


def test_result_ends_with_what_to_type() -> None:
    screen, file = shown(50)
    screen.result("Done", ["a"], ["imgkit predict latest photos/", "imgkit report runs"])
    lines = file.getvalue().splitlines()
    assert lines[1] == "── Done " + "─" * 42
    assert lines[-2:] == ["Next:  imgkit predict latest photos/", "       imgkit report runs"]


def test_error_hint_keeps_its_lines() -> None:
    screen, file = shown(60)
    screen.error(DataError("No folder", "Try:  a\n  imgkit b"))
    assert file.getvalue().splitlines() == ["error: No folder", "  Try:  a", "    imgkit b"]


def test_default_is_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().line("here")
    assert capsys.readouterr() == ("", "here\n")


def test_header_names_the_versions_without_importing_them() -> None:
    screen, file = shown()
    screen.header()
    assert file.getvalue().startswith(
        f"imgkit 0.1.0 · Python {sys.version_info.major}.{sys.version_info.minor} · torch "
    )


_CHARACTERS = st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" ")


@given(
    st.lists(st.text(_CHARACTERS) | st.sampled_from(["  imgkit a 'b  c'", ":  --x 1", "pip 2 ", "'"])).map("".join),
    st.integers(5, 60),
)
@settings(max_examples=100)
def test_wrapping_keeps_every_word(text: str, width: int) -> None:
    lines = list(wrap_line(text, width, "- ", "  "))
    assert "".join("".join(lines).removeprefix("-").split(" ")) == text.replace(" ", "")
    for line in lines:
        typed = line[2:].strip()
        assert cell_len(line) <= width or " " not in typed or typed.startswith(("imgkit ", "pip ", "mkdir ", "--"))


def test_a_flag_that_a_message_is_about_is_nothing_to_type() -> None:
    screen, file = shown(40)
    screen.error(
        UsageError("--max-size: budget.size: '1' has no unit; write '100MB' or '95MiB'", "Type:  --max-size 1MB")
    )
    assert max(map(len, file.getvalue().splitlines())) <= 40


COMMANDS = (
    ["imgkit", "resume", "runs/20261122-104210-123-finetune-resnet50-cells-3f9a", "--runs", "some where"],
    ["imgkit", "predict", "20261122-104210-123-finetune-resnet50-cells-3f9a", "PHOTOS/", "--plugin", "my  losses.py"],
    ["imgkit", "finetune", "resnet50", "--data", "x\" y", "--data", "it's here", "--set", "phases.all.lr=3e-4"],
    ["python", "runs/20261122-104210-123-finetune-resnet50-cells-3f9a/exports/onnx/predict_onnx.py", "PHOTOS/"],
    ["torchrun", "--nproc-per-node", "2", "-m", "imgkit", "finetune", "MODEL", "--name", "NAME", "--resume", "auto"],
    ["mkdir", "-p", "/some where/that/is/written/at/length/and/has/a/space"],
    ["pip", "install", "imgkit-timm[parquet]", "and-another-package-of-a-long-name", "and-one-more-package"],
)  # fmt: skip


@pytest.mark.parametrize("width", [30, 60, 80])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_to_be_typed_stays_on_one_line(width: int, command: list[str]) -> None:
    typed = shlex.join(command)
    screen, file = shown(width)
    screen.result("Done", ["Top-1 98.9 %"], [typed, typed])
    screen.error(DataError("It is unfinished.", f"Finish it: {typed}\nFinish it:  {typed}   or begin a new one"))
    screen.fact("Gap", f"between seen and unseen images:  {typed}")
    screen.note(f"of its images some were read already; for one of them alone:  {typed}")
    screen.line(f"Next:  {typed}")
    lines = [line for line in file.getvalue().splitlines() if command[0] in line]
    assert len(lines) == 7, "each is whole, with the program's name in one line"
    for line in lines:
        after = line[line.index(command[0]) :]
        assert shlex.split(after)[: len(command)] == command


@pytest.mark.parametrize("flags", ["--data 'some where' --label-col kind", "--set phases.all.lr=3e-4"])
def test_flags_stay_on_one_line(flags: str) -> None:
    screen, file = shown(24)
    screen.error(DataError("Unknown.", f"Name the column:  {flags}   or rename it, which is better"))
    assert [line.strip() for line in file.getvalue().splitlines()] == [
        *("error: Unknown.", "Name the column:", flags, "or rename it,", "which is better")
    ]


def test_findings_hang_beside_their_mark() -> None:
    screen, file = shown(14)
    screen.item("!", "one two three")
    assert file.getvalue() == " ! one two\n   three\n"


def test_numbers() -> None:
    assert percent(0.9891) == "98.9 %"
    assert [clock(seconds) for seconds in (0, 8.4, 725, 3725)] == ["0:00", "0:08", "12:05", "1:02:05"]


def test_a_loss_of_nothing_has_no_sign() -> None:
    screen, file = shown()
    screen.table_row(ROW | {"val/loss": -0.0, "train_loss": -1e-9})
    assert "-0.000" not in file.getvalue()


def test_a_training_outlives_the_reader_of_its_lines(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from imgkit.screen import Screen\n"
        "screen = Screen()\n"
        "if sys.argv[1:]:\n"
        "    screen.log_to(Path(sys.argv[1]))\n"
        "for number in range(5000):\n"
        "    screen.line(f'line {number}')\n"
    )
    for log, code in (([str(tmp_path / "log.txt")], 0), ([], 1)):
        process = subprocess.Popen([sys.executable, "-c", script, *log], stderr=subprocess.PIPE)
        assert process.stderr is not None
        process.stderr.read(10)
        process.stderr.close()
        assert process.wait(60) == code
    assert (tmp_path / "log.txt").read_text().endswith("line 4999\n")
