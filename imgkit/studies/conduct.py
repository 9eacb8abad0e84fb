"""A study from its file to its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgkit.data.rows import count, listed
from imgkit.screen import Screen
from imgkit.studies.file import read_study
from imgkit.studies.plan import Asked, Planned, plan_runs, typed
from imgkit.studies.results import Result, read_results
from imgkit.studies.state import Memory, State, check_folder, keep_file, left_over, states, study_lock
from imgkit.studies.table import write_tables
from imgkit.studies.work import Worker, exit_code, in_a_process, look, work


@dataclass(frozen=True)
class Conducted:
    """A study that has been gone through.

    Args:
        asked: what was asked for.
        results: of the runs that are finished.
        memory: what is in study.json.
        code: 0, or the exit code of the first run that failed.
        files: the tables; empty after a dry run.
    """

    asked: Asked
    results: Sequence[Result]
    memory: Memory
    code: int
    files: Sequence[Path]


def ask(
    source: str | Path,
    *,
    out: Path | None = None,
    data: str | None = None,
    sets: Sequence[str] = (),
    plugin: Sequence[str] = (),
    smoke: bool = False,
) -> Asked:
    """Read a study's file, with what the command lays over it.

    Raises:
        RecipeError: all that is wrong with the file.
        UsageError: if there is no such file.
    """
    study = read_study(source)
    return Asked(study, Path("runs") / study.name if out is None else out, data, tuple(sets), tuple(plugin), smoke)


def asked_again(about: Mapping[str, Any]) -> Asked:
    """What another process asked for, as `work.about_study` tells it."""
    return ask(
        about["source"],
        out=Path(about["out"]),
        data=about["data"],
        sets=about["sets"],
        plugin=about["plugin"],
        smoke=about["smoke"],
    )


def conduct(asked: Asked, screen: Screen, *, dry_run: bool = False, worker: Worker = in_a_process) -> Conducted:
    """Check every variant, then train what is not done, measure it and write the tables.

    Raises:
        ImgkitError: what is wrong with the study, before anything is trained.
        Interrupted: if a signal came; the same call goes on.
    """
    runs = plan_runs(asked)
    changed = check_folder(asked)
    found = states(asked, runs)
    done = sum(state == "done" for state in found.values())
    many = f"{count(len(asked.study.variants), 'variant')} × {count(len(asked.study.seeds), 'seed')}"
    screen.fact("Study", f"{asked.study.name} · {many} · {done} of {count(len(runs), 'run')} finished")
    if changed:
        screen.note("the file changed since the last time" + ("; what is finished is as it asks for" if done else ""))
    new = list(dict.fromkeys(run.variant.name for run in runs if dry_run or found[run.name] == "new"))
    if new:
        screen.fact("Check", f"{count(len(new), 'variant')}: data, network and plan of each, before the first run")
        plans = look(asked, new, worker)
        say_runs(runs, plans, found, screen, commands=asked.out if dry_run else None)
    if dry_run:
        return Conducted(asked, (), Memory.read(asked.out), 0, ())
    keep_file(asked)
    with study_lock(asked.out):
        found = states(asked, runs)  # another process may have worked on it until now
        memory = work(asked, runs, found, screen, worker)
        found = states(asked, runs)
        results = read_results(asked.out, runs, memory)
        files = write_tables(asked, runs, results, found, memory)
    if others := left_over(asked.out, runs):
        screen.note(f"not of this study, and not in its tables: {listed(others)}")
    return Conducted(asked, results, memory, exit_code(memory, runs), files)


def say_runs(
    runs: Sequence[Planned],
    plans: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, State],
    screen: Screen,
    *,
    commands: Path | None,
) -> None:
    """The runs with their steps, and, where `commands` is their folder, what trains each."""
    words = {"new": "to be trained", "begun": "begun", "done": "finished"}
    for run in runs:
        plan = plans.get(run.variant.name)
        steps = []
        if plan is not None:
            parts = " + ".join(f"{name} {n:,}" for name, n in plan["phases"].items())
            steps = [f"{plan['steps']:,} steps ({parts}) · {plan['parameters']:,} parameters"]
        screen.item("·", " · ".join([run.name, run.model, *steps, words[found[run.name]]]))
        if commands is not None and found[run.name] == "new":
            screen.fact("   ", typed(run.command(commands)))
