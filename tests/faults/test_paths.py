"""T-X5: a table leads to no file outside of its root, and a name to no file outside of a run's folder."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from oracle import short_run
from pictures import MakeFolders, square
from tally import Tally, share
from watched_files import Touched, touched_by, typed

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
    place: Path, words: Sequence[str], files: Sequence[str], wait_s: float = 120
) -> tuple[Touched, list[str]]:
    """The commands, one after the other in a fork that ends with 3 if all do, and what was opened in spite of all."""
    commands = [typed(*(word.format(file) for word in words)) for file in files]

    def work() -> int:
        codes = {command() for command in commands}
        return codes.pop() if len(codes) == 1 else 1

    found = touched_by(work, place / f"log-{len(list(place.glob('log-*')))}", wait_s)
    forbidden = {name for name in found.read | found.changed if name in {"/dev/zero", f"{place}/data/pipe.png"}}
    return found, found.below(place / "outside", found.read) + sorted(forbidden)


@pytest.mark.parametrize("reader", share(READERS, ["predict", "check"]))
def test_a_table_leads_to_nothing_outside_of_its_root(place: Path, tally: Tally, reader: str) -> None:
    cells = attacks(place)
    files = tables(place, cells, alone=reader == "predict")
    if "skipped" in reader:
        for file in files:
            found, opened = led_astray(place, READERS[reader], [file])
            assert found.code in {0, 3}, found.text
            assert opened == []
    else:
        found, opened = led_astray(place, READERS[reader], files)
        assert (found.code, opened) == (3, []), found.text.decode()
    tally.count(FAMILY, cells=len(cells), read=len(opened))


def test_the_option_that_allows_it(place: Path) -> None:
    """The same cells lead to files where the root is theirs: else the zeros above would mean nothing."""
    attacks(place)
    (place / "data" / "t.csv").write_text(f"path\n{place}/outside/secret.png\n")
    found, opened = led_astray(place, ("predict", "ready", "{}", "--root", str(place / "outside")), ["data/t.csv"])
    assert (found.code, opened) == (0, [f"{place}/outside/secret.png"])
