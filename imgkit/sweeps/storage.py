"""Where trials are kept: a journal in the sweep's folder, or PostgreSQL, both through Optuna.

A trial is RUNNING from the moment it is drawn to the moment its end is told. Who works on it holds a lock in the
sweep's folder, which the system frees when that process is gone, however it ended: a trial that is RUNNING and whose
lock is free is nobody's, and is gone on with. Workers in other folders cannot see that lock; with PostgreSQL they see
a heartbeat, by the clock of the database, and where it has stopped the trial's values are drawn once more.
"""

import json
import os
import re
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from imgkit.errors import DiskError, UsageError, brief, printable
from imgkit.keys import key
from imgkit.recipe.monitors import Way
from imgkit.run import replace_text
from imgkit.studies.schema import Variant
from imgkit.sweeps.library import Direction, direction_of, quiet, require_optuna
from imgkit.sweeps.plan import Asked
from imgkit.sweeps.space import distributions

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.storages.journal._file import BaseJournalFileLock
    from optuna.trial import FrozenTrial

JOURNAL = "study.journal"
HEARTBEAT_S = 30
"""From one heartbeat in a database to the next."""
GRACE_S = 300
"""After which a worker in another folder that gave none is taken for dead."""
_PLACE = ".place"
_ASKS = "imgkit"


class Trials:
    """The trials of a sweep, in whatever keeps them.

    Args:
        asked: the sweep.
        way: whether a greater value of a trial is better, or a smaller one.

    Raises:
        UsageError: if Optuna is missing, or the storage holds another sweep of that name.
        DiskError: if the storage cannot be reached.
    """

    def __init__(self, asked: Asked, way: Way) -> None:
        require_optuna()
        self.asked = asked
        self.place = _place(asked.out)
        with told(asked), quiet():
            self.storage = _storage(asked)
            self.study: Study = self._open(direction_of(way))

    @property
    def beats(self) -> bool:
        """Whether trials have heartbeats."""
        return self.asked.url is not None

    def all(self) -> "list[FrozenTrial]":
        """Every trial that counts, by number: not those that were drawn once more, and not those over the number."""
        from optuna.storages import RetryHeartbeatStaleTrialCallback as Again

        with told(self.asked), quiet():
            found = self.study.get_trials(deepcopy=False)
            again = {number for one in found for number in Again.retry_history(one)}
        return [one for one in found if one.number not in again and not one.user_attrs.get("surplus")]

    def draw(self) -> "Trial | None":
        """A new trial, or one that is to be done once more; None where there are as many as were asked for.

        Call it while no other worker of this folder does.
        """
        with told(self.asked), quiet():
            if self.beats:
                self._end_stale()
            found = self.all()
            if len(found) >= self.asked.sweep.trials and not any(is_waiting(one) for one in found):
                return None
            trial = self.study.ask()
            self.study.sampler = _sampler(self.asked, trial.number)
            self.beat(trial)  # before its place is told: see `_end_stale`
            trial.set_user_attr("place", self.place)
            if self.beats and sum(one.number < trial.number for one in self.all()) >= self.asked.sweep.trials:
                self._drop(trial)  # another folder's worker was quicker
                return None
            return trial

    def taken_up(self, number: int) -> "Trial | None":
        """A running trial of this folder, to go on with it; None where it has ended. Hold its lock."""
        import optuna

        with told(self.asked), quiet():
            (found,) = [one for one in self.study.get_trials(deepcopy=False) if one.number == number]
            if not is_running(found):
                return None
            trial = optuna.Trial(self.study, found._trial_id)
            self.study.sampler = _sampler(self.asked, number)
            trial.set_user_attr("place", self.place)
            self.beat(trial)
            return trial

    def is_ours(self, trial: "FrozenTrial") -> bool:
        """Whether the lock in this folder tells if somebody works on a trial."""
        return not self.beats or trial.user_attrs.get("place") == self.place

    def beat(self, trial: "Trial") -> None:
        """Say that somebody works on a trial."""
        from optuna.storages import RDBStorage

        if isinstance(self.storage, RDBStorage):
            self.storage.record_heartbeat(trial._trial_id)

    def close(self) -> None:
        """Give back the connections to a database."""
        from optuna.storages import RDBStorage

        if isinstance(self.storage, RDBStorage):
            self.storage.remove_session()
            self.storage.engine.dispose()

    def _end_stale(self) -> None:
        """Count trials as failed whose worker gives no sign of life, so that they are drawn once more."""
        from optuna.storages import RDBStorage, fail_stale_trials

        assert isinstance(self.storage, RDBStorage), "a journal has no heartbeats"
        for one in self.study.get_trials(deepcopy=False):
            began = one.datetime_start
            nobodys = is_running(one) and "place" not in one.user_attrs
            if nobodys and began is not None and (datetime.now() - began).total_seconds() > HEARTBEAT_S:
                # A worker died between its draw and its first sign of life, for want of which no trial is ever stale.
                self.storage.record_heartbeat(one._trial_id)
                self.storage.set_trial_user_attr(one._trial_id, "place", "")
        fail_stale_trials(self.study)

    def _drop(self, trial: "Trial") -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("surplus", True)
        self.study.tell(trial, state=TrialState.FAIL)

    def _open(self, direction: Direction) -> "Study":
        import optuna

        sweep = self.asked.sweep
        pruner = (
            optuna.pruners.MedianPruner(n_startup_trials=sweep.startup_trials, n_warmup_steps=sweep.warmup_epochs)
            if sweep.pruner == "median"
            else optuna.pruners.NopPruner()
        )
        study = optuna.create_study(
            study_name=sweep.name, storage=self.storage, direction=direction, pruner=pruner, load_if_exists=True
        )
        asks = _asks(self.asked, direction)
        there = study.user_attrs.get(_ASKS)
        if there is None:
            study.set_user_attr(_ASKS, asks)
        elif there != asks:
            changed = [name for name in asks if there.get(name) != asks[name]]
            theirs = " ".join(f"--set {shlex.quote(str(text))}" for text in there.get("--set", [])) or "without --set"
            raise UsageError(
                f"{self._where} holds trials of another sweep {sweep.name!r}: {', '.join(changed)} differ.",
                "Trials of two spaces cannot be compared: give this sweep another name, or choose another --out."
                + f"\nIt began with:  {theirs}" * ("--set" in changed),
            )
        return study

    @property
    def _where(self) -> str:
        url = self.asked.url
        return printable(str(self.asked.out)) if url is None else shown_url(url)


