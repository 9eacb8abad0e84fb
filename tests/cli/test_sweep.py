"""`imgkit sweep`, and `imgkit report` of its folder."""

from pathlib import Path
from typing import Any

import pytest
from cli_run import Run
from pretended_sweeps import pretending, write_sweep

from imgkit.recipe.shipped import shipped_sweeps

pytest_plugins = ["cli_fixture"]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Runs are pretended; the jobs that were done."""
    found: list[Any] = []
    worker = pretending(jobs=found, tested=True)
    monkeypatch.setattr("imgkit.sweeps.conduct.conduct.__kwdefaults__", {"dry_run": False, "worker": worker})
    return found


def test_the_sweeps_that_come_with_imgkit_are_listed_and_printed(imgkit: Run) -> None:
    code, out, _ = imgkit("sweep")
    assert code == 0
    assert all(name in out for name in shipped_sweeps())
    code, out, _ = imgkit("sweep", "head", "--print")
    assert (code, out) == (0, shipped_sweeps()["head"].read_text())
    code, out, err = imgkit("sweep", "haed")
    assert (code, out) == (2, "")
    assert "did you mean 'head'?" in err


def test_a_dry_run_writes_nothing(
    imgkit: Run, jobs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep(tmp_path)
    code, out, err = imgkit("sweep", "small.toml", "--dry-run", "--smoke")
    assert (code, out) == (0, "")
    assert "phases.head.lr: 0.0001 to 0.1, logarithmic" in err
    assert "imgkit finetune test_resnet --recipe probe" in err
    assert [job["do"] for job in jobs] == ["look"]
    assert not (tmp_path / "runs").exists()


def test_from_the_file_to_the_table(
    imgkit: Run, jobs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep(tmp_path)
    code, out, _ = imgkit("sweep", "small.toml", "--trials", "5")
    assert code == 0
    assert "5 trials of 5: 5 finished." in " ".join(out.split())
    assert "Test was scored once, of the chosen trial alone" in " ".join(out.split())
    assert out.endswith("\nNext:  imgkit report runs/small\n")
    assert (tmp_path / "runs" / "small" / "sweep.toml").read_text() == (tmp_path / "small.toml").read_text()
    code, _, err = imgkit("sweep", "small.toml", "--set", "train.batch_size=4")
    assert code == 2
    assert "train.batch_size is searched by" in " ".join(err.split())
    code, _, err = imgkit("sweep", "small.toml", "--trials", "0")
    assert code == 2
    assert "--trials: must be at least 1" in err
