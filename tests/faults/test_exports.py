"""T-X4: names are shown and exported, and neither a terminal nor a spreadsheet does what they say."""

import csv
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  (imported here so that no fork has to)
import pytest
from forked import forked, on_a_terminal
from oracle import short_run
from pictures import square
from study_worker import LISTED, PLUGIN, forking, write_study
from tally import Tally, share
from watched_files import each_ends_with, typed

from imgkit.errors import printable

FAMILY = "T-X4"
SMALL = ("--set", "model.image_size=32", "--set", "run.workers=0", "--set", "train.batch_size=8", "--smoke")

# Ways to make a spreadsheet compute, a terminal act, and a reader of UTF-8 stumble.
FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1+1"]
ACTS = ["\x1b[2JEVIL", "\x1b]0;EVIL\x07", "\x9b2JEVIL", "\u202eEVIL", "\u2066EVIL"]
LINES = ["\r=EVIL", "a\rEVIL", "a\nEVIL", "\u2028EVIL"]
BYTES = ["\udcffEVIL", "\udc9b2JEVIL"]
CLASSES = [*FORMULAS, *ACTS]
FILES = [*FORMULAS, *ACTS, *LINES, *BYTES]
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)
# What imgkit itself sends to a terminal: line ends, colours, and a return that begins a line anew.
_OWN = re.compile(r"\x1b\[[0-9;]*m|\r(?! *=?EVIL)|\n(?!EVIL)")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, a table and a template with strange names, and runs of them: `one` and, of several labels, `many`."""
    place = tmp_path_factory.mktemp("home")
    rows = ["path,labels"]
    for folder in ("flat", "new", "mine"):
        (place / folder).mkdir()
    for code, label in enumerate(CLASSES):
        (place / "data" / label).mkdir(parents=True)
        for number in range(8):
            name = f"{FILES[(code + number) % len(FILES)]}{code}{number}.png"
            square(8 * code + number, code=code, side_px=40).save(place / "data" / label / name)
    for number in range(40):
        name = f"{FILES[number % len(FILES)]}{number}.png"
        square(number, code=number % 5, side_px=40).save(place / "flat" / name)
        if not set(name) & {"\r", "\n", *"".join(BYTES)}:
            rows.append(f'{name},"{FORMULAS[number % 5].strip()}|{FORMULAS[number % 3].strip()}"')
    for name in FILES:
        (place / "data" / CLASSES[0] / f"{name}bad.png").write_bytes(b"no picture")
    (place / "flat" / "many.csv").write_text("\n".join(rows) + "\n")
    (place / "mine" / "template.csv").write_text("id,label\n" + "".join(f"{n},\n" for n in range(3)))
    for number in range(3):
        square(number, code=number, side_px=40).save(place / "new" / f"{number}.png")
    (place / "mine" / "evil.csv").write_text(f'path,"{EVIL}"\n"{EVIL}",x\n', errors="surrogateescape")
    (place / "mine" / "evil.toml").write_text(f"schema = 1 # {''.join(ACTS)}\n")
    study = write_study(place, LISTED, "[0]")
    study.write_text(study.read_text().replace('"data.path"', '"data.on_bad" = "skip"\n"data.path"'))
    sets = ("phases.top.steps=1", "phases.all.epochs=1", "data.on_bad=skip", "data.test=0.2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(place / "cache"))
        patch.chdir(place)
        short_run(place, *sets, data="data", name="one")
        several = (*sets, "data.label_delimiter=|", "data.task=multilabel")
        short_run(place, *several, data="flat/many.csv", name="many")
    return place


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    monkeypatch.setattr("imgkit.studies.conduct.conduct.__kwdefaults__", {"dry_run": False, "worker": forking()})
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return home


WRITERS: list[tuple[str, ...]] = [
    ("evaluate", "one"),
    ("evaluate", "one", "--data", "data", "--on-bad", "skip"),
    ("evaluate", "many"),
    ("predict", "one", "data", "flat", "--out", "one.csv"),
    ("predict", "one", "flat", "--out", "three.csv", "--top-k", "3"),
    ("predict", "many", "flat", "--out", "many of them.csv"),
    ("predict", "many", "flat", "--out", "ranked.csv", "--top-k", "2"),
    ("predict", "one", "new", "--template", "mine/template.csv", "--out", "filled.csv"),
    ("report",),
    ("lr-find", "test_resnet", "--weights", "none", "--data", "data", "--on-bad", "skip", *SMALL[:-1], "--steps=10"),
    ("study", "small.toml", "--data", "data", "--plugin", str(PLUGIN), "--smoke"),
]


def formulas(files: Iterable[Path]) -> tuple[int, list[str]]:
    """How many cells CSV files have, and those that a spreadsheet would run."""
    cells, found = 0, []
    for file in files:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            for cell in (cell for row in csv.reader(stream) for cell in row):
                cells += 1
                if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
                    found.append(f"{file}: {cell!r}")
    return cells, found


def written(home: Path, commands: list[tuple[str, ...]]) -> tuple[int, list[str]]:
    """The cells and formulas in all that these commands leave, and the runs had before."""
    code, text = forked(each_ends_with([0], commands))
    assert code == 0, text.decode(errors="replace")
    return formulas([file for file in home.rglob("*.csv") if file.parent.name not in {"mine", "flat"}])


def test_no_cell_is_a_formula(at_home: Path, tally: Tally, whole: bool) -> None:
    cells, found = written(at_home, WRITERS if whole else WRITERS[3:9:2])
    assert found == []
    assert cells > 1000
    tally.count(FAMILY, cells=cells, formulas=len(found))


# Commands that name classes, files and what was typed, on a terminal; each with what it ends with.
TEXT = "x".join(ACTS) + "".join(LINES)
EVIL = TEXT + BYTES[0]
SHOWN: dict[str, tuple[int, tuple[str, ...]]] = {
    "data check": (3, ("data", "check", "data")),
    "data check of none": (3, ("data", "check", TEXT)),
    "finetune": (0, ("finetune", "test_resnet", "--weights=none", "--data=data", "--on-bad=skip", *SMALL)),
    "finetune on bad files": (3, ("finetune", "test_resnet", "--weights=none", "--data=data", *SMALL)),
    "--set": (2, ("finetune", "test_resnet", "--set", f"{EVIL}=1")),
    "--set of a value": (2, ("finetune", "test_resnet", "--set", f"phases.all.lr={EVIL}")),
    "--recipe": (2, ("finetune", "test_resnet", "--recipe", EVIL)),
    "--name": (2, ("finetune", "test_resnet", "--data=data", "--name", EVIL)),
    "--print-recipe": (0, ("finetune", "test_resnet", "--print-recipe", "--data", TEXT)),
    "an option": (2, ("finetune", f"--{EVIL}")),
    "a number": (2, ("finetune", "test_resnet", "--epochs", EVIL)),
    "a command": (2, (EVIL,)),
    "a network": (2, ("finetune", EVIL, "--data=data")),
    "--weights": (4, ("finetune", "test_resnet", "--data=data", "--on-bad=skip", "--weights", TEXT)),
    "lr-find": (0, WRITERS[9]),
    "evaluate": (0, ("evaluate", "one", "--data", "data", "--on-bad", "skip")),
    "evaluate none": (2, ("evaluate", EVIL)),
    "resume none": (2, ("resume", EVIL)),
    "predict": (0, ("predict", "one", "data", "flat")),
    "predict many": (0, ("predict", "many", "flat")),
    "predict --format csv": (0, ("predict", "one", "data", "--format", "csv")),
    "predict --format jsonl": (0, ("predict", "one", "data", "--format", "jsonl")),
    "predict --format competition": (0, ("predict", "one", "new", "--format", "competition")),
    "predict a table": (3, ("predict", "one", "mine/evil.csv")),
    "predict into none": (7, ("predict", "one", "new", "--out", f"{EVIL}/x.csv")),
    "predict into a strange file": (0, ("predict", "one", "new", "--out", f"{ACTS[0]}.csv")),
    "--template": (3, ("predict", "one", "flat", "--template", "mine/template.csv", "--out", "f.csv")),
    "report": (0, ("report",)),
    "report of one": (0, ("report", "runs/one")),
    "report of none": (2, ("report", EVIL)),
    "--baseline": (2, ("report", "--baseline", EVIL)),
    "plot": (0, ("plot", "one")),
    "plot none": (2, ("plot", EVIL)),
    "plot a table": (3, ("plot", "mine/evil.csv", "--out", "plots")),
    "study": (2, ("study", "mine/evil.toml")),
    "study --print": (0, ("study", "mine/evil.toml", "--print")),
    "preview": (0, ("data", "preview", "test_resnet", "--data=data", "--on-bad=skip", f"--out={ACTS[3]}.png")),
    "models": (2, ("models", EVIL)),
    "recipes": (2, ("recipes", EVIL)),
    "--plugin": (2, ("models", "--plugin", f"{ACTS[0]}.py")),
    "doctor": (8, ("doctor", "--out", f"mine/evil.csv/{EVIL}")),
}


def acts(shown: bytes) -> list[str]:
    """What of the bytes that came to a terminal is neither text nor imgkit's own colours and line ends."""
    text = _OWN.sub("", shown.decode("utf-8", "surrogateescape"))
    return [char for char in text if printable(char) != char]


