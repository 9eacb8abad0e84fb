"""T-X5: a table leads to no file outside of its root, and a name to no file outside of a run's folder."""

import os
import signal
from collections.abc import Collection, Sequence
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  (imported here so that no fork has to, and writes none of its own files)
import pytest
from oracle import short_run
from pictures import MakeFolders, square
from tally import Tally, share
from watched_files import Touched, each_ends_with, touched_by, typed

from imgkit.data import decode
from imgkit.data.table_paths import Paths

FAMILY = "T-X5"
SMALL = ("--set", "model.image_size=32", "--set", "run.workers=0", "--set", "train.batch_size=8", "--smoke")


def attacks(place: Path) -> dict[str, str]:
    """Cells of a table in place/data, and what they lead to, made here; place/outside is not to be read."""
    root, outside = place / "data", place / "outside"
    (outside / "deep").mkdir(parents=True)
    for file in (outside / "secret.png", outside / "deep" / "secret.png"):
        square(1, side_px=40).save(file)
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "second.png").symlink_to("link.png")
    (root / "linked").symlink_to(outside)
    (root / "deep").symlink_to(outside / "deep")
    (root / "zero.png").symlink_to("/dev/zero")
    (root / "loop.png").symlink_to("loop.png")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    return {
        "upwards": "../outside/secret.png",
        "upwards from a folder": "cat/../../outside/secret.png",
        "upwards from a folder that is not there": "none/../../outside/secret.png",
        "absolute": f"{outside}/secret.png",
        "absolute, by way of the root": f"{root}/../outside/secret.png",
        "link": "link.png",
        "link to a link": "second.png",
        "linked folder": "linked/secret.png",
        "upwards from a linked folder": "deep/../secret.png",
        "link to itself": "loop.png",
        "home": "~/secret.png",
        "variable": "$HOME/secret.png",
        "NUL": "cat/0000\0.png",
        "NUL before a suffix": "../outside/secret.png\0.png",
        "share": r"\\server\share\secret.png",
        "backslashes": r"..\outside\secret.png",
        "drive": r"C:\outside\secret.png",
        "address of a file": f"file://{outside}/secret.png",
        "address": "https://example.org/secret.png",
        "device": "/dev/zero",
        "link to a device": "zero.png",
        "standard input": "/dev/stdin",
        "process": "/proc/self/root" + f"{outside}/secret.png",
        "pipe": "pipe.png",
        "folder": "folder.png",
        "root": ".",
        "5,000 letters": "x" * 5000 + ".png",
        "500 folders": "x/" * 500 + "a.png",
    }


# Commands that read a table {}, and what they end with where no row but one leads astray.
READERS: dict[str, tuple[str, ...]] = {
    "predict": ("predict", "ready", "{}", "--device", "cpu"),
    "check": ("data", "check", "{}"),
    "finetune": ("finetune", "test_resnet", "--weights", "none", "--data", "{}", *SMALL, "--dry-run"),
    "finetune, bad rows skipped": (
        *("finetune", "test_resnet", "--weights", "none", "--data", "{}", *SMALL, "--dry-run"),
        *("--on-bad", "skip"),
    ),
    "preview": ("data", "preview", "--by-class", "--data", "{}", "--out", "sheet.png"),
    "evaluate": ("evaluate", "ready", "--data", "{}"),
}


