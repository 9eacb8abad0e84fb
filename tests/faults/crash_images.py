"""What a disk may hold after a power cut: the file operations of some code, recorded, and every state they allow.

The model is that of a careless but honest disk (Pillai et al., "All file systems are not created equal", OSDI 2014):

* What was written into a file is on the disk once the file was synced; until then none of it, half, all, or zeros.
* A change of a folder (a name made, renamed, removed) is on the disk once that folder was synced; until then any subset
  of the changes is, in their order. A rename is there or not, never half.
* The sync of a file does not save its name, nor that of a folder the folder's own.
"""

import hashlib
import io
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import pytest

StrPath = str | os.PathLike[str]
Tree = dict[str, "bytes | Tree"]
MOST_CHOICES = 200  # of images at one instant: more are drawn, not listed


@dataclass(frozen=True)
class Change:
    """One operation: of a folder's names, or a sync of a file or folder. Files and folders are numbers."""

    kind: Literal["make", "rename", "remove", "sync"]
    node: int
    folder: int = 0
    name: str = ""
    new_name: str = ""
    length: int = 0  # of the file, when it was synced


@dataclass
class Record:
    """What was there at the start, what was done, and when something was promised.

    Attributes:
        root: number of the folder that is watched.
        folders: the names in each folder at the start; a folder made later begins empty.
        contents: bytes of each file; of one made later, all that was ever written.
        changes: in order.
        promises: after so many changes, what had been promised.
    """

    root: int = 0
    folders: dict[int, dict[str, int]] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    promises: list[tuple[int, int]] = field(default_factory=list)
    made: set[int] = field(default_factory=set)

    def promise(self, value: int) -> None:
        """From here on `value` must survive."""
        self.promises.append((len(self.changes), value))

    def promised(self, done: int) -> int:
        """The greatest value promised once so many changes were made; -1 if none."""
        return max((value for after, value in self.promises if after <= done), default=-1)


