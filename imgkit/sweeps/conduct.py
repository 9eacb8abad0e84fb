"""A sweep from its file to the trial that is chosen, and to its score on test."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from filelock import FileLock

from imgkit.data.rows import count
from imgkit.errors import Interrupted, UsageError, printable
from imgkit.evaluations import weights_label
from imgkit.recipe.toml import read_toml
from imgkit.report.run_page import write_run_page
from imgkit.run import RunFolder, replace_text
from imgkit.screen import Screen
from imgkit.signals import hear_signals
from imgkit.studies.plan import Planned, typed
from imgkit.studies.work import in_a_process
from imgkit.sweeps.library import require_optuna
from imgkit.sweeps.plan import Aim, Asked, about_sweep, aim_of, plan_corners
from imgkit.sweeps.record import Record, read_record, record_of, write_record
from imgkit.sweeps.space import domain_words
from imgkit.sweeps.storage import JOURNAL, Trials, shown_url
from imgkit.sweeps.work import Worker, turn, work

FILE = "sweep.toml"


@dataclass(frozen=True)
class Swept:
    """A sweep that has been gone through.

    Args:
        asked: what was asked for.
        record: of its trials; None after a dry run.
    """

    asked: Asked
    record: Record | None


def conduct(asked: Asked, screen: Screen, *, dry_run: bool = False, worker: Worker = in_a_process) -> Swept:
    """Check the space, then train trials beside whatever other workers there are, and score test of the best one.

    Raises:
        ImgkitError: what is wrong with the sweep, before anything is trained; or what stopped a trial.
        Interrupted: if a signal came; the same call goes on.
    """
    require_optuna()
    _check_folder(asked)
    _, corners = plan_corners(asked)
    aim = aim_of(corners)
    _say(asked, aim, screen)
    known = None if dry_run else read_record(asked.out)
    if known is None or not known.rows:  # else it has been looked at
        _look(asked, corners, screen, worker)
    if dry_run:
        screen.fact("Trial", typed(corners[0].command(asked.out)))
        return Swept(asked, None)
    asked.out.mkdir(parents=True, exist_ok=True)
    with turn(asked.out):
        replace_text(asked.out / FILE, asked.sweep.text)
        trials = Trials(asked, aim.way)
    try:
        work(asked, trials, aim, screen, worker)
        record = record_of(asked, aim, trials.all())
    finally:
        trials.close()
    with turn(asked.out):
        write_record(asked.out, record)
    _score_test(asked, record, screen, worker)
    return Swept(asked, record)


def _check_folder(asked: Asked) -> None:
    """See that the folder is this sweep's, or free.

    Raises:
        UsageError: if it is a run, a study's, or another sweep's.
    """
    out, shown = asked.out, printable(str(asked.out))
    if (out / "run.json").is_file():
        raise UsageError(f"{shown} is a run, and a sweep is a folder of runs.", "Choose another --out.")
    if (out / "study.toml").is_file():
        raise UsageError(f"{shown} holds a study.", "Choose another --out.")
    if (out / FILE).is_file() and (name := read_toml(out / FILE).values.get("name")) != asked.sweep.name:
        raise UsageError(
            f"{shown} holds the sweep {printable(str(name))!r}, not {asked.sweep.name!r}.", "Choose another --out."
        )


def _say(asked: Asked, aim: Aim, screen: Screen) -> None:
    sweep = asked.sweep
    screen.fact("Sweep", f"{sweep.name} · {count(sweep.trials, 'trial')} · {sweep.sampler} · pruner {sweep.pruner}")
    screen.fact("Space", *(f"{key}: {domain_words(domain)}" for key, domain in sweep.space.items()))
    better = "greater" if aim.way == "max" else "smaller"
    screen.fact("Aim", f"{aim.monitor} at the best epoch, {better} is better; test is held back")
    screen.fact("Trials", str(asked.out / JOURNAL) if asked.url is None else shown_url(asked.url))


def _look(asked: Asked, corners: list[Planned], screen: Screen, worker: Worker) -> None:
    """Go through all that trials do before their first step, once a network.

    Raises:
        ImgkitError: all that is wrong.
    """
    screen.fact("Check", f"{count(len(corners), 'point')} of the space as text; then data, network and plan")
    with hear_signals() as request:
        outcome = worker({"do": "look", "sweep": about_sweep(asked)}, request, lambda: None)
        if request.stop is not None:
            raise Interrupted("Stopped before the first trial.", "", signal=request.stop)
    if outcome.code != 0:
        raise outcome.error()
    found: Mapping[str, Mapping[str, Any]] = outcome.result
    for point, plan in found.items():
        screen.item("·", f"{plan['parameters']:,} parameters · {plan['steps']:,} steps at {point}")


def _score_test(asked: Asked, record: Record, screen: Screen, worker: Worker) -> None:
    """Score test of the chosen trial, unless that has been done, or its run is elsewhere.

    Raises:
        ImgkitError: what stopped it.
    """
    best = record.best
    if best is None:
        return
    folder = RunFolder(asked.out / best.run)
    if not folder.has_model:
        typed_there = f"imgkit evaluate {best.run} --runs {shlex.quote(str(asked.out))}"
        screen.note(f"{best.run} is not in {asked.out}; where it was trained ({best.host}), score it:  {typed_there}")
        return
    if not folder.read_json("run.json")["data"]["n"].get("test"):
        return
    with FileLock(asked.out / ".test.lock"), hear_signals() as request:
        if f"test@{weights_label(folder.read_json('status.json')['best'])}" in folder.evaluations():
            return
        screen.line()
        screen.fact("Test", f"of {best.run} alone, which validation chose")
        plugin = [word for file in asked.plugin for word in ("--plugin", file)]
        words = ["evaluate", best.run, "--runs", str(asked.out), "--split", "test", *plugin]
        outcome = worker({"do": "command", "words": words}, request, lambda: None)
        if request.stop is not None:
            raise Interrupted("Stopped before test was scored.", "The same command goes on.", signal=request.stop)
        if outcome.code != 0:
            raise outcome.error()
        try:
            write_run_page(folder)
        except Exception as error:  # the score is on the disk: no fault of its page may call the sweep failed
            screen.warn(f"The page of {best.run} was not written again: {type(error).__name__}: {error}")
