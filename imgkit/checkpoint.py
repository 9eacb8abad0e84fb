"""Checkpoints: step folders of safetensors and JSON, each byte covered by a manifest of SHA-256.

    checkpoints/
    ├─ step-00001200/  model.safetensors  train.safetensors  state.json  MANIFEST.json
    └─ best.json

A checkpoint is written into a hidden folder, flushed to the disk and then renamed: the rename is the moment it exists.
A kill at any instant leaves the checkpoints that were there before. A damaged one is noticed, named and passed over.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from torch import Tensor

from imgkit.bounds import check_header, parse_json, read_bytes, read_json
from imgkit.errors import DiskError, DivergedError, brief, lost, ran_out, typed
from imgkit.files import check_space, room, sync
from imgkit.run import replace_text
from imgkit.tensor_file import file_size, not_finite, parts

FORMAT = 1
_FILES = ("model.safetensors", "train.safetensors", "state.json")
_MANIFEST_BYTES = 1 << 16
_OTHER = "Take another checkpoint of the run, or put a copy of this one back."
_STEP = re.compile(r"^step-(\d{8,})$")
_ASIDE = re.compile(r"^\.(step-\d{8,})\.was-[0-9a-f-]+$")


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to go on from `step` as if nothing had happened.

    `model` is the network's state dict; `train` holds the optimizer's and the averaged weights' tensors by name;
    `state` is JSON: history, best, counters.
    """

    step: int
    model: Mapping[str, Tensor]
    train: Mapping[str, Tensor]
    state: Mapping[str, Any]

    @property
    def scored(self) -> Mapping[str, Tensor]:
        """The weights that were evaluated at this step: the averaged ones where the run averages."""
        averaged = {name[4:]: value for name, value in self.train.items() if name.startswith("ema/")}
        return averaged or self.model

    def copied(self) -> "Checkpoint":
        """The same with tensors of its own on the CPU, which no update changes. `state` is not copied."""
        model, train = (
            {name: tensor.detach().to("cpu", copy=True) for name, tensor in part.items()}  # device sync
            for part in (self.model, self.train)
        )
        return replace(self, model=model, train=train)


def reached(point: str) -> None:
    """A named point of the save protocol. Does nothing; tests replace it to fail or to kill the process there."""


def save(
    folder: Path,
    checkpoint: Checkpoint,
    *,
    keep: int | Literal["all"],
    best: int | None,
    good: Collection[int] = (),
    warn: Callable[[str], object] = warnings.warn,
) -> Path:
    """Write a checkpoint under `folder` and remove the ones no longer kept; returns its folder.

    Of the steps up to this one, the newest `keep`, `best` and those of `good` stay; a later one, damaged or of an
    earlier life, stays until it is written anew. Where space is short, only the newest whole one and the best one stay,
    unless all are to be kept. Once the folder has its name the checkpoint is saved: what fails after that, such as
    removing old ones, is told to `warn`, and the next save does it. The tensors must not change meanwhile.

    Raises:
        DivergedError: if a number is not finite: `read` would refuse it, and a good one would be removed for it.
        DiskError: if it cannot be written; what was there before is untouched.
    """
    odd = not_finite({**checkpoint.model, **checkpoint.train})
    if odd is not None:
        raise DivergedError(
            f"{odd} is no longer finite after step {checkpoint.step}, so this step is not saved.",
            "Checkpoints written before are untouched. Start again with a smaller rate, such as a tenth:  --lr RATE",
        )
    target = folder / f"step-{checkpoint.step:08d}"
    temporary = folder / f".{target.name}.tmp-{os.getpid():x}-{secrets.token_hex(4)}"
    state = json.dumps(checkpoint.state, indent=1).encode()
    payload = dict(zip(_FILES, (parts(checkpoint.model), parts(checkpoint.train), [state]), strict=True))
    size = file_size(checkpoint.model) + file_size(checkpoint.train) + len(state)
    aside = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder, size, keep, best)
        reached("before mkdir")
        temporary.mkdir()
        files = {name: _write(temporary / name, content) for name, content in payload.items()}
        _write(temporary / "MANIFEST.json", [_manifest(checkpoint.step, files)])
        _sync_folder(temporary)
        reached("before rename")
        if target.exists():  # of this step before its evaluation; or a damaged one that resume passed over
            aside = target.rename(folder / f".{target.name}.was-{os.getpid():x}-{secrets.token_hex(4)}")
            reached("replace")
        temporary.rename(target)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if aside is not None:
            with suppress(OSError):  # else `load` puts it back
                aside.rename(target)
        if not isinstance(error, OSError):
            raise  # such as that memory ran out
        raise DiskError(
            f"Cannot write the checkpoint of step {checkpoint.step} in {folder}: {_reason(error, folder, size)}.",
            "The newest checkpoint and the best one are untouched. Free some space, then:  "
            f"imgkit resume {typed(folder.parent)}",
        ) from error
    try:
        reached("after rename")
        _sync_folder(folder)  # before anything is removed, whose removal the disk may do first
        if aside is not None:
            _trash(aside)
        if best is not None:
            replace_text(folder / "best.json", json.dumps({"step": best}) + "\n")
            _sync_folder(folder)
        reached("before prune")
        _prune(folder, keep, checkpoint.step, {best, *good})
    except (OSError, DiskError) as error:
        reason = error.message if isinstance(error, DiskError) else error.strerror or error
        warn(f"The checkpoint of step {checkpoint.step} is saved, but what follows could not be done: {reason}")
    return target


