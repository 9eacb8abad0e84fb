"""Several ranks label files as one does: the same rows in the same order, whoever answered which."""

import csv
import io
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path

import pytest
import sklearn.linear_model  # noqa: F401  (imported here so that no fork has to)
import torch
from PIL import Image
from torchrun import command, ends, start, train

from imgkit import predict_ranks
from imgkit.cli import label
from imgkit.inference import WITHIN, Network
from imgkit.predict import Prediction, predictions
from imgkit.predict_ranks import Share

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the name "run", and of pictures with names in no order."""
    folder = tmp_path_factory.mktemp("trained")
    assert train(folder, 1) == [0]
    (folder / "photos").mkdir()
    for number in range(33):
        place = folder / "photos" / f"{number * 7 % 33:02}.png"
        Image.effect_noise((40 + number, 50), 30 + number).convert("RGB").save(place)
    return folder


def rows(
    folder: Path,
    size: int,
    inputs: Sequence[str],
    *more: str,
    place: Path,
    before: Callable[[int], object] = lambda rank: None,
) -> bytes:
    """What so many ranks write."""
    out = place / f"answers-{size}.csv"
    line = ["predict", "run", *inputs, "--runs", str(folder / "runs"), "--out", str(out), "--top-k", "3", *more]
    assert ends(start(place, size, command(line, before))) == [0] * size, (place / "said-0").read_text()
    return out.read_bytes()


@pytest.mark.parametrize("n", [1, 7, 33, 150])
def test_rows_are_those_of_one_process_to_the_last_bit(trained: Path, tmp_path: Path, n: int) -> None:
    """Of paths on rank 0's stdin; by rounds of a batch a rank there are several, and a rank may have none in some."""
    files = sorted((trained / "photos").iterdir())
    given = [str(files[number % len(files)]) for number in range(n)]
    (tmp_path / "paths").write_text("".join(f"{file}\n" for file in given))

    def before(rank: int) -> None:
        write = label._write_rows

        def noted(answers: Iterable[Prediction], *rest: object) -> object:
            """Tables round probabilities."""
            found = list(answers)
            (tmp_path / "bits").write_text("\n".join(str([prob.hex() for prob in one.probs]) for one in found))
            return write(found, *rest)  # type: ignore[arg-type]

        label._write_rows = noted  # type: ignore[assignment]
        predict_ranks.EACH = 1
        os.dup2(os.open(os.devnull if rank else tmp_path / "paths", os.O_RDONLY), 0)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115

    alone = rows(trained, 1, ["-"], "--precision", "float32", place=tmp_path, before=before)
    bits = (tmp_path / "bits").read_text()
    assert [row["path"] for row in read(alone)] == given
    assert len(bits.splitlines()) == n
    for size in (2, 3):
        (tmp_path / "bits").unlink()
        assert rows(trained, size, ["-"], place=tmp_path, before=before) == alone
        assert (tmp_path / "bits").read_text() == bits
        assert "precision: float32, since" in (tmp_path / "said-0").read_text()
        assert (tmp_path / "said-1").read_text() == ""


