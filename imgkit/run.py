"""The run folder: what was asked, what happened, what came out, as text.

The layout is described in docs/run-folder.md. Nothing here knows tensors.
"""

import json
import os
import re
import secrets
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from imgkit.bounds import read_json
from imgkit.data.rows import exists
from imgkit.errors import DiskError, UsageError, disk_told, printable
from imgkit.files import is_leftover, neighbour, remove, sweep, sync, whole_file
from imgkit.run_names import is_run, latest_run, no_such_run

State = Literal["running", "finished", "stopped", "failed"]
_SAFE = re.compile(r"[^A-Za-z0-9_.]+")
_DRAFT = re.compile(r"^\.(.+)\.tmp-[0-9a-f]+-[0-9a-f]+$")
_PARTS = ("", "data", "checkpoints", "evaluations")
_HEARTBEAT_S = 5.0
_LOCK_S = 0.5  # in which a process that has just taken the lock says who it is
SCHEMA = 1
"""The form of run.json."""
MODEL_FILES = ("config.json", "model.safetensors", "preprocessing.json", "calibration.json")
DAMAGED = "Files of a run are written by imgkit alone: put back a copy, or remove the run's folder."
_DRAWS = 9  # of a hundred names of one instant two are alike every 14th time, so that another is drawn
_TAKEN = frozenset({"latest", "report.html", "report.md", "leaderboard.csv"})  # files beside runs
_ELSEWHERE = "Choose another folder: --out"


