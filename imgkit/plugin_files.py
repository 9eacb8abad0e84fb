"""Plugins: one Python file each, given by the user, imported once, kept with the run as a copy that nothing executes.

A file is imported under its own name, and its folder comes last on sys.path: loader processes that are spawned, or
that a server forks, get the same sys.path and find it too.
"""

import hashlib
import importlib.abc
import importlib.util
import os
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgkit.errors import ImgkitError, UsageError, disk_told, printable
from imgkit.run import RunFolder
from imgkit.screen import Screen

FOLDER = "plugins"
"""Where a run keeps its copies."""

Given = str | Path | Sequence[str | Path]
"""One file or several."""


@dataclass(frozen=True, eq=False)
class Plugin:
    """An imported file.

    Attributes:
        file: absolute, without links.
        sha256: of its bytes as imported.
        content: these bytes.
        names: what it registered, by kind: "model", "loss", "schedule", "source", "tracker".
    """

    file: Path
    sha256: str
    content: bytes
    names: Mapping[str, tuple[str, ...]]

    def about(self) -> dict[str, Any]:
        """Its entry in run.json."""
        return {"file": self.file.name, "sha256": self.sha256, "registers": {k: list(v) for k, v in self.names.items()}}


class _Source(importlib.abc.ExecutionLoader):
    """Loads a module from bytes: those whose hash is kept, and no .pyc that an edit within a second left stale."""

    def __init__(self, file: Path, content: bytes) -> None:
        self.file = file
        self.content = content

    def get_filename(self, fullname: str) -> str:
        """Where the module is, for tracebacks."""
        return str(self.file)

    def get_source(self, fullname: str) -> str:
        """Its text."""
        return importlib.util.decode_source(self.content)


_IMPORTED: dict[str, Plugin] = {}  # by name of the file: Python, too, imports a module once in a process


def load_plugins(given: Given) -> tuple[Plugin, ...]:
    """Import the files; one that this process has imported already is not executed again.

    Raises:
        UsageError: if one is no Python file, has the name of another module, raises, or changed since it was imported.
    """
    files = [given] if isinstance(given, str | Path) else list(given)
    return tuple(dict.fromkeys(_load(Path(file)) for file in files))


def use_plugins(given: Given, screen: Screen | None = None) -> tuple[Plugin, ...]:
    """Import plugins, for recipes, data and networks that name what they register.

    Args:
        given: Python files.
        screen: told of a file that registers nothing.

    Raises:
        UsageError: as `load_plugins`.
    """
    plugins = load_plugins(given)
    for one in plugins:
        if not one.names and screen is not None:
            screen.warn(f"the plugin {printable(one.file.name)} registers nothing")
    return plugins


def keep(folder: Path, about: Mapping[str, Any]) -> None:
    """Copy the plugins that run.json will name into the run's folder.

    Raises:
        DiskError: if a copy cannot be written.
    """
    for entry in about.get("plugins", []):
        place = folder / FOLDER / entry["file"]
        with disk_told(place):
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(_IMPORTED[entry["file"]].content)


def plugin_words(folder: RunFolder) -> str:
    """` --plugin FILE` for each plugin of a run that was given, to be typed behind the next command."""
    files = [_IMPORTED[one["file"]].file for one in _entries(folder) if one["file"] in _IMPORTED]
    return "".join(f" --plugin {shlex.quote(min(os.path.relpath(file), str(file), key=len))}" for file in files)


def require_plugins(folder: RunFolder, verb: str) -> None:
    """See that the plugins of a run were given; the copies in its folder are never executed unasked.

    Args:
        folder: the run.
        verb: the command to type again, "resume".

    Raises:
        UsageError: naming those that were not, with their hashes and where the copies are.
    """
    lacking = [one for one in _entries(folder) if one["file"] not in _IMPORTED]
    if not lacking:
        return
    files = " and ".join(f"{printable(one['file'])} (SHA-256 {one['sha256'][:12]})" for one in lacking)
    options = " ".join(f"--plugin {shlex.quote(str(folder.path / FOLDER / one['file']))}" for one in lacking)
    raise UsageError(
        f"The run {folder.name} needs the plugin {files}; nothing in a run's folder is executed unasked.",
        "Give your file with --plugin; or, once you have read it, the run's copy:\n"
        f"imgkit {verb} {shlex.quote(folder.address)} {options}",
    )