def is_running(trial: "FrozenTrial") -> bool:
    """Whether a trial was drawn and has not ended."""
    return trial.state.name == "RUNNING"


def is_waiting(trial: "FrozenTrial") -> bool:
    """Whether a trial is to be done once more, by whoever comes first."""
    return trial.state.name == "WAITING"


def shown_url(url: str) -> str:
    """A URL without its password, which may stand among its options, too."""
    password = urlsplit(url).password
    url = url if password is None else url.replace(f":{password}@", ":…@", 1)
    return printable(re.sub(r"(?i)(password=)[^&]*", r"\1…", url))


@contextmanager
def told(asked: Asked) -> Iterator[None]:
    """Raise a DiskError of what a storage says no to.

    Raises:
        DiskError: then.
    """
    from optuna.exceptions import StorageInternalError

    broken: tuple[type[Exception], ...] = (StorageInternalError, OSError, json.JSONDecodeError)
    if asked.url is not None:
        broken = (*broken, *_database_errors())
    try:
        yield
    except broken as error:
        if asked.url is None:
            where = asked.out / JOURNAL
            raise DiskError(f"Cannot keep trials in {printable(str(where))}: {brief(error)}", "") from error
        hint = "Is it up, and may this user write to it?  psql URL   A password: ~/.pgpass, or PGPASSWORD."
        raise DiskError(f"Cannot keep trials in {shown_url(asked.url)}: {brief(_cause(error))}", hint) from error


def _cause(error: BaseException) -> BaseException:
    """What the driver said, which the storage wraps."""
    return getattr(error, "orig", None) or (error.__cause__ and _cause(error.__cause__)) or error


def _database_errors() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import SQLAlchemyError

    return (SQLAlchemyError,)


def _storage(asked: Asked) -> "BaseStorage":
    """The storage, made where it is new.

    Raises:
        UsageError: if the database's driver is missing.
    """
    import optuna

    if asked.url is None:
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        file = str(asked.out / JOURNAL)
        lock = JournalFileOpenLock(file)
        _mend(Path(file), lock)
        return optuna.storages.JournalStorage(JournalFileBackend(file, lock_obj=lock))
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise UsageError(
            "PostgreSQL is reached through psycopg, which is not installed.",
            'Install it:  pip install "imgkit-timm[sweep]"',
        ) from None
    return optuna.storages.RDBStorage(
        "postgresql+psycopg://" + asked.url.partition("://")[2],
        engine_kwargs={"pool_pre_ping": True},  # a trial may take longer than a database keeps an idle connection
        heartbeat_interval=HEARTBEAT_S,
        grace_period=GRACE_S,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )


def _mend(file: Path, lock: "BaseJournalFileLock") -> None:
    """Take off a last line that a full disk or a kill cut: what comes after it could not be read."""
    if not file.is_file():
        return
    lock.acquire()
    try:
        content = file.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(file, whole)
    finally:
        lock.release()


def _sampler(asked: Asked, number: int) -> "BaseSampler":
    """The sampler of one trial: its draws follow from the sweep's seed and the trial's number, whoever asks."""
    import optuna

    seed = key("sweep", asked.sweep.seed, number) % 2**32
    if asked.sweep.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=asked.sweep.startup_trials, multivariate=True, constant_liar=True
    )


def _asks(asked: Asked, direction: str) -> dict[str, Any]:
    """What all trials of a sweep have in common, for comparison: whoever joins has to ask for the same."""
    from optuna.distributions import distribution_to_json

    study = asked.as_study([Variant("trial", {})]).study
    base = {
        key: flag.value for key, flag in study.base.items() if not key.startswith(("run.", "data.path", "data.root"))
    }
    asks: dict[str, Any] = json.loads(
        json.dumps(
            {
                "space": {key: distribution_to_json(one) for key, one in distributions(asked.sweep.space).items()},
                "base": base,
                "--set": [text for text in asked.sets if not text.strip().startswith("run.")],
                "recipe": f"{asked.sweep.verb} {asked.sweep.recipe}",
                "seed": asked.sweep.seed,
                "smoke": asked.smoke,
                "direction": direction,
            },
            default=str,
        )
    )
    return asks


def _place(out: Path) -> str:
    """What names this folder apart from others of the sweep, on whatever machine; made where it is new.

    Call it while no other worker of this folder does.
    """
    file = out / _PLACE
    if not file.is_file():
        replace_text(file, secrets.token_hex(8) + "\n")
    return file.read_text().strip()
