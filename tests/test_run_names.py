"""Which run a name means where runs, studies or nothing are there."""

from pathlib import Path

import pytest

from imgkit.errors import UsageError
from imgkit.run import RunFolder


def leave(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").touch()
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "my depth"
    leave(folder / "deep-seed0")
    leave(folder / "flat-seed0")
    (folder / "study.toml").touch()
    leave(tmp_path / "runs" / "backup" / "old")  # of no study
    return tmp_path / "runs"


def test_runs_of_studies_are_named_where_there_are_no_others(study: Path) -> None:
    told = "There are runs of studies, such as my depth/deep-seed0; all of that one:  "
    for name, message in (
        ("latest", f"There is no run in {study}."),
        ("zzz", f"There is no run called 'zzz' in {study}."),
    ):
        with pytest.raises(UsageError) as caught:
            RunFolder.open(name, study)
        assert (caught.value.message, caught.value.hint) == (message, f"{told}imgkit report '{study}/my depth'")
    assert RunFolder.open("my depth/deep-seed0", study).name == "deep-seed0"


def test_a_run_of_a_study_is_suggested_by_its_bare_name(study: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean 'my depth/flat-seed0'"):
        RunFolder.open("flat-seed0", study)
    leave(study / "other")
    with pytest.raises(UsageError, match=r"did you mean 'my depth/flat-seed0'") as caught:
        RunFolder.open("flat-seed0", study)
    assert caught.value.hint == f"The newest run is called latest; all of them: imgkit report {study}"


def test_a_folder_that_is_no_run_is_told(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (study / "half").mkdir()
    with pytest.raises(UsageError, match=r"half is no run: there is no run\.json in it"):
        RunFolder.open("half", study)
    monkeypatch.chdir(study.parent)
    for name in ("my depth", "runs/my depth"):
        with pytest.raises(UsageError, match="my depth is a folder of 2 runs, and no run itself") as caught:
            RunFolder.open(name, Path("runs"))
        assert "such as  'runs/my depth/deep-seed0'\n" in caught.value.hint
    monkeypatch.chdir(study)
    with pytest.raises(UsageError, match=r"There is no run called '\.' in"):
        RunFolder.open(".", study)


def test_nothing_at_all_says_how_to_train(tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match=r"no run in .*\nTrain one: imgkit finetune"):
            RunFolder.open("latest", out)
        with pytest.raises(UsageError, match="The newest run is called latest"):
            RunFolder.open("x", out)
