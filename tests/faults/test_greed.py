"""T-X2: a file that asks for far more than it is worth is refused in a second, in little memory, in one line."""

import itertools
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from checkpoints import sample
from forked import answer_of, read_watched, resident_mib
from malice import Make, greedy_json, greedy_safetensors, greedy_torch
from tally import Tally, share

from imgkit import checkpoint
from imgkit.errors import DiskError, ImgkitError
from imgkit.models import tensor_file, torch_reader
from imgkit.models.folder import load_model_folder
from imgkit.models.tensor_file import read_tensors
from imgkit.run import RunFolder

FAMILY = "T-X2"
SAFETENSORS, BY_TORCH, JSON = dict(greedy_safetensors()), dict(greedy_torch()), dict(greedy_json())
MOST_S, MOST_MIB, MOST_CHARACTERS = 1.0, 300.0, 200

pytestmark = pytest.mark.usefixtures("forked_reader")


def cost(
    file_or_read: Path | Callable[[], object], place: Path, peaks: list[float] | None = None
) -> dict[str, float | str]:
    """What reading took of the processor and of memory, and what was said, without the folder.

    A file of torch is read by a process of its own: of that, what it takes beyond one that reads a plain file counts.
    `peaks` is as from `read_watched`.
    """
    read = partial(read_tensors, file_or_read) if isinstance(file_or_read, Path) else file_or_read
    plain = place / "plain.pth"
    torch.save({"a": torch.zeros(1)}, plain)

    def work() -> dict[str, float | str]:
        read_tensors(plain)
        began, said = time.process_time(), ""
        before, usual = resident_mib(), resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            read()
        except ImgkitError as error:
            said = error.message.replace(f"{place}{os.sep}", "")
            said += "" if error.hint else " (and no hint)"
        own, readers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        grown = (readers.ru_maxrss - usual.ru_maxrss) / 1024 if peaks is None else peaks[-1] - peaks[0]
        mib = max(own.ru_maxrss / 1024 - before, grown)
        seconds = time.process_time() - began
        taken = readers.ru_utime + readers.ru_stime - usual.ru_utime - usual.ru_stime
        seconds += max(0.0, taken - usual.ru_utime - usual.ru_stime)
        return {"s": seconds, "mib": mib, "said": said}

    found: dict[str, float | str] = answer_of(work)
    return found


def refused_cheaply(found: dict[str, float | str]) -> bool:
    said, seconds, mib = str(found["said"]), float(found["s"]), float(found["mib"])
    # The system looks at the limit of a reader in hundredths of a second, and ending it takes time, too.
    one_line = 0 < len(said) <= MOST_CHARACTERS and "\n" not in said and "no hint" not in said
    return one_line and seconds <= MOST_S + 0.15 and mib <= MOST_MIB


def count(tally: Tally, found: dict[str, float | str]) -> None:
    tally.count(FAMILY, files=1, refused=1)
    tally.most(FAMILY, most_s=round(float(found["s"]), 2), most_mib=round(float(found["mib"])))


@pytest.mark.parametrize("kind", SAFETENSORS)
def test_greedy_safetensors(tmp_path: Path, tally: Tally, kind: str) -> None:
    file = tmp_path / "w.safetensors"
    SAFETENSORS[kind](file)
    found = cost(file, tmp_path)
    assert refused_cheaply(found), found
    assert str(found["said"]).startswith("w.safetensors is not a readable safetensors file: ")
    count(tally, found)


