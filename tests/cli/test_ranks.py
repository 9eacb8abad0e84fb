"""What the command line asks for, and refuses, where torchrun starts it."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from cli_run import Run

from imgkit.cli.ranks import follows, place

pytest_plugins = ["cli_fixture"]


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """As rank 0 of two."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("torchrun")
@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["report", "latest"], "imgkit report runs in one process, and torchrun started 2."),
        (["predict", "latest", "x.png", "--unlike", "0.9"], "--unlike is for one process, and torchrun started 2."),
        (["predict", "latest", "x.png", "--with", "other"], "--with is for one process, and torchrun started 2."),
        (["data", "check", "x"], "imgkit data runs in one process"),
        (["finetune", "resnet50"], "Under torchrun a run has a name and goes on where it was stopped"),
        (["finetune", "resnet50", "--name", "a"], "-m imgkit finetune MODEL --name NAME --resume auto"),
        (["finetune", "resnet50", "--resume", "auto"], "--resume auto goes on with a run of a known name."),
        (["finetune", "resnet50", "--name", "a", "--resume", "auto", "--dry-run"], "--dry-run is for one process"),
        (["scratch", "resnet50", "--name", "a", "--folds", "5"], "--folds is for one process"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_done(imgkit: Run, line: Sequence[str], told: str) -> None:
    code, _, err = imgkit(*line)
    assert code == 2
    assert told in " ".join(err.split())


def test_one_process_is_alone_and_follows_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place() is None
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert place() is None
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert place() == (0, 3)
    assert not follows()
    monkeypatch.setenv("RANK", "2")
    assert follows()


def test_a_follower_leaves_the_words_to_rank_0(imgkit: Run, monkeypatch: pytest.MonkeyPatch, torchrun: None) -> None:
    monkeypatch.setenv("RANK", "1")
    assert imgkit("models")[::2] == (2, "")


@pytest.mark.usefixtures("torchrun")
def test_folds_go_on_by_themselves(imgkit: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RANK")
    code, _, err = imgkit("finetune", "resnet50", "--name", "a", "--resume", "auto", "--folds", "5")
    assert code == 2
    assert "--resume is not used: --folds goes on with its trainings by itself." in " ".join(err.split())
