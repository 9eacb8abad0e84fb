"""Which shards a text means: a folder, a pattern (`*`, `{00000..00099}`), one tar file, or a URL of these."""

import glob
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from imgkit.data.byte_range import file_system, remote_status, url_of
from imgkit.data.folders import FOLDER_SPLITS
from imgkit.data.rows import EXTENSIONS, absolute, count, is_folder
from imgkit.data.shard_index import Shard
from imgkit.errors import DataError, brief, printable

SUFFIX = ".tar"
_RANGE = re.compile(r"(?P<first>[0-9]+)\.\.(?P<last>[0-9]+)")
_BRACES = re.compile(r"\{(?P<inside>[^{}]*)\}")
_MOST = 1_000_000  # shards that a pattern may mean
_AT_ONCE = 16  # remote files that are asked for
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "https": "aiohttp", "http": "aiohttp", "abfs": "adlfs"}


@dataclass(frozen=True)
class Shards:
    """Shards below a root, by name.

    Attributes:
        root: absolute; of a URL, it as a path, which `byte_range.url_of` reads back.
        shards: in the order of their names.
    """

    root: Path
    shards: tuple[Shard, ...]

    def where(self, name: str) -> str:
        """The path or URL of a file below the root."""
        return url_of(self.root / name) or str(self.root / name)

    def split_of(self, shard: Shard) -> str | None:
        """The split that a shard's folder is called by."""
        first, slash, _ = shard.name.partition("/")
        return FOLDER_SPLITS.get(first) if slash else None


def is_pattern(text: str) -> bool:
    """Whether a text means shards by its form: `*.tar`, `{000..099}.tar`, `x.tar`, or anything behind a URL."""
    return "://" in text or text.endswith(SUFFIX)


def has_shards(folder: Path) -> bool:
    """Whether a folder is one of shards: *.tar in it and no folders; or in train/, beside val/ and test/ perhaps."""
    return bool(_in_folder(folder))


def find_shards(text: str, shown: str) -> Shards:
    """The shards that a text means.

    Raises:
        DataError: if there are none, one is missing, or a URL cannot be read.
    """
    if "://" in text:
        with _reached(text, shown):
            url = url_of(text).rstrip("/")
            urls, scheme = _remote(url, shown), url.split("//")[0]
            folder = None if url.endswith(SUFFIX) else url.removeprefix(scheme)
            root, names = _below([one.removeprefix(scheme) for one in urls], folder)
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                found = list(pool.map(remote_status, urls))
            shards = [Shard(name, *status) for name, status in zip(names, found, strict=True)]
        return _sorted(Path(f"{scheme}{root}"), shards, shown)
    if is_folder(absolute(text)):
        root, names = str(absolute(text)), _in_folder(absolute(text))
    else:
        root, names = _below([str(absolute(one)) for one in _expanded(text, shown)])
    try:
        stats = [(name, Path(root, name).stat()) for name in names]
    except OSError as error:
        raise DataError(
            f"{shown}: a shard is not there: {printable(str(error.filename))}", "See which there are; mend the pattern."
        ) from error
    return _sorted(Path(root), [Shard(name, one.st_size, one.st_mtime_ns) for name, one in stats], shown)


def braces(text: str) -> Iterator[str]:
    """The names that `{000..003}` and `{a,b}` in a text stand for, in order."""
    match = _BRACES.search(text)
    if match is None:
        yield text
        return
    span = _RANGE.fullmatch(match["inside"])
    if span is None:
        inside = iter(match["inside"].split(","))
    else:
        width = len(span["first"])
        inside = (f"{number:0{width}d}" for number in range(int(span["first"]), int(span["last"]) + 1))
    for one in inside:
        yield from braces(f"{text[: match.start()]}{one}{text[match.end() :]}")


def _expanded(text: str, shown: str) -> list[str]:
    found: list[str] = []
    for one in braces(text):
        magic = glob.has_magic(one)
        found += sorted(glob.glob(str(Path(one).expanduser()))) if magic else [one]  # noqa: PTH207
        _check_number(found, shown)
    if not found:
        raise DataError(
            f"No shard is called {shown}.", "A pattern is such as  'shards/*.tar'  or  s-{00000..00099}.tar"
        )
    return found


def _check_number(found: list[str], shown: str) -> None:
    if len(found) > _MOST:
        raise DataError(f"{shown} means more than {count(_MOST, 'shard')}.", "Mend the pattern.")


def _in_folder(folder: Path) -> list[str]:
    """Names of the shards in a folder that is one of shards; else none: where pictures lie beside them, those are."""
    try:
        inside = {entry.name: entry for entry in os.scandir(folder) if not entry.name.startswith(".")}
        own = [name for name, entry in inside.items() if name.endswith(SUFFIX) and entry.is_file()]
        below = [name for name, entry in inside.items() if entry.is_dir()]
        if own:
            return [] if below or any(name.lower().endswith(EXTENSIONS) for name in inside) else own
        if not below or any(FOLDER_SPLITS.get(name) is None for name in below):
            return []
        found = [[f"{one}/{name}" for name in _in_folder(folder / one)] for one in below]
    except OSError:
        return []
    return list(chain.from_iterable(found)) if all(found) else []


def _below(files: list[str], folder: str | None = None) -> tuple[str, list[str]]:
    """The folder that holds all files, or the one given, and their names from there."""
    root = folder or os.path.commonpath([os.path.dirname(file) for file in files] or ["/"])  # noqa: PTH120
    return root, [os.path.relpath(file, root).replace(os.sep, "/") for file in files]


def _remote(url: str, shown: str) -> list[str]:
    """The URLs of the shards that a URL means."""
    found = list[str]()
    for one in braces(url):
        _check_number(found, shown)
        system, path = file_system(one)
        if "*" in path or "?" in path:
            names = [str(name) for name in system.glob(path)]
        elif path.endswith(SUFFIX):
            found.append(one)
            continue
        else:
            names = [str(name) for name in system.find(path, maxdepth=2)]
        found += sorted(url_of(system.unstrip_protocol(name)) for name in names if name.endswith(SUFFIX))
    return found


def _sorted(root: Path, shards: list[Shard], shown: str) -> Shards:
    if not shards:
        raise DataError(f"There is no shard (*.tar) in {shown}.", "Pack some:  imgkit data pack SOURCE --out DIR")
    named = {shard.name: shard for shard in shards}
    return Shards(root, tuple(named[name] for name in sorted(named, key="{}#".format)))


@contextmanager
def _reached(url: str, shown: str) -> Iterator[None]:
    """Tell in one line why a URL cannot be read: each of fsspec's packages has errors of its own."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        package = _PACKAGES.get(url.split(":", maxsplit=1)[0].lower())
        hint = "Check the address, the network and the credentials."
        if isinstance(error, ImportError) and package is not None:
            hint = f"Type:  pip install {package}"
        why = brief(error.__cause__ or error)  # over HTTP the error is but the address, and its cause the reason
        raise DataError(f"{shown} cannot be read: {why or type(error).__name__}.", hint) from error