@pytest.fixture
def place(tmp_path: Path, run: Path, make_folders: MakeFolders, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data/ and a run, in which commands are typed."""
    make_folders({"cat": 8, "dog": 8}, name="data", side_px=40)
    (tmp_path / "runs").symlink_to(run.parent)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "outside"))
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the classes cat and dog."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("run")
        for number in range(16):
            label = ("cat", "dog")[number % 2]
            (folder / "data" / label).mkdir(parents=True, exist_ok=True)
            square(number, code=number % 2, side_px=40).save(folder / "data" / label / f"{number}.png")
        sets = ("phases.top.steps=1", "phases.all.epochs=1")
        return short_run(folder, *sets, data=str(folder / "data"), name="ready").folder.path


def tables(place: Path, cells: dict[str, str], *, alone: bool) -> list[str]:
    """A table for each cell, in data/; with good rows besides, unless `alone`."""
    good = [] if alone else [f"{label}/{row:04d}.png,{label}" for label in ("cat", "dog") for row in range(8)]
    files = []
    for number, cell in enumerate(cells.values()):
        files.append(f"data/{number}.csv")
        (place / files[-1]).write_text("\n".join(["path,label", *good, f"{cell},cat"]) + "\n")
    return files


def led_astray(
    place: Path, words: Sequence[str], files: Sequence[str], codes: Collection[int] = (3,), wait_s: float = 120
) -> tuple[Touched, list[str]]:
    """The command with each of these tables, and what was opened in spite of all."""
    found = touched_by(each_ends_with(codes, [[word.format(file) for word in words] for file in files]), wait_s)
    forbidden = {"/dev/zero", f"{place}/data/pipe.png"} & (found.read | found.changed)
    return found, found.below(place / "outside", found.read) + sorted(forbidden)


@pytest.mark.parametrize("reader", share(READERS, ["predict", "check"]))
def test_a_table_leads_to_nothing_outside_of_its_root(place: Path, tally: Tally, reader: str) -> None:
    cells = attacks(place)
    files = tables(place, cells, alone=reader == "predict")
    found, opened = led_astray(place, READERS[reader], files, codes=(0, 3) if "skipped" in reader else (3,))
    assert (found.code, opened) == (0, []), found.text.decode()
    tally.count(FAMILY, cells=len(cells), read=len(opened))


def test_the_option_that_allows_it(place: Path) -> None:
    """The same cells lead to files where the root is theirs: else the zeros above would mean nothing."""
    attacks(place)
    (place / "data" / "t.csv").write_text(f"path\n{place}/outside/secret.png\n")
    found, opened = led_astray(place, ("predict", "ready", "{}", "--root", str(place / "outside")), ["data/t.csv"], {0})
    assert (found.code, opened) == (0, [f"{place}/outside/secret.png"])


NAMES = {
    "slash": "a/b",
    "upwards": "..",
    "upwards and down": "../elsewhere",
    "upwards from inside": "a/../../elsewhere",
    "absolute": "{}/elsewhere",
    "here": ".",
    "slash at the end": "a/",
    "empty": "",
    "NUL": "a\0b",
    "300 letters": "x" * 300,
    "5,000 letters": "x" * 5000,
    "line feed": "a\nb",
    "escape": "a\x1b[2Jb",
    "right to left": "a\u202eb",
    "no UTF-8": "a\udcffb",
    "hidden": ".hidden",
    "an option": "-x",
    "pointer": "latest",
    "report": "report.html",
}
# Commands with a name {}; those that make a run, and those that look for one.
MAKERS = {
    "finetune": ("finetune", "test_resnet", "--weights", "none", "--data", "data", *SMALL, "--out", "new", "--name={}"),
    "scratch": ("scratch", "test_resnet", "--data", "data", *SMALL, "--out", "new", "--name={}"),
}
FINDERS = {
    "resume": ("resume", "--", "{}"),
    "evaluate": ("evaluate", "--", "{}"),
    "predict": ("predict", "--", "{}", "data/cat/0000.png"),
    "predict --with": ("predict", "ready", "data/cat/0000.png", "--with={}"),
    "plot": ("plot", "--", "{}"),
    "finetune --from": ("finetune", "test_resnet", "--data", "data", *SMALL, "--out", "new", "--from={}"),
    "finetune --recipe": ("finetune", "test_resnet", "--data", "data", *SMALL, "--out", "new", "--recipe={}"),
    "study": ("study", "--", "{}"),
    "report": ("report", "--", "{}"),
    "report --baseline": ("report", "runs", "--baseline={}"),
}


def changed_elsewhere(found: Touched, *allowed: Path) -> list[str]:
    """What a command changed outside of `allowed`, the cache, and the memory that its processes share."""
    usual = (Path(os.environ["IMGKIT_CACHE"]), Path(os.sep, "dev", "shm"))
    inside = [os.path.realpath(folder) for folder in (*allowed, *usual)]
    return sorted(name for name in found.changed if not any(Path(name).is_relative_to(one) for one in inside))


@pytest.mark.parametrize("command", share({**MAKERS, **FINDERS}, ["finetune", "predict", "report"]))
def test_a_name_is_refused_or_means_a_run(place: Path, tally: Tally, command: str) -> None:
    words = {**MAKERS, **FINDERS}[command]
    # Some of them name a run, a folder of runs, or nothing.
    names = [name for name in NAMES if command in MAKERS or name not in {"pointer", "here", "upwards", "empty"}]
    before = sorted(place.rglob("*"))
    commands = [[word.replace("{}", NAMES[name].format(place)) for word in words] for name in names]
    found = touched_by(each_ends_with((2, 3), commands))
    assert (found.code, changed_elsewhere(found)) == (0, []), found.text.decode()
    assert sorted(place.rglob("*")) == before
    tally.count(FAMILY, names=len(names), written=0)


STRANGE = ["../../evil", "/evil", "..", "=1+1", "a/../../../evil", "-x", "\u202eevil", "a\x1b[2J", "con", "x" * 180]


@pytest.mark.campaign
def test_nothing_is_written_outside_of_a_runs_folder(place: Path, tally: Tally) -> None:
    """With classes, pictures and folders that are called like ways out."""
    (place / "work").mkdir()
    os.chdir(place / "work")  # `place` brings the test back
    data = place / "..evil\x1b[2J\u202e" / "=cells"
    data.mkdir(parents=True)
    rows = ["path,label"]
    for number in range(40):
        name = f"{('=', '-', '@', '.. ')[number % 4]}{number}\x1b[2J.png"
        square(number, code=number % 10, side_px=40).save(data / name)
        rows.append(f"{name},{STRANGE[number % 10]}")
    (data / "table.csv").write_text("\n".join(rows) + "\n")
    table, run = str(data / "table.csv"), place / "work" / "runs" / "x"
    train = ("scratch", "test_resnet", "--data", table, *SMALL, "--set", "data.test=0.3", "--name", "x")
    commands: dict[tuple[str, ...], list[Path]] = {
        train: [place / "work" / "runs"],
        ("evaluate", "x"): [run],
        ("evaluate", "x", "--data", table): [run],
        ("predict", "x", str(data), "--out", "a.csv", "--grid", "g.png"): [place / "work"],
        ("plot", "x"): [run],
        ("report", "runs"): [place / "work" / "runs"],
        ("report", "runs/x"): [run],
    }
    for words, allowed in commands.items():
        found = touched_by(typed(*words))
        assert (found.code, changed_elsewhere(found, *allowed)) == (0, []), found.text.decode()
        tally.count(FAMILY, commands=1, written=0)
    assert not list(place.rglob("evil*"))
    assert sorted(path.name for path in (place / "work").iterdir()) == ["a.csv", "g.png", "runs"]


# What protects, taken away: the checks above must notice.


def test_the_check_notices_a_table_that_may_lead_anywhere(
    place: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = {name: cell for name, cell in attacks(place).items() if name in {"upwards", "link"}}
    (file, link) = tables(place, cells, alone=True)
    words = READERS["predict"]
    for missing, given in (("inside", file), ("_real", link)):
        with monkeypatch.context() as patch:
            patch.setattr(Paths, missing, lambda self, cell: cell)
            assert led_astray(place, words, [given])[1] == [f"{place}/outside/secret.png"]
        tally.count("mutants", caught=1, escaped=0)


@pytest.mark.campaign
def test_the_check_notices_a_pipe_that_is_opened(place: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    attacks(place)
    (file,) = tables(place, {"pipe": "pipe.png"}, alone=True)
    monkeypatch.setattr(decode, "_check_file", lambda path: None)
    found, opened = led_astray(place, READERS["predict"], [file], wait_s=3)
    assert (found.code, opened) == (-signal.SIGALRM, [f"{place}/data/pipe.png"]), "it waits for ever"
    tally.count("mutants", caught=1, escaped=0)


@pytest.mark.campaign
def test_the_check_notices_a_name_that_is_not_looked_at(
    place: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("imgkit.api", "imgkit.prepare", "imgkit.run"):
        monkeypatch.setattr(f"{module}.check_place", lambda out, name: None)
    (place / "new").mkdir()
    words = [word.replace("{}", "../elsewhere") for word in MAKERS["finetune"]]
    found = touched_by(typed(*words))
    assert changed_elsewhere(found, place / "new") != [], found.text.decode()
    tally.count("mutants", caught=1, escaped=0)
