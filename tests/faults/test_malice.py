"""T-X1: a file that would run code is refused, and none of its code is run."""

import builtins
import itertools
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import sample
from forked import answer_of
from malice import Call, containers, entry, payloads, tensors_file, unpickle_all
from oracle import short_run
from PIL import Image
from tally import Tally, share

import imgkit
from imgkit import checkpoint
from imgkit.errors import ImgkitError, WeightsError
from imgkit.models import tensor_file, torch_reader
from imgkit.models.tensor_file import read_tensors
from imgkit.report.collect import collect

FAMILY = "T-X1"
# What Python's auditing calls the ways out of a pickle; an import or code that is run is looked at by its place.
WAYS_OUT = ("os.", "subprocess.", "pty.", "shutil.", "socket.", "urllib.", "pickle.", "ctypes.", "webbrowser.")
HARMLESS = {"os.listdir", "os.scandir", "os.stat", "os.getxattr", "pickle.load"}

pytestmark = pytest.mark.usefixtures("forked_reader")


class Watch:
    """What a process does, by Python's own auditing: it cannot be switched off, so it is used in forks alone."""

    def __init__(self, place: Path) -> None:
        self.place, self.armed, self.seen = str(place), False, list[str]()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.armed:
            return
        if event == "exec":
            file = getattr(arguments[0], "co_filename", "<text>")
            if not file.startswith((sys.prefix, sys.base_prefix, "<frozen", str(Path(imgkit.__file__).parent))):
                self.seen.append(f"exec of {file}")
        elif event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            if writes and self.place in str(path):
                self.seen.append(f"open of {path} as {mode}")
        elif event.startswith(WAYS_OUT) and event not in HARMLESS:
            self.seen.append(event)


def watched(place: Path, work: Callable[[], int]) -> dict[str, int]:
    """What `work` counts as refused, in a fork, and how much was run in the meantime."""

    def armed() -> dict[str, object]:
        watch = Watch(place)
        watch.armed = True
        refused = work()
        watch.armed = False
        return {"refused": refused, "seen": watch.seen}

    found = answer_of(armed)
    canaries = [str(file) for file in place.rglob("canary*")]
    return {"refused": found["refused"], "executions": len(found["seen"]) + len(canaries)}


def refusals(files: list[Path], read: Callable[[Path], object]) -> int:
    """How many are refused as weights, in one line that names the file."""
    refused = 0
    for file in files:
        try:
            read(file)
        except WeightsError as error:
            refused += str(file) in error.message and "\n" not in error.message and bool(error.hint)
    return refused


def read_here(file: Path) -> object:
    """As `read_tensors`, with torch's reader in this process, where it is watched."""
    return read_tensors(file, trusted=True)


def build(place: Path, kinds: list[str]) -> list[Path]:
    """A file of each container for each payload; `canary` would be made beside them."""
    files = []
    (place / "hubconf.py").write_text(f"def touch():\n    open({str(place / 'canary')!r}, 'w').close()\n")
    for payload, container in itertools.product(kinds, containers()):
        file = place / f"{payload}-{container}"
        containers()[container](file, payloads(place / "canary")[payload])
        files.append(file)
    return files


def test_nothing_is_run_of_weights(tmp_path: Path, tally: Tally, whole: bool) -> None:
    kinds = list(payloads(tmp_path))
    assert len(kinds) >= 10
    files = build(tmp_path, kinds if whole else kinds[::4])
    read_here_once(tmp_path)
    counts = watched(tmp_path, lambda: refusals(files, read_here))
    assert counts == {"refused": len(files), "executions": 0}
    tally.count(FAMILY, files=len(files), **counts)


def read_here_once(place: Path) -> None:
    """What torch imports as it refuses a file for the first time is none of that file's."""
    (place / "once").mkdir()
    refusals(build(place / "once", ["open"]), read_here)
    shutil.rmtree(place / "once")


def test_nothing_is_run_by_the_reader_of_its_own(tmp_path: Path, tally: Tally, whole: bool) -> None:
    """The way that users go; what happens in the reader is seen by what it leaves."""
    kinds = list(payloads(tmp_path))
    files = build(tmp_path, kinds if whole else kinds[:1])
    assert refusals(files, read_tensors) == len(files)
    assert list(tmp_path.glob("canary*")) == []
    tally.count(FAMILY, files=len(files), refused=len(files), executions=0)


