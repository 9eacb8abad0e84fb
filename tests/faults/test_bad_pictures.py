"""T-D: a bad picture is one line that names it, in little time and memory; with --on-bad skip it stops nothing."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pytest
from cli_run import Run
from corpus import Case
from forked import answer_of, give_up_root, spent_by
from pictures import MakeFolders
from tally import Tally, share

from imgkit.data import decode, load, scan
from imgkit.data.decode import MAX_PIXELS, load_image
from imgkit.data.load import load_data
from imgkit.errors import BadImage, DataError, printable
from imgkit.recipe.schema import DataSettings

pytest_plugins = ["cli_fixture"]

FAMILY = "T-D"
MOST_S, MOST_MIB = 2.0, 500.0
TRAIN = (
    *("scratch", "test_resnet", "--data", "tree", "--name", "a"),
    *("--image-size", "32", "--epochs", "1", "--set", "run.workers=0"),
)
NOT_IN_FOLDERS = {"missing.jpg", "folder.jpg", "nul\0.jpg"}  # what no class folder holds as a file


@pytest.fixture
def tree(make_folders: MakeFolders) -> Path:
    """Four good pictures."""
    return make_folders({"cat": 2, "dog": 2}, "tree")


def tried(case: Case, tree: Path) -> dict[str, Any]:
    """What came of a picture by itself, and of a data set that holds it."""

    def work() -> dict[str, Any]:
        give_up_root()
        alone, *read_in = spent_by(lambda: read(case.path))
        _, *scanned_in = spent_by(lambda: scan.scan([str(case.path)], max_pixels=MAX_PIXELS))
        seconds, mib = map(max, read_in, scanned_in)
        return {"alone": alone, "s": seconds, "mib": mib, **in_a_data_set(case.path, tree)}

    found: dict[str, Any] = answer_of(work, wait_s=120)  # which only what hangs takes
    return found


def read(path: Path) -> dict[str, Any]:
    try:
        image = load_image(path)
    except BadImage as error:
        return {"path": error.path, "reason": error.reason}
    except Exception as error:
        return {"crash": repr(error)}
    return {"mode": image.mode, "size": image.size, "corner": image.getpixel((0, 0))}


def in_a_data_set(path: Path, tree: Path) -> dict[str, Any]:
    """Said with --on-bad stop; with skip, what is left and what is listed."""
    if path.name in NOT_IN_FOLDERS:
        return {}
    place = tree / "cat" / path.name
    os.link(path, place, follow_symlinks=False)
    said = ""
    try:
        load_data(DataSettings(path=str(tree)))
    except DataError as error:
        said = error.message
    left = load_data(DataSettings(path=str(tree), on_bad="skip"))
    place.unlink()
    return {"said": said, "left": len(left.index), "listed": [Path(one.path).name for one in left.bad]}


def problems(case: Case, found: dict[str, Any]) -> Iterator[str]:
    """What is not as promised."""
    alone, name = found["alone"], case.path.name
    if found["s"] > MOST_S or found["mib"] > MOST_MIB:
        yield f"{found['s']:.2f} s, {found['mib']:.0f} MiB"
    if case.size is not None:
        near = "corner" in alone and (
            case.corner is None or np.abs(np.subtract(alone["corner"], case.corner)).max() <= 6
        )
        if not near or alone["mode"] != "RGB" or tuple(alone["size"]) != case.size:
            yield f"{alone}, not {case.size} {case.corner}"
    elif "reason" not in alone or case.reason not in alone["reason"]:
        yield f"{alone}, not {case.reason!r}"
    elif alone["path"] != str(case.path) or str(case.path) in alone["reason"] or "\n" in alone["reason"]:
        yield f"not one line without the path: {alone}"
    if "said" in found:
        lines = found["said"].splitlines()[1:]
        bad = [f"  {printable(f'cat/{name}')}: "] if case.size is None else []
        if len(lines) != len(bad) or not all(map(str.startswith, lines, bad)):
            yield f"said {lines}"
        if (found["left"], found["listed"]) != (5 - len(bad), [name] * len(bad)):
            yield f"left {found['left']} of 5, listed {found['listed']}"


def check(case: Case, tree: Path, tally: Tally) -> None:
    found = tried(case, tree)
    wrong = list(problems(case, found))
    assert not wrong, (case.path.name, *wrong)
    tally.count(FAMILY, pictures=1, bad=case.size is None, untold=len(wrong))
    tally.most(FAMILY, most_s=round(found["s"], 2), most_mib=round(found["mib"]))


def test_each_picture(tmp_path: Path, tree: Path, tally: Tally) -> None:
    (tmp_path / "corpus").mkdir()
    for case in corpus.cases(tmp_path / "corpus"):
        check(case, tree, tally)


@pytest.mark.campaign
def test_pictures_of_all_the_pixels_that_are_allowed(tmp_path: Path, tree: Path, tally: Tally) -> None:
    for case in corpus.largest(tmp_path):
        check(case, tree, tally)
        case.path.unlink()


def test_a_run_over_all_of_them(tree: Path, imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without skip nothing is begun; with it, a run and its list, an evaluation and predictions."""
    monkeypatch.chdir(tree.parent)
    cases = [case for case in corpus.cases(tree / "dog") if case.path.name not in NOT_IN_FOLDERS]
    cases = [case for case in cases if case.path.name != "secret.jpg"]  # which root can read
    (tree / "dog" / "secret.jpg").unlink()
    bad = {str(case.path) for case in cases if case.size is None}
    code, out, err = imgkit(*TRAIN)
    assert code == 3, err
    assert f"error: {len(bad)} of {len(cases) + 4} images in tree cannot be used:" in err
    assert not (tree.parent / "runs").exists()
    code, out, err = imgkit(*TRAIN, "--on-bad", "skip")
    assert code == 0, err
    assert "Traceback" not in out + err
    assert f"{len(bad)} files left out because they cannot be used, first dog/" in " ".join(err.split())
    with Path("runs/a/data/bad.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "reason"]
    assert {path for path, _ in rows} == bad
    assert len(rows) == len(bad)
    with Path("runs/a/data/index.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert len(list(csv.reader(file))) - 1 == len(cases) + 4 - len(bad)


@pytest.mark.parametrize("change", ["gone", "another file"])
def test_a_picture_that_breaks_after_the_scan_ends_the_run_by_name(
    tree: Path, imgkit: Run, monkeypatch: pytest.MonkeyPatch, tally: Tally, change: str
) -> None:
    """Not even skip puts another one in its place: docs/design.md says why."""
    victim = tree / "cat" / "0001.png"

    def then_break(*args: Any, **options: Any) -> load.LoadedData:  # noqa: ANN401
        found = load_data(*args, **options)
        victim.unlink()
        if change == "another file":
            victim.write_text("<html>")
        return found

    monkeypatch.chdir(tree.parent)
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setattr("imgkit.prepare.load_data", then_break)
    code, _, err = imgkit(*TRAIN, "--on-bad", "skip")
    told = [line for line in err.splitlines() if "0001.png" in line]
    reason = "No such file or directory" if change == "gone" else "an HTML page; imgkit reads "
    assert code == 3, err
    assert len(told) == 1, err
    assert told[0].startswith(f"error: {victim}: {reason}")
    tally.count(FAMILY, pictures=1, bad=1)


# What protects, taken away: the checks above must notice.


def just_oserrors(path: Path, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> decode.Decoded:
    try:
        with path.open("rb") as file:
            return decode._decode(path, file, max_pixels, min_side)
    except OSError as error:
        raise BadImage(path, str(error)) from error


def unlimited(path: Path, file: BufferedReader, _: int, min_side: int | None) -> decode.Decoded:
    return DECODE(path, file, 10**10, min_side)


def all_good(files: Sequence[str], **options: Any) -> scan.ScanReport:  # noqa: ANN401
    return replace(SCAN(files, **options), bad=())


DECODE, SCAN = decode._decode, scan.scan
MUTANTS: dict[str, tuple[str, object, str]] = {
    "any exception": ("imgkit.data.decode.read_image", just_oserrors, "text-bomb.png"),
    "kinds of files": ("imgkit.data.decode._check_file", lambda path: None, "zero.jpg"),
    "limit of pixels": ("imgkit.data.decode._decode", unlimited, "bomb13000.png"),
    "list of bad files": ("imgkit.data.load.scan", all_good, "cut50.jpg"),
    "upright": ("imgkit.data.decode._UPRIGHT", {}, "exif6.jpg"),
    "in strips": ("imgkit.data.decode._STRIP", 1 << 30, "deep-8000.png"),
}


@pytest.mark.parametrize("what", share(MUTANTS, ["any exception", "list of bad files", "upright"]))
def test_the_check_notices_what_is_missing(
    tmp_path: Path, tree: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    place, mutant, name = MUTANTS[what]
    (tmp_path / "corpus").mkdir()
    made = corpus.largest(tmp_path / "corpus") if "8000" in name else corpus.cases(tmp_path / "corpus")
    case = next(case for case in made if case.path.name == name)
    monkeypatch.setattr(place, mutant)
    assert list(problems(case, tried(case, tree)))
    tally.count("mutants", caught=1, escaped=0)
