"""Fixtures of all tests: nothing outside tmp_path, no network, one thread."""

import hashlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from pictures import MakeFolders, TreeHash, square

pytest_plugins = ["tally"]
settings.register_profile("imgkit", deadline=None)  # a busy machine is no fault of what is tested
settings.load_profile("imgkit")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly-minutes", metavar="N", type=float, default=2.0, help="length of each of tests/nightly")


@pytest.fixture(scope="session")
def nightly_minutes(request: pytest.FixtureRequest) -> float:
    """How long a soak or a fuzz may take."""
    return float(request.config.getoption("nightly_minutes"))


@pytest.fixture(scope="session", autouse=True)
def _unplugged() -> Iterator[None]:
    """No waiting for the disk: tests kill processes and never pull the plug, and the system keeps what was written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Ctrl-C is heard, here and by child processes, also where the tests run behind a `nohup` that ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _scanned_here() -> Iterator[None]:
    """Hundreds of scans decode in the tests' own process, which spares each a fork; tests of crashes fork again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imgkit.data.apart.FORKS", False)
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for this run of the tests, the same for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders, one for each test: `mktemp` would look through all that are there for a free one."""
    base = tmp_path_factory.mktemp("caches")
    return (base / str(number) for number in count())


@pytest.fixture(autouse=True)
def _alone(_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = next(_caches)
    cache.mkdir()
    monkeypatch.setenv("IMGKIT_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("IMGKIT_DATA", raising=False)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture
def forked_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of torch are read in a fork, which spares the import of torch that a new process begins with."""
    from forked import read_in_a_fork

    read_in_a_fork(monkeypatch)


@pytest.fixture
def make_folders(tmp_path: Path) -> MakeFolders:
    """Writes `{"train/cat": 5, "val/cat": 2}` as folders with so many coloured PNG squares; returns their root."""

    def make(counts: Mapping[str, int], name: str = "pictures", side_px: int = 16) -> Path:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        codes = {label: code for code, label in enumerate(sorted({folder.split("/")[-1] for folder in counts}))}
        number = 0
        for folder, images in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for row in range(images):
                number += 1
                picture = square(number, code=codes[folder.split("/")[-1]], side_px=side_px)
                picture.save(root / folder / f"{row:04d}.png")
        return root

    return make


@pytest.fixture
def tree_hash() -> TreeHash:
    """SHA-256 over names, bytes and modification times of everything below a folder."""

    def of(root: Path) -> str:
        digest = hashlib.sha256()
        for path in sorted([root, *root.rglob("*")]):
            digest.update(f"{path}\0{path.lstat().st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
            if path.is_file() and not path.is_symlink():
                digest.update(path.read_bytes())
        return digest.hexdigest()

    return of