@pytest.mark.parametrize("name", share(SHOWN, ["data check", "predict", "predict --format csv", "report", "evaluate"]))
def test_no_name_acts_on_the_terminal(at_home: Path, tally: Tally, name: str) -> None:
    code, words = SHOWN[name]
    ended, shown = on_a_terminal(typed(*words))
    assert (ended, acts(shown)) == (code, []), shown.decode(errors="replace")
    tally.count(FAMILY, shown=1, raw=0)


# What protects, taken away: the checks above must notice.


def as_it_is(text: str) -> str:
    return text


FORMULA_MUTANTS: dict[str, Callable[..., object]] = {
    "imgkit.prediction_rows.guarded": as_it_is,
    "imgkit.prediction_rows.Rows": partial(csv.writer, lineterminator="\n"),  # which does not quote a CR
    "imgkit.cli.fill.guarded_answer": as_it_is,
}
SHOWN_MUTANTS = {
    "imgkit.cli.destination.printable": "predict --format csv",
    "imgkit.screen.printable": "predict into a strange file",
    "imgkit.cli.study.printable": "study --print",
}


@pytest.mark.parametrize("target", share(FORMULA_MUTANTS, ["imgkit.prediction_rows.Rows"]))
def test_the_check_notices_formulas(
    at_home: Path, tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(target, FORMULA_MUTANTS[target])
    files = [tmp_path / "answers.csv", tmp_path / "filled.csv"]
    commands = [(*WRITERS[row][:-1], str(file)) for row, file in zip((3, 7), files, strict=True)]
    assert forked(each_ends_with([0], commands))[0] == 0
    assert formulas(files)[1] != []
    tally.count("mutants", caught=1, escaped=0)


@pytest.mark.parametrize("target", share(SHOWN_MUTANTS, ["imgkit.screen.printable"]))
def test_the_check_notices_names_that_act(
    at_home: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(target, as_it_is)
    assert acts(on_a_terminal(typed(*SHOWN[SHOWN_MUTANTS[target]][1]))[1]) != []
    tally.count("mutants", caught=1, escaped=0)
