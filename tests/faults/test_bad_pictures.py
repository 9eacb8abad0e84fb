"""T-D: a bad picture is one line that names it, in little time and memory; with --on-bad skip it stops nothing."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pytest
from cli_run import Run
from corpus import Case
from forked import answer_of, give_up_root, spent_by
from pictures import MakeFolders
from tally import Tally

from imgkit.data import scan
from imgkit.data.decode import load_image
from imgkit.data.load import load_data
from imgkit.errors import BadImage, DataError, printable
from imgkit.recipe.schema import DataSettings

pytest_plugins = ["cli_fixture"]

FAMILY = "T-D"
MOST_S, MOST_MB = 2.0, 500.0
NOT_IN_FOLDERS = {"missing.jpg", "folder.jpg", "nul\0.jpg"}  # what no class folder holds as a file


@pytest.fixture
def tree(make_folders: MakeFolders) -> Path:
    """Four good pictures."""
    return make_folders({"cat": 2, "dog": 2}, "tree")


def tried(case: Case, tree: Path) -> dict[str, Any]:
    """What came of a picture by itself, and of a data set that holds it."""

    def work() -> dict[str, Any]:
        give_up_root()
        alone, seconds, mb = spent_by(lambda: (read(case.path), scan.scan([str(case.path)], max_pixels=64_000_000))[0])
        return {"alone": alone, "s": seconds, "mb": mb, **in_a_data_set(case.path, tree)}

    found: dict[str, Any] = answer_of(work, wait_s=20)
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
    os.link(path, tree / "cat" / path.name, follow_symlinks=False)
    said = ""
    try:
        load_data(DataSettings(path=str(tree)))
    except DataError as error:
        said = error.message
    left = load_data(DataSettings(path=str(tree), on_bad="skip"))
    return {"said": said, "left": len(left.index), "listed": [Path(one.path).name for one in left.bad]}


def problems(case: Case, found: dict[str, Any]) -> Iterator[str]:
    """What is not as promised."""
    alone, name = found["alone"], case.path.name
    if found["s"] > MOST_S or found["mb"] > MOST_MB:
        yield f"{found['s']:.2f} s, {found['mb']:.0f} MB"
    if case.size is not None:
        near = "corner" in alone and (
            case.corner is None or np.abs(np.subtract(alone["corner"], case.corner)).max() <= 6
        )
        if not near or alone["mode"] != "RGB" or tuple(alone["size"]) != case.size:
            yield f"{alone}, not {case.size} {case.corner}"
    elif case.reason not in alone.get("reason", ""):
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


def test_each_picture(tmp_path: Path, tree: Path, tally: Tally) -> None:
    (tmp_path / "corpus").mkdir()
    for case in corpus.cases(tmp_path / "corpus"):
        found = tried(case, tree)
        (tree / "cat" / case.path.name.replace("\0", "")).unlink(missing_ok=True)
        wrong = list(problems(case, found))
        assert not wrong, (case.path.name, *wrong)
        tally.count(FAMILY, pictures=1, bad=case.size is None, untold=len(wrong))
        tally.most(FAMILY, most_s=round(found["s"], 2), most_mb=round(found["mb"]))


def test_a_run_over_all_of_them(tree: Path, imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without skip nothing is begun; with it, a run and its list, an evaluation and predictions."""
    monkeypatch.chdir(tree.parent)
    cases = [case for case in corpus.cases(tree / "dog") if case.path.name not in NOT_IN_FOLDERS]
    cases = [case for case in cases if case.path.name != "secret.jpg"]  # which root can read
    (tree / "dog" / "secret.jpg").unlink()
    bad = {str(case.path) for case in cases if case.size is None}
    command = ("finetune", "test_resnet", "--data", "tree", "--weights", "none", "--image-size", "32", "--epochs", "1")
    code, out, err = imgkit(*command, "--set", "run.workers=0", "--name", "a")
    assert code == 3, err
    assert f"error: {len(bad)} of {len(cases) + 4} images in tree cannot be used:" in err
    assert not (tree.parent / "runs").exists()
    code, out, err = imgkit(*command, "--set", "run.workers=0", "--name", "a", "--on-bad", "skip")
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
