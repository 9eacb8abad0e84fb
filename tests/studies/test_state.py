"""What a study's folder remembers, and when a run counts as the one that is asked for."""

import json
from pathlib import Path

import pytest

from imgkit.errors import DiskError, UsageError
from imgkit.recipe.write import render
from imgkit.run import RunFolder
from imgkit.studies.file import read_study
from imgkit.studies.plan import Asked, plan_runs
from imgkit.studies.state import Memory, states, study_lock

TEXT = """schema = 1
name = "s"
verb = "{verb}"
recipe = "{recipe}"
model = "resnet18"
seeds = [0]
[base]
"data.path" = "digits"
[[variants]]
name = "a"
set = {{ {values} }}
"""


def ask(folder: Path, values: str = "", verb: str = "scratch", recipe: str = "scratch", **more: object) -> Asked:
    (folder / "s.toml").write_text(TEXT.format(values=values, verb=verb, recipe=recipe))
    return Asked(read_study(folder / "s.toml"), folder / "runs", **more)  # type: ignore[arg-type]


def leave_run(asked: Asked) -> RunFolder:
    """What a finished run of a study's only variant leaves, as far as a study looks."""
    (run,) = plan_runs(asked)
    folder = RunFolder(asked.out / run.name)
    (folder.path / "model").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "preprocessing.json", "calibration.json"):
        (folder.path / "model" / name).touch()
    folder.write_text("recipe.toml", render(run.loaded))
    folder.write_json("run.json", {"verb": asked.study.verb, "smoke": asked.smoke, "created": "2026"})
    folder.set_status("finished", step=8, total_steps=8, best={"step": 8})
    return folder


@pytest.mark.parametrize("recipe", ["scratch", "finetune", "probe", "finetune-focal-restarts"])
@pytest.mark.parametrize("smoke", [False, True])
def test_a_run_is_known_again_by_its_values(tmp_path: Path, recipe: str, smoke: bool) -> None:
    asked = ask(tmp_path, verb="finetune", recipe=recipe, smoke=smoke)
    assert states(asked, plan_runs(asked)) == {"a-seed0": "new"}
    folder = leave_run(asked)
    assert states(asked, plan_runs(asked)) == {"a-seed0": "done"}
    folder.set_status("running", step=3, total_steps=8)
    assert states(asked, plan_runs(asked)) == {"a-seed0": "begun"}


@pytest.mark.parametrize(
    "same",
    [
        '"train.ema" = 0.0',  # the default, written down
        '"run.workers" = 2, "run.device" = "cpu"',  # the machine
        "epochs = 50",  # as the recipe has it
    ],
)
def test_values_that_mean_the_same_are_no_change(tmp_path: Path, same: str) -> None:
    leave_run(ask(tmp_path))
    asked = ask(tmp_path, same)
    assert states(asked, plan_runs(asked)) == {"a-seed0": "done"}


@pytest.mark.parametrize("found", ["470", '"none"'])
def test_what_a_run_chose_by_a_measurement_is_no_other_value(tmp_path: Path, found: str) -> None:
    asked = ask(tmp_path)
    folder = leave_run(asked)
    text = (folder.path / "recipe.toml").read_text()
    assert "\n[data]\n" in text
    folder.write_text("recipe.toml", text.replace("\n[data]\n", f"\n[data]\nprepared = {found}\n"))
    assert states(asked, plan_runs(asked)) == {"a-seed0": "done"}
    other = ask(tmp_path, '"data.prepared" = 300')
    with pytest.raises(UsageError, match=f"data.prepared {found} there, 300 here"):
        states(other, plan_runs(other))