def load(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint under `folder` that is whole; None where there is none at all.

    Each damaged one is named in a call of `warn`.

    Raises:
        DiskError: if there are checkpoints and every one is damaged.
    """
    _put_back(folder)
    tried = []
    for step in sorted(steps(folder), reverse=True):
        try:
            return read(folder, step)
        except DiskError as error:
            tried.append(error.message)
            warn(f"{error.message} Using the one before.")
    if tried:
        raise DiskError(
            "No checkpoint can be used:\n  " + "\n  ".join(tried), "Start again: the recipe is in recipe.toml"
        )
    return None


def read(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of one step, every byte checked before any of it is used.

    Raises:
        DiskError: if it is missing or damaged; the message names the file and what is wrong.
    """
    place = folder / f"step-{step:08d}"
    files = _verified(place)
    try:
        model, train = _tensors(files["model.safetensors"]), _tensors(files["train.safetensors"])
        state = parse_json(files["state.json"])
    except (SafetensorError, ValueError) as error:
        raise DiskError(f"{place}: cannot be read ({brief(error)}).", _OTHER) from error
    odd = not_finite({**model, **train})
    if odd is not None:
        raise DiskError(f"{place}: {odd} holds numbers that are not finite.", _OTHER)
    return Checkpoint(step, model, train, state)


@contextmanager
def fitting(folder: Path, step: int) -> Iterator[None]:
    """Take up a checkpoint in the block; one that is whole but not of this run does not fit what takes it up.

    Raises:
        DiskError: if so.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if ran_out(error):
            raise
        if (told := lost(error)) is not None:
            raise told from error
        raise DiskError(
            f"{folder / f'step-{step:08d}'}: of another run or network ({type(error).__name__} as it was taken up).",
            f"Remove it; the one before is used then:  imgkit resume {typed(folder.parent)}",
        ) from error


def steps(folder: Path) -> list[int]:
    """Steps that have a checkpoint folder, in order; nothing is verified."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for entry in folder.iterdir() if (match := _STEP.match(entry.name)))


def _write(file: Path, content: Iterable[bytes | memoryview]) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with file.open("xb") as stream:
        for part in content:
            reached(f"write {file.name}")
            stream.write(part)
            digest.update(part)
            size += len(part)
        stream.flush()
        reached(f"before fsync {file.name}")
        os.fsync(stream.fileno())
    return {"size": size, "sha256": digest.hexdigest()}


def _reason(error: OSError, folder: Path, size: int) -> str:
    """Why a checkpoint of `size` bytes could not be written; of what the system said, also how much room there was."""
    if not error.strerror:
        return str(error)
    try:
        return f"{error.strerror} ({room(folder, size)})"
    except OSError:  # a disk that is gone
        return error.strerror


def _manifest(step: int, files: Mapping[str, Mapping[str, Any]]) -> bytes:
    body = json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1)
    return json.dumps({"body": body, "sha256": hashlib.sha256(body.encode()).hexdigest()}).encode()