def changed_plugins(folder: RunFolder) -> list[str]:
    """For each plugin of a run that was given with other content: what to say."""
    found = []
    for one in _entries(folder):
        plugin = _IMPORTED.get(one["file"])
        if plugin is not None and plugin.sha256 != one["sha256"]:
            hashes = f"SHA-256 {plugin.sha256[:12]}, not {one['sha256'][:12]}"
            found.append(f"{printable(str(plugin.file))} is not the plugin that the run began with: {hashes}")
    return found


def require_same_plugins(folder: RunFolder, plugins: Sequence[Plugin]) -> None:
    """See that a run goes on with the very plugins that it began with.

    Raises:
        UsageError: if one was not given, is another, or is none of this run's.
    """
    require_plugins(folder, "resume")
    others = changed_plugins(folder)
    if others:
        copies = printable(str(folder.path / FOLDER))
        raise UsageError(f"{others[0]}.", f"Give the file as it was (the run's copy is in {copies}/), or start anew.")
    names = [one["file"] for one in _entries(folder)]
    surplus = [one.file.name for one in plugins if one.file.name not in names]
    if surplus:
        raise UsageError(f"--plugin {surplus[0]} is not used: {folder.name} began without it.", "Leave it out.")


def _entries(folder: RunFolder) -> list[dict[str, Any]]:
    """Of run.json; a file is known by its name alone, wherever an entry points."""
    found = folder.read_json("run.json").get("plugins", [])
    return [{**one, "file": Path(one["file"]).name} for one in found]


def _load(given: Path) -> Plugin:
    shown, file = printable(str(given)), given.expanduser().resolve()
    if not file.is_file():
        raise UsageError(f"There is no plugin {shown}.", "Give a Python file:  --plugin FILE.py")
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise UsageError(
            f"The plugin {shown} is no Python module.", "It is one file whose name is letters, digits and _, and .py"
        )
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    before = _IMPORTED.get(file.name)
    if before is not None and before.sha256 == digest:
        return before
    if before is not None:
        raise UsageError(
            f"The plugin {shown} is not the {file.name} that this process imported from {printable(str(before.file))}.",
            "Start Python anew; Python imports a module once.",
        )
    _refuse_shadow(file, shown)
    plugin = Plugin(file, digest, content, _import(file, content, shown))
    _IMPORTED[file.name] = plugin
    return plugin


def _refuse_shadow(file: Path, shown: str) -> None:
    """A module that is installed, or imported, would be found in the plugin's place."""
    other = sys.modules.get(file.stem)
    spec = other.__spec__ if other is not None else importlib.util.find_spec(file.stem)
    if other is None and (spec is None or (spec.origin is not None and Path(spec.origin).resolve() == file)):
        return
    origin = getattr(spec, "origin", None) or "this process"
    raise UsageError(
        f"The plugin {shown} has the name of another module, {file.stem} ({printable(origin)}).", "Rename the file."
    )


def _import(file: Path, content: bytes, shown: str) -> dict[str, tuple[str, ...]]:
    """Execute `content`, that of `file`, as a module; names that it registered, by kind."""
    from imgkit.plugin import registered, unregister

    before, folder = registered(), str(file.parent)
    added = folder not in sys.path
    if added:
        sys.path.append(folder)
    spec = importlib.util.spec_from_loader(file.stem, _Source(file, content))
    assert spec is not None, "a loader was given"
    assert spec.loader is not None, "it was"
    module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script that was given as a plugin may end with sys.exit
        sys.modules.pop(file.stem, None)
        unregister({kind: names - before[kind] for kind, names in registered().items()})
        if added:
            sys.path.remove(folder)
        raise _failed(error, file, shown) from error
    fresh = {kind: tuple(sorted(names - before[kind])) for kind, names in registered().items()}
    return {kind: names for kind, names in fresh.items() if names}


def _failed(error: BaseException, file: Path, shown: str) -> UsageError:
    """What went wrong, with the part of the traceback that is theirs."""
    if isinstance(error, ImgkitError):
        return UsageError(f"The plugin {shown}: {error.message}", error.hint)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = next((position for position, frame in enumerate(frames) if frame.filename == str(file)), len(frames))
    lines = [*traceback.format_list(frames[theirs:]), *traceback.format_exception_only(error)]
    return UsageError(f"The plugin {shown} cannot be imported:\n{''.join(lines).rstrip()}", "Mend it, and try again.")
