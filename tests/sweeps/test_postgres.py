"""Workers that share a real PostgreSQL, in one folder and in two, of which one is killed."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pretended_sweeps import begun, go, in_a_fork, none_lost_or_doubled, pretending, wait_for, write_sweep

from imgkit.errors import DiskError
from imgkit.sweeps import storage
from imgkit.sweeps.plan import Asked, ask
from imgkit.sweeps.record import read_record

pytestmark = pytest.mark.slow


def of_the_server(name: str) -> str:
    """A program of PostgreSQL; Debian has them beside the path."""
    found = [*map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), shutil.which(name)]
    if found[0] is None:
        pytest.skip(f"there is no PostgreSQL here ({name} is missing): apt-get install postgresql")
    return found[0]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A cluster of its own, reached through a socket; its server does not run as root."""
    initdb, control = of_the_server("initdb"), of_the_server("pg_ctl")
    place = Path(tempfile.mkdtemp(prefix="pg"))
    who: dict[str, Any] = {}
    if os.getuid() == 0:
        with suppress(KeyError):
            who = {"user": pwd.getpwnam("postgres").pw_uid, "group": pwd.getpwnam("postgres").pw_gid}
        if not who:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        os.chown(place, who["user"], who["group"])

    def run(*words: str) -> None:
        subprocess.run(words, check=True, cwd=place, stdout=subprocess.DEVNULL, **who)

    try:
        run(initdb, "-D", str(place / "db"), "-U", "me", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={place} -c fsync=off"
        run(control, "-D", str(place / "db"), "-o", options, "-l", str(place / "log"), "-w", "start")
        try:
            yield f"postgresql://me@/postgres?host={place}"
        finally:
            run(control, "-D", str(place / "db"), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def database(url: str, request: pytest.FixtureRequest) -> str:
    """An empty database."""
    name = f"d{abs(hash(request.node.name))}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return url.replace("/postgres?", f"/{name}?")


def asked_in(folder: Path, trials: int, url: str) -> Asked:
    return ask(write_sweep(folder, trials), out=folder / "out", storage=url)


def test_three_workers_of_which_one_is_killed(tmp_path: Path, database: str) -> None:
    asked = asked_in(tmp_path, 9, database)
    workers = [in_a_fork(lambda: go(asked, pretending(epoch_s=0.2))) for _ in range(3)]
    wait_for(tmp_path, 3)
    os.kill(workers[1], signal.SIGKILL)
    ends = [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]
    assert ends == [0, -signal.SIGKILL, 0]
    none_lost_or_doubled(tmp_path, 9)


def test_a_dead_worker_of_another_folder_is_noticed_and_its_values_are_drawn_once_more(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "HEARTBEAT_S", 1)
    monkeypatch.setattr(storage, "GRACE_S", 3)
    monkeypatch.setattr("imgkit.sweeps.work.HEARTBEAT_S", 0.5)
    here, there = tmp_path / "here", tmp_path / "there"
    other = in_a_fork(lambda: go(asked_in(there, 5, database), pretending(epoch_s=0.3)))
    wait_for(there, 1)
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    go(asked_in(here, 5, database), pretending(epoch_s=0.3))
    record = read_record(here / "out")
    assert record is not None
    assert len(record.rows) == 5
    assert {row.state for row in record.rows} <= {"finished", "pruned"}
    assert len({row.params["phases.head.lr"] for row in record.rows}) == 5
    assert sorted(row.run for row in record.rows) == sorted(begun(here / "out"))
    assert begun(there / "out") == ["trial0000-seed0"], "whose values are now those of a trial here"
    assert "trial0000-seed0" not in {row.run for row in record.rows}


def test_a_worker_that_dies_as_it_draws_leaves_no_trial_behind(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "HEARTBEAT_S", 1)
    monkeypatch.setattr(storage, "GRACE_S", 2)
    here, there = tmp_path / "here", tmp_path / "there"

    def dies() -> None:
        monkeypatch.setattr(storage.Trials, "beat", lambda self, trial: os.kill(os.getpid(), signal.SIGKILL))
        go(asked_in(there, 3, database), pretending())

    other = in_a_fork(dies)
    assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == -signal.SIGKILL
    go(asked_in(here, 3, database), pretending())
    record = read_record(here / "out")
    assert record is not None
    assert [row.state for row in record.rows] == ["finished"] * 3


def test_a_database_that_is_not_there_is_told_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(DiskError) as caught:
        go(asked_in(tmp_path, 2, "postgresql://me:secret@127.0.0.1:1/x"), pretending())
    assert "Cannot keep trials in postgresql://me:…@127.0.0.1:1/x" in caught.value.message
    assert "secret" not in str(caught.value)