class RunFolder:
    """One run's folder.

    Args:
        path: the folder, which exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last_beat = 0.0

    @property
    def name(self) -> str:
        """The folder's name, which every command accepts; of a new one, the name that it will get."""
        draft = _DRAFT.match(self.path.name)
        return draft[1] if draft else self.path.name

    @property
    def address(self) -> str:
        """What means this run from here: its name where it lies in runs/, else its path. Not quoted for a shell."""
        return self.name if self.path.parent == Path("runs") else str(self.path)

    @classmethod
    @contextmanager
    def create(cls, out: Path, *, verb: str, model: str, data: str, name: str | None = None) -> Iterator["RunFolder"]:
        """Make a new folder under `out`, hidden while the block fills it; at the end of the block it gets its name.

        A kill before that leaves the name free. Two runs started at once never share a folder. Hidden leftovers of
        starts that were killed over a day ago are removed.

        Raises:
            UsageError: if `name` is taken or cannot be a folder's name.
            DiskError: if the folder cannot be made.
        """
        check_place(out, name)
        place = out / (name or _fresh_name(out, verb, model, data))
        folder = cls(neighbour(place))
        try:
            with _made(place):
                out.mkdir(parents=True, exist_ok=True)
                sweep(out)
                for part in _PARTS:
                    (folder.path / part).mkdir()
            yield folder
            with _made(place):
                for part in _PARTS:  # else a power cut could leave the run's name, and its files without theirs
                    sync(folder.path / part)
                _name(folder.path, place)
                sync(out)
                sync(out.absolute().parent)
        except BaseException:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
        folder.path = place

    @property
    def is_latest(self) -> bool:
        """Whether "latest" means this run to a command typed here."""
        pointer = Path("runs") / "latest"
        return self.address == self.name and pointer.is_file() and pointer.read_text().strip() == self.name

    @property
    def has_model(self) -> bool:
        """Whether the files of `model/` are there that are needed to use it."""
        return all((self.path / "model" / name).is_file() for name in MODEL_FILES)

    def without_model(self) -> UsageError:
        """What to say where a model is asked for and there is none: a run that goes on cannot be resumed."""
        status = self.read_json("status.json") if (self.path / "status.json").is_file() else None
        called = shlex.quote(self.address)
        if status is not None and goes_on(status):
            gone = "" if status["host"] == socket.gethostname() else f"   If it is gone:  imgkit resume {called}"
            return UsageError(
                f"{self.name} is still running (process {status['pid']} on {status['host']}), at step "
                f"{status['step']:,} of {status['total_steps']:,}: it has a model once it has ended.",
                f"Wait for it; to follow it:  imgkit report {called} --watch{gone}",
            )
        return UsageError(f"{self.name} has no finished model yet.", f"Finish it: imgkit resume {called}")

    def announce(self) -> None:
        """Make this run the one that `latest` means."""
        replace_text(self.path.parent / "latest", self.name + "\n")

    @classmethod
    def open(cls, name: str, out: Path = Path("runs"), say: Callable[[str], None] | None = None) -> "RunFolder":
        """The run called `name`: a folder under `out`, a path, or "latest".

        Args:
            name: of the run.
            out: folder of run folders.
            say: told where the run that "latest" names was removed, and the newest that is left is taken.

        Raises:
            UsageError: if there is none; the message suggests the nearest name.
        """
        if name == "latest":
            return cls(latest_run(out, say))
        for path in (out / name, Path(name)):
            if is_run(path):
                return cls(path.resolve() if path.name in ("", "..") else path)  # "." has no name of its own
        raise no_such_run(name, out)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises:
            UsageError: if another process holds it; the message names it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / "run.lock")
        try:
            lock.acquire(timeout=_LOCK_S)
        except Timeout:
            holder = self.read_json("status.json") if (self.path / "status.json").is_file() else {}
            raise UsageError(
                f"{self.name} is being written by process {holder.get('pid', '?')} on {holder.get('host', '?')}.",
                "Wait for it, or stop that process first.",
            ) from None
        try:
            with suppress(DiskError):  # whose lock it is now, for the message above; a new run has no status yet
                self.write_json("status.json", self.read_json("status.json") | _who())
            yield
        finally:
            lock.release()

    def clean(self) -> None:
        """Remove what a killed write left behind. Call it only while holding the lock."""
        for place in (self.path / part for part in _PARTS):
            for entry in place.iterdir() if place.is_dir() else ():
                if is_leftover(entry.name):
                    remove(entry)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write `name` so that it is always either the old or the new content."""
        replace_text(self.path / name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the run, old or new but never half."""
        replace_text(self.path / name, text)

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run.

        Raises:
            DiskError: if it is missing or damaged.
        """
        try:
            return read_json(self.path / name)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error  # not the path again
            hint = "Check its permissions." if isinstance(error, PermissionError) else DAMAGED
            raise DiskError(f"{self.path / name} cannot be read: {reason}.", hint) from error

    def set_status(self, state: State, *, step: int, total_steps: int, reason: str = "", **more: object) -> None:
        """Write status.json with this process and a heartbeat."""
        self._last_beat = time.monotonic()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        who = {"heartbeat": now, **_who()}
        self.write_json(
            "status.json", {"state": state, "step": step, "total_steps": total_steps, "reason": reason, **who, **more}
        )

    def beat(self, *, step: int, total_steps: int, seconds: float) -> None:
        """Refresh status.json, at most every few seconds; `seconds` is what the run has taken in all its lives."""
        if time.monotonic() - self._last_beat > _HEARTBEAT_S:
            self.set_status("running", step=step, total_steps=total_steps, seconds=seconds)

    def write_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a JSON-lines file anew: the rows are the truth, the file follows."""
        replace_text(self.path / name, "".join(json.dumps(row) + "\n" for row in rows))

    def append_row(self, name: str, row: Mapping[str, Any]) -> None:
        """Append one row to a JSON-lines file.

        Raises:
            DiskError: if the disk says no.
        """
        with disk_told(self.path / name), (self.path / name).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a JSON-lines file; a line cut by a kill or a full disk is left out."""
        file = self.path / name
        if not file.is_file():
            return []
        found = []
        for line in file.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            with suppress(ValueError, RecursionError):
                found.append(json.loads(line))
        return found

    def history(self) -> list[dict[str, Any]]:
        """One row an epoch, in order."""
        return self.rows("history.jsonl")

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """The metrics of each stored evaluation by name ("val@1200")."""
        found = {}
        for file in sorted((self.path / "evaluations").glob("*/metrics.json")):
            if not file.parent.name.startswith("."):
                found[file.parent.name] = self.read_json(str(file.relative_to(self.path)))
        return found


def check_place(out: Path, name: str | None) -> None:
    """See that a run called `name` (None: a new name) can be made under `out`. Nothing is written.

    Raises:
        UsageError: if `name` is taken or cannot be a folder's name.
        DiskError: if `out` is a file, or nothing may be written there.
    """
    if name in _TAKEN:
        raise UsageError(
            f"--name {name!r} cannot be the name of a folder: imgkit has a file of that name beside runs.",
            "Choose another name.",
        )
    if name is not None and (name != Path(name).name or name.startswith((".", "-")) or not _fits_a_line(name)):
        raise UsageError(f"--name {printable(name)!r} cannot be the name of a folder.", "Use letters, digits, - and _.")
    above = next(place for place in (out, *out.absolute().parents) if os.path.lexists(place))
    if not exists(above):
        raise DiskError(f"{above} is a link to a place that is not there.", _ELSEWHERE)
    if not above.is_dir():
        raise DiskError(f"{above} is a file, so no run can be put into it.", _ELSEWHERE)
    if not os.access(above, os.W_OK | os.X_OK):
        raise DiskError(f"Cannot make a run folder in {out}: {above} may not be written to.", _ELSEWHERE)
    if name is not None and os.path.lexists(out / name):
        raise _taken(out / name)


def _fits_a_line(name: str) -> bool:
    return 0 < len(os.fsencode(name)) <= 200 and name.isprintable()


@contextmanager
def _made(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(f"Cannot make the run folder {place}: {error.strerror}.", _ELSEWHERE) from error


def _name(draft: Path, place: Path) -> None:
    """Rename `draft`, which is not empty, to `place`, where nothing is."""
    if os.path.lexists(place):  # the system would put it in place of an empty folder
        raise _taken(place)
    try:
        draft.rename(place)
    except OSError:
        if os.path.lexists(place):  # another start was quicker
            raise _taken(place) from None
        raise


def goes_on(status: Mapping[str, Any]) -> bool:
    """Whether the process that wrote this status.json is still at work, as far as can be told from this machine."""
    if status["state"] != "running":
        return False
    return status.get("host") != socket.gethostname() or _alive(int(status["pid"]))


def _alive(pid: int) -> bool:
    """Whether there is a process with this number on this machine."""
    if os.name == "nt":
        return True  # signal 0 would end it there
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # somebody else's
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _who() -> dict[str, str | int]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _taken(path: Path) -> UsageError:
    return UsageError(
        f"There is a run called {path.name!r} in {path.parent} already.",
        f"Go on with it: imgkit resume {shlex.quote(RunFolder(path).address)}   or choose another --name.",
    )


def replace_text(file: Path, text: str) -> None:
    """Write `file` through a hidden neighbour and a rename, so that it is never half written.

    Raises:
        DiskError: if the disk says no; the old content stays.
    """
    with disk_told(file), whole_file(file) as stream:
        stream.write(text)


def _fresh_name(out: Path, verb: str, model: str, data: str) -> str:
    now = datetime.now(UTC)
    stamp = now.strftime("%Y%m%d-%H%M%S-") + f"{now.microsecond // 1000:03d}"
    words = [_SAFE.sub("-", word).strip("-.")[:40] or "x" for word in (verb, model, data)]
    for _ in range(_DRAWS):
        name = "-".join([stamp, *words, secrets.token_hex(2)])
        if not os.path.lexists(out / name):
            break
    return name
