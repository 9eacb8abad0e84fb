"""Looks at many pictures: in one process a core, remembered by path, size and modification time."""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgkit import machine
from imgkit.data.apart import Apart
from imgkit.data.byte_range import Status, status
from imgkit.data.decode import load_image
from imgkit.data.facts import Facts, ScanReport
from imgkit.data.look import LOOK, look, pixel_hash
from imgkit.data.scan import Examined, FactCache, crashed, examine
from imgkit.errors import BadImage

Looks = npt.NDArray[np.void]
"""(n,) of LOOK."""
_CHUNK = 128  # files that a process looks at between two reports of progress
_MOST_AT_ONCE = 8192  # SQLite takes 32,766 names in one question
_NOTHING = bytes(LOOK.itemsize)


def look_at(
    files: Collection[str], *, max_pixels: int, progress: Callable[[int, int], None] | None = None
) -> tuple[Looks, ScanReport]:
    """Scan every file, and look at it: what `scan` gives, and remembers for the next one, and looks.

    Args:
        files: absolute paths.
        max_pixels: see `load_image`.
        progress: called with (files done, files in all).

    Returns:
        (n,) of LOOK, where a file that cannot be used as a picture is not `known`, and the report of the scan.
    """
    found: Looks = np.zeros(len(files), dtype=LOOK)
    facts, bad = Facts(len(files)), list[BadImage]()
    left, done = iter(files), 0
    work, processes = partial(examine, max_pixels=max_pixels, looked=look), machine.cores()
    with closing(FactCache()) as cache, ExitStack() as stack:
        beside = [stack.enter_context(Apart(work, crashed, 1)) for _ in range(processes)]
        pool = stack.enter_context(ThreadPoolExecutor(processes))
        while chunk := list(islice(left, min(_CHUNK * processes, _MOST_AT_ONCE))):
            known = cache.seen(chunk, max_pixels)
            new = [file for file in chunk if file not in known]
            for one in beside if new else ():
                one.start()
            parts = [new[number::processes] for number in range(processes)]
            answers = dict[str, Examined | BadImage]()
            for part, their in zip(parts, pool.map(Apart.map, beside, parts), strict=True):
                answers.update(zip(part, their, strict=True))
            good = {file: one for file, one in answers.items() if isinstance(one, Examined)}
            cache.put(good, max_pixels)
            cache.put_looks({file: (one.mtime_ns, one.facts.size, one.look) for file, one in good.items()}, max_pixels)
            known.update((file, (one.facts, one.look)) for file, one in good.items())
            bad += [answer for file in new if isinstance(answer := answers[file], BadImage)]
            for row, file in enumerate(chunk, done):
                if file in known:
                    facts.put(row, known[file][0])
            told = b"".join(known[file][1] if file in known else _NOTHING for file in chunk)
            found[done : done + len(chunk)] = np.frombuffer(told, dtype=LOOK)
            done += len(chunk)
            if progress is not None:
                progress(done, len(files))
    return found, ScanReport(facts, tuple(bad))


def read_whole(files: Iterable[str], looks: Looks, *, max_pixels: int) -> Looks:
    """The looks at `files`, with the hashes of all their pixels; those of JPEGs are decoded again, in full.

    A file that can no longer be read keeps its look.
    """
    changed = looks.copy()
    rows = np.flatnonzero(looks["known"] & ~looks["whole"])
    names = list(files)
    there = dict[str, Status]()
    for row in rows:
        with suppress(OSError, ValueError):
            there[names[row]] = status(names[row])
    hashes = partial(_hash, max_pixels=max_pixels)
    with closing(FactCache()) as cache, ThreadPoolExecutor(machine.cores()) as pool:
        for row, pixels in zip(rows, pool.map(hashes, [names[row] for row in rows]), strict=True):
            if pixels is not None and names[row] in there:
                changed["pixels"][row] = np.frombuffer(pixels, dtype=np.uint8)
                changed["whole"][row] = True
        content = {
            names[row]: (there[names[row]].mtime_ns, there[names[row]].size, changed[row].tobytes())
            for row in rows
            if changed["whole"][row]
        }
        cache.put_looks(content, max_pixels)
    return changed


def _hash(file: str, max_pixels: int) -> bytes | None:
    try:
        return pixel_hash(load_image(Path(file), max_pixels=max_pixels))
    except BadImage:
        return None