def test_a_bad_file_is_a_row_whichever_rank_reads_it(trained: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(trained / "photos", photos)
    for name in ("00", "40"):  # of either of two ranks
        (photos / f"{name}.png").write_text("no picture")
    for number in range(33, 40):
        shutil.copy(photos / "05.png", photos / f"{number}.png")
    inputs = [str(photos), str(photos / "gone\udcff.png")]
    alone = rows(trained, 1, inputs, "--precision", "float32", place=tmp_path)
    assert [bool(row["error"]) for row in read(alone)] == [True, *[False] * 39, True, True]
    assert rows(trained, 2, inputs, place=tmp_path) == alone
    assert "3 of 42 files could not be read" in " ".join((tmp_path / "said-0").read_text().split())


@pytest.mark.parametrize("more", [("--conformal", "0.9"), ("--reject-at", "0.5"), ("--format", "jsonl")], ids=str)
def test_what_is_made_of_answers_is_the_same(trained: Path, tmp_path: Path, more: Sequence[str]) -> None:
    inputs = [str(trained / "photos")]
    alone = rows(trained, 1, inputs, "--precision", "float32", *more, place=tmp_path)
    assert rows(trained, 2, inputs, "--precision", "float32", *more, place=tmp_path) == alone


def test_each_file_is_read_by_one_rank_and_no_round_before_its_turn(trained: Path, tmp_path: Path) -> None:
    """Paths are drawn a round at a time, so that memory does not grow with their number."""
    files = sorted((trained / "photos").iterdir())
    (tmp_path / "paths.csv").write_text("path\n" + "".join(f"{files[n % 33]}\n" for n in range(150)))

    def before(rank: int) -> None:
        predict_ranks.EACH = 1
        answers = Share.answers

        def noted(self: Share, some: Sequence[str]) -> object:
            with (tmp_path / f"rounds-{rank}").open("a") as file:
                file.write(f"{len(some)}\n")
            return answers(self, some)

        def read_here(network: object, paths: Iterator[str], *rest: object) -> object:
            given = list(paths)
            with (tmp_path / f"files-{rank}").open("a") as file:
                file.write("".join(f"{path}\n" for path in given))
            return predictions(network, iter(given), *rest)  # type: ignore[arg-type]

        Share.answers = noted  # type: ignore[method-assign,assignment]
        predict_ranks.predictions = read_here  # type: ignore[attr-defined]

    rows(trained, 2, [str(tmp_path / "paths.csv"), "--root", str(files[0].parent)], place=tmp_path, before=before)
    for rank in range(2):
        assert (tmp_path / f"rounds-{rank}").read_text().split() == ["64", "64", "22"]
    read_there = [(tmp_path / f"files-{rank}").read_text().split() for rank in range(2)]
    assert [len(some) for some in read_there] == [86, 64]
    assert sorted(chain(*read_there)) == sorted(str(files[n % 33]) for n in range(150))


@pytest.mark.parametrize(
    ("way", "codes", "told"),
    [
        ("killed", {(5, -9), (143, -9)}, ""),  # the other one notices, or is ended as torchrun does
        ("memory", {(5, 5)}, "Rank 1 of 2: Out of memory"),
        ("asked", {(143, 143)}, ""),
    ],
)
def test_a_rank_that_ends_ends_all_and_nothing_is_written(
    trained: Path, tmp_path: Path, way: str, codes: set[tuple[int, ...]], told: str
) -> None:
    """In the second round, while rank 0 is at work; what another rank said is not lost as torchrun ends rank 0."""

    def before(rank: int) -> None:
        predict_ranks.EACH = 1
        answer, calls = Network.__call__, count()

        def ending(self: Network, *given: object) -> object:
            second = next(calls) == 1
            if second and rank == 0 and way == "memory":
                time.sleep(5)
            elif second and rank == 1:
                if way == "memory":
                    raise torch.OutOfMemoryError("CUDA out of memory")
                os.kill(os.getpid(), signal.SIGKILL if way == "killed" else signal.SIGTERM)
            return answer(self, *given)  # type: ignore[arg-type]

        Network.__call__ = ending  # type: ignore[method-assign,assignment]

    out = tmp_path / "answers.csv"
    line = ["predict", "run", *[str(trained / "photos")] * 5, "--runs", str(trained / "runs"), "--out", str(out)]
    assert tuple(ends(start(tmp_path, 2, command(line, before)), within_s=30)) in codes
    assert told in (tmp_path / "said-0").read_text()
    assert (tmp_path / "said-1").read_text() == ""
    assert not out.exists()


def test_another_format_is_that_of_all_ranks(trained: Path, tmp_path: Path) -> None:
    how, inputs = ("--precision", "bfloat16"), [str(trained / "photos")] * 3
    alone, shared = (read(rows(trained, size, inputs, *how, place=tmp_path)) for size in (1, 2))
    assert [row["path"] for row in shared] == [row["path"] for row in alone]
    for one, other in zip(shared, alone, strict=True):
        assert float(one["prob"]) == pytest.approx(float(other["prob"]), abs=WITHIN[torch.bfloat16])


def test_no_readable_file_is_the_error_it_is_for_one_process(trained: Path, tmp_path: Path) -> None:
    line = ["predict", "run", "gone.png", "--runs", str(trained / "runs"), "--out", str(tmp_path / "a.csv")]
    assert ends(start(tmp_path, 2, command(line))) == [3, 3]
    assert "None of 1 files could be read as an image." in (tmp_path / "said-0").read_text()


def read(table: bytes) -> list[dict[str, str]]:
    """The rows of a CSV."""
    return list(csv.DictReader(io.StringIO(table.decode(errors="surrogateescape"))))
