"""Which run a name means: folders of runs, and the folders of studies in them."""

import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from imgkit.data.rows import count
from imgkit.errors import UsageError, printable, suggestion

_NAMED = 5  # folders named in a hint


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run; one that may not be looked into is none."""
    return _holds(folder, "run.json")


def runs_in(out: Path) -> list[str]:
    """The names of the runs in a folder; of a run that is being made, and where it may not be listed, none."""
    with suppress(PermissionError):
        entries = out.iterdir() if out.is_dir() else ()
        return [entry.name for entry in entries if entry.name[:1] != "." and is_run(entry)]
    return []


def latest_run(out: Path, say: Callable[[str], None] | None) -> Path:
    """The run that the file `latest` names; where its folder was removed, the newest that is left.

    Raises:
        UsageError: if there is none; the message names those of studies.
    """
    pointer, left = out / "latest", runs_in(out)
    name = pointer.read_text().strip() if pointer.is_file() else ""
    if name in left:
        return out / name
    if not left:
        hint = _of_studies(out, runs_below(out)) or "Train one: imgkit finetune resnet50 --data PICTURES"
        raise UsageError(f"There is no run in {out}.", hint)
    newest = max(left, key=lambda one: _begun_ns(out / one))
    if say is not None:
        gone = f"{pointer} names {printable(name)}, which is not there any more" if name else f"there is no {pointer}"
        say(f"{gone}; the newest run is {newest}")
    return out / newest


def no_runs(out: Path) -> UsageError:
    """What to say of a folder of runs that holds none: which folders in it do, or how to train."""
    folders = sorted(out.iterdir()) if out.is_dir() else []
    below = [folder for folder in folders if folder.is_dir() and folder.name[:1] != "." and runs_in(folder)]
    if not below:
        return UsageError(f"There is no run in {printable(str(out))}.", "Train one:  imgkit demo")
    shown = [shlex.quote(str(folder)) for folder in below[:_NAMED]]
    more = f"   and {len(below) - _NAMED:,} more" if len(below) > _NAMED else ""
    studies = all(_is_study(folder) for folder in below)
    kind = ("study", "studies") if studies else ("folder of runs", "folders of runs")
    return UsageError(
        f"There is no run in {printable(str(out))} itself, but {count(len(below), *kind)} in it.",
        "Type:  " + "   or  ".join(f"imgkit report {printable(text)}" for text in shown) + more,
    )


def no_such_run(name: str, out: Path) -> UsageError:
    """What to say of a name that no run has; runs of studies are suggested by their folder and name."""
    here, below = runs_in(out), runs_below(out)
    for folder in (out / name, Path(name)) if name.strip("./") else ():
        if inside := sorted(runs_in(folder)):
            return UsageError(
                f"{printable(str(folder))} is a folder of {count(len(inside), 'run')}, and no run itself.",
                f"Name one of them, such as  {shlex.quote(str(folder / inside[0]))}\n"
                f"All of them:  imgkit report {shlex.quote(str(folder))}",
            )
    if name.strip("./") and (out / name).is_dir():
        why = "there is no run.json in it"
        try:
            (out / name / "run.json").stat()
        except PermissionError:
            why = "it may not be looked into (Permission denied)"
        except OSError:
            pass
        return UsageError(
            f"{printable(str(out / name))} is no run: {why}.",
            f"All runs:  imgkit report {shlex.quote(str(out))}",
        )
    return UsageError(
        f"There is no run called {printable(name)!r} in {out}{suggestion(name, [*here, *below])}.",
        ("" if here else _of_studies(out, below))
        or f"The newest run is called latest; all of them: imgkit report {shlex.quote(str(out))}",
    )


def runs_below(out: Path) -> list[str]:
    """`study/run` of the studies in a folder."""
    folders = sorted(out.iterdir()) if out.is_dir() else []
    studies = [folder for folder in folders if folder.name[:1] != "." and _is_study(folder)]
    return [f"{study.name}/{name}" for study in studies for name in sorted(runs_in(study))]


def _of_studies(out: Path, below: list[str]) -> str:
    """How those are named; nothing where there are none."""
    if not below:
        return ""
    folder = shlex.quote(str((out / below[0]).parent))
    return f"There are runs of studies, such as {printable(below[0])}; all of that one:  imgkit report {folder}"


def _is_study(folder: Path) -> bool:
    """Whether a folder is that of a study, or of a sweep."""
    return _holds(folder, "study.toml") or _holds(folder, "sweep.toml")


def _holds(folder: Path, name: str) -> bool:
    with suppress(PermissionError):
        return (folder / name).is_file()
    return False


def _begun_ns(run: Path) -> int:
    """When a run began: its run.json is written again where its data were moved, its index never."""
    index = run / "data" / "index.csv"
    return (index if index.is_file() else run / "run.json").stat().st_mtime_ns
