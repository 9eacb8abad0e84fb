"""Features on disk, beside the scan's cache: what a trunk said of a picture once is not computed again.

    $IMGKIT_CACHE/features/TRUNK/NAME.safetensors     some rows of it; NAME is the hash of the file's content

TRUNK names all that the rows have in common (weights, preprocessing, versions, machine), a row's own name what sets it
apart (the picture's bytes, its augmentation). Files are written whole and never changed: a kill costs the rows that
were not written yet, any number of runs may read and write at once, and a file that is not what its name says is not
used.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from imgkit.cache import NAME_BYTES, content_name, limit_bytes, make_room, store_folder
from imgkit.files import replace_bytes, sweep

Rows = npt.NDArray[np.float32]
Compute = Callable[[Sequence[int]], Iterator[Rows]]
"""Takes places (n,), ascending; gives their rows in that order, some (m, D) at a time."""

_TOGETHER = 1024  # rows a file: ten seconds of a small network on two cores, and 5 MB of 1,280 features
_OPEN = 4  # files whose rows are in memory at once; they are asked for in the order in which they were written
_GIVEN = 32  # rows given at a time


def name_of(*parts: bytes) -> bytes:
    """The name of a row, of all that sets it apart from the others of its trunk."""
    digest = hashlib.blake2b(digest_size=NAME_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


class FeatureStore:
    """The rows of one trunk.

    Attributes:
        folder: where they are.
        unkept: why new rows are not kept, in words; empty while they are.

    Args:
        about: all that the rows have in common, as JSON; with another value it is another store.

    Raises:
        UsageError: if the limit is no size.
    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        self._limit = limit_bytes()
        self.folder = store_folder("features", about)
        self.unkept = ""
        self._places: dict[bytes, tuple[Path, int]] = {}
        self._rows_of = lru_cache(maxsize=_OPEN)(_rows_of)
        with suppress(OSError):
            sweep(self.folder)
            for file in sorted(self.folder.glob("*.safetensors")):
                self._places |= {name: (file, row) for row, name in enumerate(_names_of(file))}
            os.utime(self.folder)  # `make_room` removes what was not used for longest

    def __contains__(self, name: bytes) -> bool:
        return name in self._places

    def rows(self, names: Sequence[bytes], compute: Compute, width: int) -> Iterator[Rows]:
        """The rows of `names` in their order, some (m, D) at a time: from here, or else computed and kept.

        A disk that says no ends the keeping, not the computing: see `unkept`.

        Args:
            names: of the rows, (n,).
            compute: gives the rows that are not here.
            width: D, features a row.
        """
        here = [self._places.get(name) for name in names]
        missing = [place for place, found in enumerate(here) if found is None]
        self.unkept = make_room(self.folder, len(missing) * (width * 4 + NAME_BYTES), self._limit) or self.unkept
        with closing(self._computed(names, missing, compute)) as computed:
            for start in range(0, len(names), _GIVEN):
                found = here[start : start + _GIVEN]
                yield np.stack([next(computed) if at is None else self._rows_of(at[0])[at[1]] for at in found])

    def _computed(self, names: Sequence[bytes], missing: Sequence[int], compute: Compute) -> Generator[Rows]:
        """Each row (D,) of the places that are missing; what is at hand when this ends, however it ends, is kept."""
        waiting: list[tuple[bytes, Rows]] = []
        places = iter(missing)
        try:
            for rows in compute(missing) if missing else ():
                for row in rows:
                    waiting.append((names[next(places)], row))
                    yield row
                    if len(waiting) == _TOGETHER:
                        self._keep(waiting)
                        waiting = []
        finally:
            self._keep(waiting)

    def _keep(self, rows: Sequence[tuple[bytes, Rows]]) -> None:
        new = {name: row for name, row in rows if name not in self._places}
        if self.unkept or not new:
            return
        names = np.frombuffer(b"".join(new), np.uint8).reshape(-1, NAME_BYTES)
        content = save({"names": names, "values": np.stack(list(new.values()))})
        file = self.folder / f"{content_name(content)}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_bytes(file, content)
        except OSError as error:
            self.unkept = f"{self.folder}: {error.strerror or error}"
            return
        self._places |= {name: (file, row) for row, name in enumerate(new)}


def _names_of(file: Path) -> list[bytes]:
    """The names of a file's rows; none of one that is damaged, which is removed."""
    try:
        if content_name(file.read_bytes()) == file.stem:
            with safe_open(file, "np") as rows:
                return [name.tobytes() for name in rows.get_tensor("names")]
        file.unlink()
    except (OSError, SafetensorError):
        pass
    return []


def _rows_of(file: Path) -> Rows:
    """All rows of a file, float32 (n, D)."""
    with safe_open(file, "np") as rows:
        found: Rows = rows.get_tensor("values")
    return found