def _verified(place: Path) -> dict[str, bytes]:
    """The bytes of each file of a checkpoint, after manifest, sizes and hashes agree."""
    try:
        told = read_bytes(place / "MANIFEST.json", _MANIFEST_BYTES)
        manifest = parse_json(parse_json(told)["body"].encode())
        if manifest["format"] != FORMAT:
            raise DiskError(
                f"{place}: written in format {manifest['format']}; this imgkit reads format {FORMAT}.",
                "Read it with the imgkit that wrote it, or with a newer one.",
            )
        step, files = manifest["step"], manifest["files"]
        if tuple(files) != _FILES or _manifest(step, files) != told:  # spelt as it is written, and its own hash with it
            raise DiskError(f"{place}: MANIFEST.json is damaged.", _OTHER)
        if place.name != f"step-{step:08d}":
            raise DiskError(f"{place}: holds the checkpoint of step {step}.", _OTHER)
        return {name: _checked(place / name, **files[name]) for name in _FILES}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DiskError(f"{place}: incomplete or damaged ({type(error).__name__}: {brief(error)}).", _OTHER) from error


def _checked(file: Path, *, size: int, sha256: str) -> bytes:
    data = read_bytes(file, size)
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise DiskError(
            f"{file.parent}: {file.name} is damaged (its size or SHA-256 differs from MANIFEST.json).", _OTHER
        )
    return data


def _tensors(data: bytes) -> dict[str, Tensor]:
    check_header(data, len(data))
    return read_tensors(data)


def _prune(folder: Path, keep: int | Literal["all"], last: int, best: Collection[int | None]) -> None:
    """Remove steps up to `last`, the one just written, but for the newest `keep` of them and those of `best`."""
    if keep == "all":
        return
    present = [step for step in steps(folder) if step <= last]
    _trash(*(folder / f"step-{step:08d}" for step in set(present) - {*present[-keep:], *best}))


def _make_room(folder: Path, size: int, keep: int | Literal["all"], best: int | None) -> None:
    """See that `size` bytes are free; if not, remove all but the newest whole checkpoint and the best ones first.

    Raises:
        OSError: if that is not enough.
    """
    try:
        check_space(folder, size)
    except OSError:
        newest = next((step for step in reversed(steps(folder)) if _whole(folder, step)), None)
        if keep == "all" or newest is None:
            raise
        # `best` may be the step that is being saved: until it is, the one before is the best.
        spare = set(steps(folder)) - {newest, best, _best_before(folder)}
        _trash(*(folder / f"step-{step:08d}" for step in spare))
        check_space(folder, size)


def _whole(folder: Path, step: int) -> bool:
    try:
        read(folder, step)
    except DiskError:
        return False
    return True


def _best_before(folder: Path) -> int | None:
    """The step that best.json names; None where there is none yet.

    Raises:
        OSError: if that file is damaged: then nothing can be said to be the best, and nothing be removed.
    """
    try:
        return int(read_json(folder / "best.json")["step"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"space is short, and {folder / 'best.json'} is damaged") from error


def _trash(*places: Path) -> None:
    # Renamed first, so that a kill in the middle never leaves half a checkpoint under a valid name; the new names reach
    # the disk before the files go, so that a power cut does not either.
    trashes = [place.rename(place.with_name(f".trash-{os.getpid():x}-{secrets.token_hex(4)}")) for place in places]
    for parent in {place.parent for place in places}:
        _sync_folder(parent)
    for trash in trashes:
        reached("prune")
        trash.unlink() if trash.is_symlink() else shutil.rmtree(trash)  # of a link, what it leads to stays


def _put_back(folder: Path) -> None:
    """Finish what a kill between the two renames of a replacement left: the old checkpoint is still there."""
    for entry in list(folder.iterdir()) if folder.is_dir() else ():
        if match := _ASIDE.match(entry.name):
            target = folder / match[1]
            _trash(entry) if target.exists() else entry.rename(target)


def _sync_folder(folder: Path) -> None:
    sync(folder)
