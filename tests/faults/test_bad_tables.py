"""T-D: tables and trees with a mistake are refused in one line that names it, or read right and what is odd is told."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from bad_tables import GOOD, ODD, REFUSED, TREE, Odd, pictures, rows
from cli_run import Run
from tally import Tally

from imgkit.data import csv_table
from imgkit.data.facts import Facts, FileFacts, ScanReport
from imgkit.data.load import load_data
from imgkit.errors import DataError
from imgkit.recipe.schema import DataSettings

pytest_plugins = ["cli_fixture"]

FAMILY = "T-D tables"
TRAIN = ("scratch", "test_resnet", "--image-size", "32", "--epochs", "1", "--set", "run.workers=0")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    pictures(tmp_path, *GOOD)


def not_refused(imgkit: Run, kind: str) -> Iterator[str]:
    """What is not as promised of data that cannot be used, whatever is to be done about bad files."""
    make, said = REFUSED[kind]
    make(Path.cwd())
    data = "labels.csv" if Path("labels.csv").exists() else "tree"
    for on_bad in ("stop", "skip"):
        code, out, err = imgkit(*TRAIN, "--data", data, "--on-bad", on_bad)
        told, *hint = err.partition("error: ")[2].splitlines() or [""]
        if code != 3 or "Traceback" in out + err or Path("runs").exists():
            yield f"{on_bad}: {code} {out} {err}"
        if not re.search(said, told) or data not in f"{told} {hint}":
            yield f"{on_bad}: {told!r}, not {said!r}"
        if not hint or not all(line.startswith("  ") for line in hint):
            yield f"{on_bad}: {hint}, no hint"


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(imgkit: Run, tally: Tally, kind: str) -> None:
    wrong = list(not_refused(imgkit, kind))
    assert not wrong
    tally.count(FAMILY, cases=1, refused=1, untold=len(wrong))


def misread(case: Odd) -> Iterator[str]:
    """What is not as promised of data that can be used."""
    case.make(Path.cwd())
    data = load_data(DataSettings(path=case.of, on_bad="skip"))
    index = data.index
    labels = {index.paths[row]: index.classes[code] for row, code in enumerate(index.labels())}
    if labels != dict(case.labels):
        yield f"read {labels}"
    texts = [*data.notes, *data.warnings]
    if case.said and [case.said in text for text in texts].count(True) != 1:
        yield f"said {texts}, not once {case.said!r}"


@pytest.mark.parametrize("kind", ODD)
def test_read_right(tally: Tally, kind: str) -> None:
    wrong = list(misread(ODD[kind]))
    assert not wrong
    tally.count(FAMILY, cases=1, read=1, untold=len(wrong))


def test_nothing_is_left(tally: Tally) -> None:
    for name in GOOD:
        Path(name).write_bytes(b"")
    Path("labels.csv").write_text(rows())
    with pytest.raises(DataError, match=r"^No usable image is left in labels.csv.\n4 of 4 images") as caught:
        load_data(DataSettings(path="labels.csv", on_bad="skip"))
    told = str(caught.value).splitlines()
    assert [line for line in told if "empty file (0 bytes)" in line] == [
        f"  {name}: empty file (0 bytes)" for name in GOOD
    ]
    tally.count(FAMILY, cases=1, refused=1)


@pytest.mark.campaign
def test_fewer_pictures_than_a_batch(imgkit: Run, tally: Tally) -> None:
    pictures(Path("tree"), *(f"{split}/{name}" for split in ("train", "val") for name in TREE))
    code, out, err = imgkit(*TRAIN, "--data", "tree", "--batch-size", "64")
    assert code == 0, out + err
    tally.count(FAMILY, cases=1, read=1)


@pytest.mark.campaign
def test_more_classes_than_16_bits_count(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {f"{number:05d}.png": f"class {number:05d}" for number in range(65_600)}
    Path("labels.csv").write_text(rows(lines))

    def scan(files: Sequence[str], **_: object) -> ScanReport:
        """As of 65,600 pictures of one pixel, which are not there."""
        facts = Facts(len(files))
        for row in range(len(files)):
            facts.put(row, FileFacts(1, f"{row:064x}", "PNG", "RGB", 1, 1, False))
        return ScanReport(facts, ())

    monkeypatch.setattr("imgkit.data.load.scan", scan)
    index = load_data(DataSettings(path="labels.csv", val=0.0, on_bad="skip")).index
    assert index.classes == tuple(lines.values())
    assert {index.paths[row]: index.classes[code] for row, code in enumerate(index.labels())} == lines
    tally.count(FAMILY, cases=1, read=1)


# What protects, taken away: the checks above must notice.


@pytest.mark.parametrize("what", ["links", "root", "two labels", "likeness"])
def test_the_check_notices_what_is_missing(
    imgkit: Run, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "links":
        monkeypatch.setattr("imgkit.data.folders._enter", lambda *_: True)
        try:
            wrong = list(misread(ODD["link upwards"]))
        except DataError as error:  # the data are refused that have to be read
            wrong = [error.message]
    elif what == "root":
        monkeypatch.setattr(csv_table.Paths, "relative", lambda self, cell, row: cell)
        wrong = list(not_refused(imgkit, "upwards"))
    elif what == "two labels":
        monkeypatch.setattr(csv_table, "_compare", lambda *_: None)
        wrong = list(not_refused(imgkit, "two labels"))
    else:
        monkeypatch.setattr("imgkit.data.load.name_warnings", lambda index: [])
        wrong = list(misread(ODD["accents in two forms"]))
    assert wrong
    tally.count("mutants", caught=1, escaped=0)