class _Recorder:
    """Takes the place of the functions of `os` and `io` by which files are changed; passes calls on."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.record = root, Record()
        self._numbers: dict[int, int] = {}  # inode -> number
        self._next = itertools.count(1)
        self._real: dict[str, Callable[..., Any]] = {}
        self.record.root = self._scan(root)
        for module, name in ((io, "open"), *((os, name) for name in ("mkdir", "rename", "replace", "unlink"))):
            self._real[name] = getattr(module, name)
            patch.setattr(module, name, getattr(self, f"_{name}"))
        self._real["rmdir"], self._real["fsync"] = os.rmdir, lambda descriptor: None
        patch.setattr(os, "rmdir", self._rmdir)
        patch.setattr(os, "remove", self._unlink)
        patch.setattr(os, "fsync", self._fsync)

    def finish(self) -> Record:
        """Read what was written, and see that nothing went past the recorder."""
        self._read(self.root)
        everything = _replay(self.record, self.record.changes, {})
        assert everything == tree_of(self.root), "a change was made in a way that is not recorded"
        return self.record

    def _scan(self, place: Path) -> int:
        number = self._number(place.lstat().st_ino)
        if place.is_dir():
            self.record.folders[number] = {entry.name: self._scan(entry) for entry in place.iterdir()}
        else:
            self.record.contents[number] = place.read_bytes()
        return number

    def _read(self, place: Path) -> None:
        for entry in place.iterdir():
            if entry.is_dir():
                self._read(entry)
            else:
                self.record.contents[self._number(entry.stat().st_ino)] = entry.read_bytes()

    def _number(self, inode: int) -> int:
        if inode not in self._numbers:
            self._numbers[inode] = next(self._next)
        return self._numbers[inode]

    def _where(self, path: StrPath, descriptor: int | None = None) -> tuple[int, str] | None:
        """The folder's number and the name, of a path below the root."""
        place = self._place(path, descriptor)
        if self.root not in place.absolute().parents:
            return None
        return self._number(place.parent.stat().st_ino), place.name

    @staticmethod
    def _place(path: StrPath, descriptor: int | None) -> Path:
        return Path(path) if descriptor is None else Path(f"/proc/self/fd/{descriptor}").readlink() / path

    def _add(self, kind: Literal["make", "rename", "remove"], node: int, at: tuple[int, str], new: str = "") -> None:
        self.record.changes.append(Change(kind, node, at[0], at[1], new))

    def _open(self, file: StrPath | int, mode: str = "r", *args: object, **kwargs: object) -> IO[Any]:
        known = os.path.lexists(file) if isinstance(file, str | Path) else True
        stream: IO[Any] = self._real["open"](file, mode, *args, **kwargs)
        at = self._where(file) if isinstance(file, str | Path) and not known else None
        if at is not None:
            self._make(os.fstat(stream.fileno()).st_ino, at)
        assert known is False or set(mode) <= set("rb") or not isinstance(file, str | Path), f"{file} is written over"
        return stream

    def _make(self, inode: int, at: tuple[int, str]) -> None:
        number = self._number(inode)
        self._add("make", number, at)
        self.record.made.add(number)

    def _mkdir(self, path: StrPath, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._real["mkdir"](path, mode, dir_fd=dir_fd)
        at = self._where(path, dir_fd)
        if at is not None:
            number = self._number(Path(path).stat().st_ino)
            self._add("make", number, at)
            self.record.folders[number] = {}

    def _rename(self, source: StrPath, target: StrPath, **kwargs: int | None) -> None:
        before, after = self._where(source), self._where(target)
        number = self._number(Path(source).stat().st_ino)
        if os.path.lexists(target):
            self._forget(Path(target))
        self._real["rename"](source, target, **kwargs)
        if before is not None and after is not None:
            assert before[0] == after[0], "renames are within a folder"
            self._add("rename", number, before, after[1])

    _replace = _rename

    def _unlink(self, path: StrPath, *, dir_fd: int | None = None) -> None:
        self._gone("unlink", path, dir_fd)

    def _rmdir(self, path: StrPath, *, dir_fd: int | None = None) -> None:
        self._gone("rmdir", path, dir_fd)

    def _gone(self, call: str, path: StrPath, dir_fd: int | None) -> None:
        at, real = self._where(path, dir_fd), self._real[call]
        if at is None:
            real(path, dir_fd=dir_fd)
            return
        number = self._forget(self._place(path, dir_fd))
        real(path, dir_fd=dir_fd)
        self._add("remove", number, at)

    def _forget(self, place: Path) -> int:
        """The number of what is about to go; the system may give its inode to the next file."""
        number = self._number(place.stat().st_ino)
        if place.is_file():
            self.record.contents[number] = place.read_bytes()
        del self._numbers[place.stat().st_ino]
        return number

    def _fsync(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if found.st_ino in self._numbers:
            self.record.changes.append(Change("sync", self._numbers[found.st_ino], length=found.st_size))


@contextmanager
def recorded(root: Path) -> Iterator[Record]:
    """Record what the block does below `root`; the record is complete after the block."""
    with pytest.MonkeyPatch.context() as patch:
        recorder = _Recorder(root, patch)
        yield recorder.record
    recorder.finish()


@dataclass(frozen=True)
class Image:
    """One state that the disk may be in after `done` changes."""

    done: int
    tree: Tree


def images(record: Record, seed: int, most: int = MOST_CHOICES) -> Iterator[Image]:
    """Each state that a cut after each change allows, no tree twice between two promises.

    Where an instant allows more than `most`, the plainest are taken (nothing, all, all but one, only one of what is not
    yet on the disk) and the rest drawn.
    """
    seen = set[tuple[int, bytes]]()
    draw = random.Random(seed)
    for done in range(len(record.changes) + 1):
        past = record.changes[:done]
        settled = _settled(past)
        pending = [at for at, change in enumerate(past) if change.kind != "sync" and at not in settled]
        loose = [node for node in sorted(record.made) if any(c.kind == "make" and c.node == node for c in past)]
        loose = [node for node in loose if not _is_synced(past, node, len(record.contents.get(node, b"")))]
        for kept, forms in _choices(pending, loose, draw, most):
            chosen = [past[at] for at in sorted({*settled, *kept})]
            tree = _replay(record, chosen, dict(zip(loose, forms, strict=True)))
            mark = (record.promised(done), _digest(tree))
            if mark not in seen:
                seen.add(mark)
                yield Image(done, tree)


def _settled(past: Sequence[Change]) -> set[int]:
    """The changes of folders that were synced after them."""
    last = {change.node: at for at, change in enumerate(past) if change.kind == "sync"}
    return {at for at, change in enumerate(past) if change.kind != "sync" and last.get(change.folder, -1) > at}


def _is_synced(past: Sequence[Change], node: int, length: int) -> bool:
    return any(change.kind == "sync" and change.node == node and change.length == length for change in past)


FORMS = ("none", "half", "all", "zeros")


def _choices(
    pending: Sequence[int], loose: Sequence[int], draw: random.Random, most: int
) -> Iterator[tuple[Sequence[int], Sequence[str]]]:
    """Which pending changes are on the disk, and in what form the contents that were not synced."""
    if 2 ** len(pending) * len(FORMS) ** len(loose) <= most:
        for mask in itertools.product((False, True), repeat=len(pending)):
            for forms in itertools.product(FORMS, repeat=len(loose)):
                yield [at for at, kept in zip(pending, mask, strict=True) if kept], forms
        return
    plain = [[], list(pending), *([at] for at in pending), *([p for p in pending if p != at] for at in pending)]
    for kept in plain:
        for form in FORMS:
            yield kept, [form] * len(loose)
    for _ in range(max(0, most - len(plain) * len(FORMS))):
        yield [at for at in pending if draw.random() < 0.5], [draw.choice(FORMS) for _ in loose]


def _replay(record: Record, changes: Sequence[Change], forms: dict[int, str]) -> Tree:
    """The tree after some of the changes; one whose file is not there, since its making was lost, does nothing."""
    folders = {number: dict(names) for number, names in record.folders.items()}
    for change in changes:
        names = folders.get(change.folder)
        if names is None:
            continue
        if change.kind == "make":
            names[change.name] = change.node
        elif change.kind == "rename" and names.get(change.name) == change.node:
            names[change.new_name] = names.pop(change.name)
        elif change.kind == "remove" and names.get(change.name) == change.node:
            del names[change.name]

    def build(number: int) -> bytes | Tree:
        if number in folders:
            return {name: build(node) for name, node in folders[number].items()}
        content = record.contents.get(number, b"")
        form = forms.get(number, "all")
        half = content[: len(content) // 2]
        return {"none": b"", "half": half, "all": content, "zeros": bytes(len(content))}[form]

    tree = build(record.root)
    assert isinstance(tree, dict)
    return tree


def _digest(tree: Tree) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(tree):
        entry = tree[name]
        digest.update(f"{name}\0{isinstance(entry, dict)}\0".encode())
        digest.update(_digest(entry) if isinstance(entry, dict) else hashlib.sha256(entry).digest())
    return digest.digest()


def tree_of(place: Path) -> Tree:
    """Names and contents below a folder."""
    return {entry.name: tree_of(entry) if entry.is_dir() else entry.read_bytes() for entry in place.iterdir()}


def put(tree: Tree, place: Path) -> None:
    """Write a tree as a new folder."""
    place.mkdir()
    for name, entry in tree.items():
        if isinstance(entry, dict):
            put(entry, place / name)
        else:
            (place / name).write_bytes(entry)