@pytest.mark.parametrize("measured", [True, False])
def test_a_number_format_is_another_value_only_where_it_was_asked_for(tmp_path: Path, measured: bool) -> None:
    asked = ask(tmp_path)
    folder = leave_run(asked)
    text = (folder.path / "recipe.toml").read_text()
    assert "\n[train]\n" in text
    folder.write_text("recipe.toml", text.replace("\n[train]\n", '\n[train]\nprecision = "bfloat16"\n'))
    about = folder.read_json("run.json")
    folder.write_json("run.json", about | {"format": {"precision": "bfloat16", "measured": measured}})
    if measured:
        assert states(asked, plan_runs(asked)) == {"a-seed0": "done"}
    else:
        with pytest.raises(UsageError, match=r'train.precision "bfloat16" there, "auto" here'):
            states(asked, plan_runs(asked))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": "lr = 2e-3"}, "phases.all.lr 0.001 there, 0.002 here"),
        ({"values": '"train.ema" = 0.9'}, "train.ema 0.0 there, 0.9 here"),
        ({"values": '"loss.name" = "focal"'}, 'loss.name "cross_entropy" there, "focal" here'),
        ({"values": '"model.options.stem_type" = "deep"'}, 'model.options.stem_type "none" there, "deep" here'),
        ({"data": "synthetic"}, 'data.path "digits" there, "synthetic" here'),
        (
            {"sets": ("phases.all.batch_size=4",)},  # the common one, which nothing reads any more, is the default's
            'train.batch_size 64 there, 32 here; phases.all.batch_size "none" there, 4 here',
        ),
        ({"smoke": True}, "smoke false there, true here; "),
        ({"verb": "finetune"}, 'verb "scratch" there, "finetune" here'),
    ],
)
def test_a_run_with_other_values_is_told_and_never_taken(tmp_path: Path, change: dict[str, str], words: str) -> None:
    leave_run(ask(tmp_path))
    asked = ask(tmp_path, **change)  # type: ignore[arg-type]
    with pytest.raises(UsageError) as caught:
        states(asked, plan_runs(asked))
    assert f"runs/a-seed0 was trained with other values: {words}" in caught.value.message


def test_many_differences_are_counted(tmp_path: Path) -> None:
    leave_run(ask(tmp_path))
    asked = ask(tmp_path, 'lr = 2e-3, "train.ema" = 0.9, "augment.hflip" = 0.1, "train.batch_size" = 8')
    with pytest.raises(UsageError, match="; and 1 more"):
        states(asked, plan_runs(asked))


def test_what_was_measured_counts_for_one_model_and_one_way(tmp_path: Path) -> None:
    folder = leave_run(ask(tmp_path))
    way = {"batch_size": 32, "warm_up": 3, "passes": 9}
    entry = {
        "created": "2026",
        "label": "8",
        "train_images": None,
        "train": "train@8",
        "inference": {**way, "seconds": 1},
    }
    memory = Memory({"a-seed0": entry})
    assert not memory.knows(folder, None, way), "the scores of the training images are gone"
    (folder.path / "evaluations" / "train@8").mkdir(parents=True)
    (folder.path / "evaluations" / "train@8" / "metrics.json").write_text("{}")
    assert memory.knows(folder, None, way)
    assert not memory.knows(folder, 100, way)
    assert not memory.knows(folder, None, way | {"batch_size": 1})
    folder.write_json("run.json", folder.read_json("run.json") | {"created": "2027"})
    assert not memory.knows(folder, None, way), "another run has that name now"
    assert not Memory().knows(folder, None, way)


def test_study_json_comes_back_and_damage_is_told(tmp_path: Path) -> None:
    assert Memory.read(tmp_path) == Memory()
    memory = Memory({"a": {"x": 1}}, {"b": {"code": 6}})
    memory.write(tmp_path)
    assert Memory.read(tmp_path) == memory
    assert memory.only(["a"]) == Memory({"a": {"x": 1}}, {})
    assert memory.only(["b", "c"]) == Memory({}, {"b": {"code": 6}})
    (tmp_path / "study.json").write_text(json.dumps({"schema": 2}))
    with pytest.raises(DiskError) as caught:
        Memory.read(tmp_path)
    assert "Remove it" in caught.value.hint


def test_one_process_works_on_a_study(tmp_path: Path) -> None:
    refused = pytest.raises(UsageError, match="Another process works on the study")
    with study_lock(tmp_path), refused, study_lock(tmp_path):
        pass
    with study_lock(tmp_path):
        pass
