"""`imgkit study`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_run import Run
from study_worker import LISTED, PLUGIN, forking, plugins_forgotten, write_study

import imgkit as package
from imgkit.studies.file import shipped_studies

pytest_plugins = ["cli_fixture"]


@pytest.fixture(autouse=True, scope="module")
def _no_plugin_is_left() -> Iterator[None]:
    with plugins_forgotten():
        yield


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Jobs in forks; those that were done."""
    jobs: list[Any] = []
    monkeypatch.setattr("imgkit.studies.conduct.conduct.__kwdefaults__", {"dry_run": False, "worker": forking(jobs)})
    return jobs


def test_the_studies_that_come_with_imgkit_are_listed_and_printed(imgkit: Run) -> None:
    code, out, _ = imgkit("study")
    assert code == 0
    assert all(name in out for name in shipped_studies())
    code, out, _ = imgkit("study", "r3-loss-attention", "--print")
    assert (code, out) == (0, shipped_studies()["r3-loss-attention"].read_text())
    code, out, err = imgkit("study", "r3-los-attention")
    assert (code, out) == (2, "")
    assert "did you mean 'r3-loss-attention'?" in err


def test_a_study_from_the_file_to_the_table_and_again(
    imgkit: Run, forks: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, LISTED, "[0]")
    words = ["study", "small.toml", "--plugin", str(PLUGIN), "--set", "train.batch_size=4"]
    code, out, err = imgkit(*words)
    assert code == 0
    assert "Differences on test" in out
    assert "slow − fast" in out
    assert "runs/small/study.md" in err
    assert "Over the file: `--set train.batch_size=4`" in (tmp_path / "runs" / "small" / "study.md").read_text()
    forks.clear()
    assert imgkit(*words)[0] == 0
    assert forks == []
    code, _, err = imgkit("study", "small.toml", "--plugin", str(PLUGIN))
    assert code == 2
    assert "train.batch_size 4 there, 8 here" in " ".join(err.split())
    result = package.study("small.toml", plugin=PLUGIN, sets=["train.batch_size=4"])
    assert (result.folder, result.failed) == (Path("runs/small"), {})
    gaps = [row for row in result.rows if (row["kind"], row["quantity"]) == ("gap", "top1")]
    assert [row["subject"] for row in gaps] == ["fast", "slow"]
    assert gaps[0]["half"] is None
    assert gaps[0]["values"] == {0: gaps[0]["mean"]}


def test_the_exit_code_is_that_of_a_run_that_failed(
    imgkit: Run, forks: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, LISTED.replace("1e-2", "1e30"), "[0]")
    code, out, err = imgkit("study", "small.toml", "--plugin", str(PLUGIN))
    assert code == 6
    assert "slow" in out
    assert "warning: fast-seed0 failed with exit code 6" in err


def test_lr_is_set_for_all_variants_as_in_the_base(
    imgkit: Run, forks: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, LISTED.replace("lr = ", '"train.weight_decay" = '))
    words = ["study", "small.toml", "--plugin", str(PLUGIN), "--dry-run", "--smoke"]
    code, _, err = imgkit(*words, "--set", "lr=0.03")
    assert code == 0, err
    assert "lr 0.03" in err or "lr=0.03" in err
    write_study(tmp_path, LISTED)
    code, _, err = imgkit(*words, "--set", "lr=0.03")
    assert code == 2
    assert "and 0.03 by --set; give it once" in " ".join(err.split())


def test_a_dry_run_writes_nothing(
    imgkit: Run, forks: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, LISTED)
    code, out, err = imgkit("study", "small.toml", "--plugin", str(PLUGIN), "--dry-run", "--smoke")
    assert (code, out) == (0, "")
    assert "slow-seed1 · my_tiny_net · 2 steps (all 2)" in err
    assert [job["do"] for job in forks] == ["look"]
    assert not (tmp_path / "runs").exists()
