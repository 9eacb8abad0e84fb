"""Every problem that a user can mend, one class per exit code.

    ImgkitError
    ├── UsageError      2   command line, unknown name
    │   └── RecipeError 2   recipe file, --set
    ├── DataError       3   folders, CSV, labels
    │   └── BadImage    3   one file that cannot be used as an image
    ├── WeightsError    4   weights, network
    ├── DeviceError     5   device, memory
    ├── DivergedError   6   the loss is no longer finite
    ├── DiskError       7   disk, checkpoint, run folder
    ├── GateError       8   a check that was asked for said no
    └── Interrupted   130   SIGINT; 143 for SIGTERM, 129 for SIGHUP

The text says what is wrong with the name the user typed, the rule, the value seen; `hint` says what to type next.
A bug raises something else and keeps its traceback (exit 1).
"""

import difflib
import errno
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_LOST = ("CUDA error", "HIP error", "CUDNN_STATUS", "cuDNN error", "CUBLAS_STATUS")
_NO_ROOM = ("out of memory", "can't allocate memory", "not enough memory")  # torch, on GPUs and on CPUs


class ImgkitError(Exception):
    """A problem that the user can mend.

    Args:
        message: what is wrong, naming the thing, the rule and the value.
        hint: what to type or change; may have several lines.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type["ImgkitError"], tuple[str, str]]:
        # Workers send exceptions to the main process; the default would lose the hint.
        return type(self), (self.message, self.hint)


class UsageError(ImgkitError):
    """The command line or an argument is wrong."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe file or a value for one is wrong."""


class DataError(ImgkitError):
    """The data cannot be used as they are."""

    exit_code = 3


class BadImage(DataError):
    """One file that cannot be used as an image.

    Args:
        path: the file.
        reason: why, in a few words without the path.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{printable(str(path))}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type["BadImage"], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class WeightsError(ImgkitError):
    """Pretrained weights cannot be had or do not fit."""

    exit_code = 4


class DeviceError(ImgkitError):
    """The device is missing or out of memory."""

    exit_code = 5


class DivergedError(ImgkitError):
    """The loss or the weights are no longer finite.

    Attributes:
        rows: of the index, on which it showed; those whose own answers are not finite, where that is known.
    """

    exit_code = 6
    rows: Sequence[int] = ()


class DiskError(ImgkitError):
    """The disk, a checkpoint or a run folder is in the way."""

    exit_code = 7


class GateError(ImgkitError):
    """A check that the user asked for said no."""

    exit_code = 8


class Interrupted(ImgkitError):
    """A signal asked the run to stop; it stopped after saving."""

    def __init__(self, message: str, hint: str = "", signal: int = 2) -> None:
        super().__init__(message, hint)
        self.signal = signal
        self.exit_code = 128 + signal


@contextmanager
def disk_told(place: Path) -> Iterator[None]:
    """Raise a DiskError that names `place` where the system refuses to write it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DiskError(f"Cannot write {printable(str(place))}: {reason}.", _disk_hint(error, place)) from error


def _disk_hint(error: OSError, place: Path) -> str:
    """What to do about it: more room helps against nothing but a want of room."""
    if error.errno == errno.ENOENT:
        return f"Make its folder first:  mkdir -p {typed(place.parent)}"
    if error.errno == errno.EISDIR:
        return "It is a folder: name a file in it."
    if error.errno in {errno.EEXIST, errno.ENOTDIR}:
        return "A file is in the way, where a folder should be: choose another place."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "Mend the permissions, or choose another place."
    return "Free some space, or choose another place."


def did_you_mean(word: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The names in `known` nearest to `word`, best first; case and `-_/.` do not count."""
    plain = {name: _plain(name) for name in known}
    wanted = _plain(word)
    exact = [name for name, text in plain.items() if text == wanted]
    scored = sorted(
        ((difflib.SequenceMatcher(None, wanted, text).ratio(), name) for name, text in plain.items()),
        key=lambda pair: (-pair[0], pair[1]),
    )
    near = [name for ratio, name in scored if ratio >= 0.6 and name not in exact]
    return (exact + near)[:n]


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'classes'?)`, or nothing where no known name is near."""
    near = did_you_mean(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def ran_out(error: BaseException) -> bool:
    """Whether `error` says that memory ran out: torch has a class of its own for that on GPUs, none on the CPU."""
    said = str(error).lower()
    from_torch = isinstance(error, RuntimeError) and any(words in said for words in _NO_ROOM)
    return from_torch or isinstance(error, MemoryError)


@contextmanager
def memory_told(told: DeviceError) -> Iterator[None]:
    """Raise `told` instead where memory runs out inside; and where the device is lost, a DeviceError of its own."""
    try:
        yield
    except Exception as error:
        if ran_out(error):
            raise told from error
        if (told_lost := lost(error)) is not None:
            raise told_lost from error
        raise


def lost(error: BaseException) -> DeviceError | None:
    """What to say of an error by which the device no longer answers; None of any other."""
    if not isinstance(error, RuntimeError) or not any(words in str(error) for words in _LOST):
        return None
    return DeviceError(
        f"The device no longer answers: {brief(error)}",
        "Nothing was saved after it. A training goes on from its last checkpoint:  imgkit resume latest",
    )


def typed(text: str | Path) -> str:
    """A name or a path as one word of a command that is to be typed."""
    return shlex.quote(printable(str(text)))


def printable(text: str) -> str:
    """`text` with control, bidirectional and undecodable characters made visible."""
    if text.isascii() and text.isprintable():
        return text  # most are, and some are long
    hidden = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x2028, 0x2029}
    return "".join(
        char
        if char.isprintable() and ord(char) not in hidden and not 0xD800 <= ord(char) <= 0xDFFF
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def brief(error: object, most: int = 100) -> str:
    """The first line of what an error of another library says: it may quote a file, at any length."""
    line = printable((str(error).strip().splitlines() or [""])[0])
    return line if len(line) <= most else line[: most - 1] + "…"


def _plain(name: str) -> str:
    return "".join(char for char in name.lower() if char not in "-_/. ").replace("0", "o")
