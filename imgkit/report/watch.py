"""Keeps a page as new as the files that it is made from, which are looked at every few seconds."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from imgkit.errors import DiskError
from imgkit.report.collect import summarise_run
from imgkit.run import RunFolder

INTERVAL_S = 2.0
_PART = 5  # of the time at most one in so many is spent on making the page
_TEXTS = ("run.json", "status.json", "recipe.toml", "history.jsonl")
_TEXTS_OF_ONE = ("steps.jsonl",)  # too often for a page of many runs


def watch(
    write: Callable[[], object],
    files: Callable[[], Iterable[Path]],
    over: Callable[[], bool],
    *,
    interval_s: float = INTERVAL_S,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Call `write` now and whenever one of `files` changed, until `over` says so; the last change is written, too.

    A page that cannot be made because a file is being replaced is made at the next look.

    Raises:
        DiskError: if the last page cannot be made.
    """
    seen: object = None
    while True:
        ended, stamp, began = over(), _stamp(files()), time.monotonic()  # in this order: the last change is not missed
        if stamp != seen:
            try:
                write()
                seen = stamp
            except DiskError:
                if ended:
                    raise
        if ended:
            return
        sleep(max(interval_s, (_PART - 1) * (time.monotonic() - began)))


def files_of_run(folder: RunFolder) -> Iterator[Path]:
    """The texts that the page of one run is made from."""
    yield from _files(folder.path, (*_TEXTS, *_TEXTS_OF_ONE))


def files_of_runs(out: Path) -> Iterator[Path]:
    """The texts that the page of many runs is made from."""
    for entry in sorted(out.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _files(entry, _TEXTS)


def is_over(folder: RunFolder) -> bool:
    """Whether a run goes on no more: finished, stopped, failed or killed."""
    return not summarise_run(folder).status.startswith("running")


def _files(folder: Path, texts: Iterable[str]) -> Iterator[Path]:
    yield from (folder / name for name in texts)
    yield from (file for file in sorted(folder.glob("evaluations/*/metrics.json")) if file.parent.name[0] != ".")


def _stamp(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    found = []
    for file in files:
        try:
            about = file.stat()
        except OSError:  # not there yet, or not any more
            continue
        found.append((str(file), about.st_mtime_ns, about.st_size))
    return found