def test_metadata_are_only_text(tmp_path: Path, tally: Tally) -> None:
    """Names and metadata that look like paths, addresses or code are names and metadata."""
    strange = ["../../etc/passwd", "/dev/zero", "file:///etc/passwd", "__import__('os').system('true')", "${HOME}"]
    header: dict[str, object] = {name: entry([1], 4 * n, 4 * n + 4) for n, name in enumerate(strange)}
    header["__metadata__"] = dict.fromkeys(strange, "https://example.org/x.pth")
    file = tmp_path / "w.safetensors"
    file.write_bytes(tensors_file(header, bytes(4 * len(strange))))
    counts = watched(tmp_path, lambda: set(read_tensors(file)) == set(strange))
    assert counts == {"refused": True, "executions": 0}
    tally.count(FAMILY, files=1, executions=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two steps and its data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return short_run(tmp_path_factory.mktemp("whole"), "phases.all.epochs=1").folder.path


CODE = "import os\nopen(os.environ['CANARY'], 'w').close()\n"
# Modules that imgkit, torch or Python import at some time, and files that tools run by themselves.
MODULES = tuple(
    f"{name}.py" for name in ("torch", "random", "numpy", "sitecustomize", "conftest", "hubconf", "__init__")
)


def poison(place: Path, call: Call) -> int:
    """Put pickles and code everywhere into a run's folder; returns how many files."""
    pickled, before = pickle.dumps(call), len(list(place.rglob("*")))
    for folder in (place, place / "model", place / "checkpoints", place / "plugins", place / "data"):
        folder.mkdir(exist_ok=True)
        for name in MODULES:
            (folder / name).write_text(CODE)
        for name in ("model.pth", "pytorch_model.bin", "optimizer.pt", "state.pkl", "model.pt2"):
            (folder / name).write_bytes(pickled)
    return len(list(place.rglob("*"))) - before


def use(place: Path, picture: Path) -> int:
    """What one does with a run that someone gave; 1 if all of it worked."""
    (given,) = collect(place.parent)
    (answer,) = imgkit.open_run("run", place.parent).predict(picture, device="cpu")
    found = checkpoint.load(place / "checkpoints", lambda text: None)
    assert (given.name, answer.error, found is not None) == ("run", "", True)
    return 1


def test_nothing_is_run_of_a_runs_folder(
    tmp_path: Path, run: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "runs" / "run"
    shutil.copytree(run, place)
    Image.new("RGB", (32, 32)).save(tmp_path / "picture.png")
    monkeypatch.setenv("CANARY", str(tmp_path / "canary"))
    monkeypatch.chdir(place)
    use(place, tmp_path / "picture.png")  # what Python imports at first is none of the folder's
    files = poison(place, payloads(tmp_path / "canary")["os.system"])
    counts = watched(tmp_path / "nowhere", lambda: use(place, tmp_path / "picture.png"))
    assert counts == {"refused": 1, "executions": 0}
    assert not (tmp_path / "canary").exists()
    tally.count(FAMILY, files=files, executions=0)


@pytest.mark.parametrize("name", ["model.safetensors", "train.safetensors", "state.json", "MANIFEST.json"])
def test_a_pickle_in_place_of_a_checkpoints_file(tmp_path: Path, tally: Tally, name: str) -> None:
    """With a manifest that is right about it."""
    newest = checkpoint.save(tmp_path / "checkpoints", sample(2), keep=1, best=None)
    call = payloads(tmp_path / "canary")["exec"]
    files = {}
    for each in checkpoint._FILES:
        content = pickle.dumps(call) if each == name else (newest / each).read_bytes()
        (newest / each).write_bytes(content)
        files[each] = {"size": len(content), "sha256": checkpoint.hashlib.sha256(content).hexdigest()}
    manifest = pickle.dumps(call) if name == "MANIFEST.json" else checkpoint._manifest(2, files)
    (newest / "MANIFEST.json").write_bytes(manifest)

    def read() -> int:
        try:
            checkpoint.read(tmp_path / "checkpoints", 2)
        except ImgkitError as error:
            return int("\n" not in error.message)
        return 0

    assert watched(tmp_path, read) == {"refused": 1, "executions": 0}
    tally.count(FAMILY, files=1, refused=1, executions=0)


@pytest.mark.campaign
def test_the_folder_that_the_user_is_in_lends_no_module(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cd someones_run; imgkit …`: the reader is a new Python, which would look there first."""
    monkeypatch.undo()
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    for name in MODULES:
        (tmp_path / name).write_text(CODE)
    with monkeypatch.context() as patch:
        patch.setenv("CANARY", str(tmp_path / "canary"))
        patch.chdir(tmp_path)
        assert list(read_tensors(Path("w.pth"))) == ["a"]
        assert not (tmp_path / "canary").exists()
        tally.count(FAMILY, files=len(MODULES), executions=0)
        # Without -P it would have been, for a module that is run as `-m`.
        os.system(f"{sys.executable} -m random > /dev/null 2>&1")  # noqa: S605  (the test's own command)
        assert (tmp_path / "canary").exists()


# What protects, taken away: the checks above must notice.


@pytest.mark.parametrize("what", share(["weights_only", "a list of functions", "safetensors"], ["weights_only"]))
def test_the_check_notices_what_is_missing(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    kinds = ["exec"]
    if what == "weights_only":
        monkeypatch.setattr(torch_reader, "_load", unpickle_all)
    elif what == "a list of functions":
        torch.serialization.add_safe_globals([builtins.exec])
    else:
        monkeypatch.setattr(tensor_file, "load_file", lambda file: pickle.loads(file.read_bytes()))  # noqa: S301
        monkeypatch.setattr(tensor_file, "check_tensors", lambda file: None)
    files = build(tmp_path, kinds)
    try:
        counts = watched(tmp_path, lambda: refusals(files, telling))
    finally:
        torch.serialization.clear_safe_globals()
    assert counts["executions"] > 0
    assert counts["refused"] <= len(files)
    tally.count("mutants", caught=1, escaped=0)


def telling(file: Path) -> object:
    """Whatever a reader without protection stumbles over is no traceback of this test."""
    try:
        return read_here(file)
    except WeightsError:
        raise
    except Exception:
        return None


def test_the_watch_sees_what_a_pickle_does(tmp_path: Path) -> None:
    """Each payload, unpickled without any protection in a fork, is seen: else the zeros above would mean nothing."""
    for name, call in payloads(tmp_path / "canary").items():
        if name in {"import", "hub", "pty", "collect_env"}:  # these ask for a browser, a network, a terminal
            continue

        def careless(call: Call = call) -> int:
            try:
                pickle.loads(pickle.dumps(call))  # noqa: S301
            except Exception:
                return 0
            return 1

        counts = watched(tmp_path, careless)
        assert counts["executions"] > 0, name
        (tmp_path / "canary").unlink(missing_ok=True)