@pytest.mark.parametrize("kind", share(BY_TORCH, ["a large view", "bytearray", "hash without end"]))
def test_greedy_files_of_torch(
    tmp_path: Path, tally: Tally, whole: bool, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """In the campaign by the process that users get, which imports torch first, else in a fork."""
    peaks = read_watched(monkeypatch) if whole else None
    file = tmp_path / "w.pth"
    BY_TORCH[kind](file)
    found = cost(file, tmp_path, peaks)
    assert refused_cheaply(found), found
    assert str(found["said"]).startswith("w.pth ")
    count(tally, found)


def sealed(place: Path, name: str, make: Make) -> None:
    """A checkpoint with a file of the attacker's, and a manifest that is right about it."""
    file = place / name
    file.unlink()
    make(file)
    if file.is_file() and file.stat().st_size:
        files = {}
        for each in checkpoint._FILES:
            content = (place / each).read_bytes()
            files[each] = {"size": len(content), "sha256": checkpoint.hashlib.sha256(content).hexdigest()}
        (place / "MANIFEST.json").write_bytes(checkpoint._manifest(2, files))


def in_a_checkpoint(name: str, place: Path, make: Make) -> Callable[[], object]:
    newest = checkpoint.save(place / "checkpoints", sample(2), keep=1, best=None)
    if name == "MANIFEST.json":
        (newest / name).unlink()
        make(newest / name)
    else:
        sealed(newest, name, make)
    return partial(checkpoint.read, place / "checkpoints", 2)


def in_a_run(name: str, place: Path, make: Make) -> Callable[[], object]:
    make(place / name)
    return partial(RunFolder(place).read_json, name)


def in_a_model(place: Path, make: Make) -> Callable[[], object]:
    make(place / "config.json")
    return partial(load_model_folder, place)


def texts() -> Iterator[tuple[str, Callable[[Path], Callable[[], object]]]]:
    for (kind, make), where in itertools.product(JSON.items(), ("MANIFEST.json", "state.json", "run.json", "model")):
        if where == "run.json":
            yield f"{kind} in run.json", partial(in_a_run, "run.json", make=make)
        elif where == "model":
            yield f"{kind} in model/config.json", partial(in_a_model, make=make)
        elif where == "MANIFEST.json" or kind != "endless device":  # whose hash nobody could give
            yield f"{kind} in {where}", partial(in_a_checkpoint, where, make=make)


TEXTS = dict(texts())


@pytest.mark.parametrize("kind", share(TEXTS, [kind for kind in TEXTS if "deep lists" in kind or "pipe" in kind]))
def test_greedy_texts(tmp_path: Path, tally: Tally, kind: str) -> None:
    found = cost(TEXTS[kind](tmp_path), tmp_path)
    assert refused_cheaply(found), found
    count(tally, found)


@pytest.mark.parametrize("name", share(["model.safetensors", "train.safetensors"], ["model.safetensors"]))
def test_greedy_tensors_in_a_checkpoint(tmp_path: Path, tally: Tally, whole: bool, name: str) -> None:
    for kind, make in itertools.islice(SAFETENSORS.items(), 0, None, 1 if whole else 4):
        shutil.rmtree(tmp_path, ignore_errors=True)
        tmp_path.mkdir()
        found = cost(in_a_checkpoint(name, tmp_path, make), tmp_path)
        assert refused_cheaply(found), (kind, found)
        count(tally, found)


def test_plain_files_are_within_the_bounds(tmp_path: Path) -> None:
    """What imgkit and torch write themselves is not refused: a state dict with shared tensors, a large optimizer."""
    shared = torch.randn(3, 5)
    content = {"a": shared, "b": shared, "c": torch.arange(6).reshape(2, 3).T, "d": torch.tensor(True)}
    torch.save(content, tmp_path / "w.pth")
    found = read_tensors(tmp_path / "w.pth")
    assert list(found) == list(content)
    assert all(torch.equal(found[name], content[name]) for name in content)
    wide = {f"block.{n}.{name}.{'x' * 60}": torch.zeros(1) for n in range(1000) for name in "abcdefghijklmno"}
    checkpoint.save(tmp_path, checkpoint.Checkpoint(1, wide, wide, {}), keep=1, best=None)
    assert len(checkpoint.read(tmp_path, 1).train) == 15_000


# What protects, taken away: the checks above must notice.


@pytest.mark.parametrize(
    "what", share(["memory", "time", "header", "depth of JSON", "plain files"], ["depth of JSON", "plain files"])
)
def test_the_check_notices_what_is_missing(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    read: Path | Callable[[], object]
    peaks = None
    if what in {"memory", "time"}:
        peaks = read_watched(monkeypatch)
        monkeypatch.setattr(tensor_file, "_SECONDS", 2.5)
        monkeypatch.setattr(tensor_file, "_MEMORY", 8 << 30)
        BY_TORCH["bomb" if what == "memory" else "hash without end"](tmp_path / "w.pth")
        read = tmp_path / "w.pth"
    elif what == "header":
        monkeypatch.setattr(tensor_file, "check_tensors", lambda file: None)
        SAFETENSORS["60,000 tensors"](tmp_path / "w.safetensors")
        read = tmp_path / "w.safetensors"
    elif what == "depth of JSON":
        monkeypatch.setattr("imgkit.run.read_json", lambda file: checkpoint.json.loads(file.read_bytes()))
        read = partial(telling, in_a_run("run.json", tmp_path, JSON["deep lists"]))
    else:
        monkeypatch.setattr("imgkit.run.read_json", lambda file: file.open("rb").read(400 << 20))
        read = in_a_run("run.json", tmp_path, JSON["endless device"])
    assert not refused_cheaply(cost(read, tmp_path, peaks))
    tally.count("mutants", caught=1, escaped=0)


def telling(read: Callable[[], object]) -> None:
    """A traceback told as such."""
    try:
        read()
    except DiskError:
        raise
    except Exception as error:
        raise ImgkitError(f"Traceback:\n{type(error).__name__}") from error


def test_the_limits_are_of_the_reader_alone() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert answer_of(lambda: torch_reader.limit(5.0, 1 << 30)) is None
    assert resource.getrlimit(resource.RLIMIT_AS) == before
