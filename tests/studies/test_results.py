"""What is read of finished runs, and what is said where a part of one is gone."""

import shlex
import shutil
from pathlib import Path

import pytest

from imgkit.errors import DiskError
from imgkit.run import RunFolder
from imgkit.studies.plan import Planned
from imgkit.studies.results import read_results
from imgkit.studies.schema import Variant
from imgkit.studies.state import Memory

SCORES = {"n": 5, "k": 5, "data": "d", "top1": 0.5, "topk": 0.75, "loss": 1.5, "f1_macro": 0.25}


def leave(out: Path, name: str, **best: object) -> Planned:
    """What a finished run leaves, as far as its results are read."""
    run = Planned(Variant(name, {}), 0, None, ())  # type: ignore[arg-type]
    folder = RunFolder(out / run.name)
    for part in ("model", "evaluations/val@8", "evaluations/val@8-mean2"):
        (folder.path / part).mkdir(parents=True)
        if part != "model":
            folder.write_json(f"{part}/metrics.json", {**SCORES, "top1": 0.5 + 0.1 * ("mean" in part)})
    for file in ("config.json", "model.safetensors", "preprocessing.json", "calibration.json"):
        (folder.path / "model" / file).touch()
    about = {"task": "single", "created": "2026", "parameters": 10, "model": "resnet18"}
    folder.write_json("run.json", about | {"format": {"precision": "bfloat16"}})
    folder.write_text("history.jsonl", '{"seconds": 2.0}\n{"seconds": 5.0}\n')
    folder.set_status("finished", step=8, total_steps=8, best={"step": 8, **best})
    return run


def test_scores_are_those_of_the_weights_that_were_kept(tmp_path: Path) -> None:
    runs = [leave(tmp_path, "one"), leave(tmp_path, "mean", mean_of=[4, 8])]
    one, mean = read_results(tmp_path, runs, Memory())
    assert (one.splits["val"].values["top1"], mean.splits["val"].values["top1"]) == (0.5, 0.6)
    assert (one.splits["val"].values["topk_error"], one.splits["val"].n, one.k) == (0.25, 5, 5)
    assert one.precision == "bfloat16"
    assert one.costs == {"parameters": 10.0, "epoch_s": 2.5}, "what was not measured is left out"


@pytest.mark.parametrize(("best", "name"), [({}, "val@8"), ({"mean_of": [4, 8]}, "val@8-mean2")])
def test_an_evaluation_that_was_removed_is_told_with_how_to_make_it_again(
    tmp_path: Path, best: dict[str, object], name: str
) -> None:
    out = tmp_path / "my study"
    runs = [leave(out, "a"), leave(out, "b", **best)]
    shutil.rmtree(out / "b-seed0" / "evaluations" / name)
    with pytest.raises(DiskError) as caught:
        read_results(out, runs, Memory())
    assert caught.value.message == f"{out}/b-seed0 has no evaluation {name} any more, and the table needs it."
    assert caught.value.hint == f"Make it again:  imgkit evaluate {shlex.quote(f'{out}/b-seed0')} --split val"
