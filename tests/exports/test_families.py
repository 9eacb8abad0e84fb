"""Networks of eight families, and the forms of tasks and heads, exported and compared on real pictures."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from exported_run import proof_in, trained, with_network
from multilabel_data import write_patches

import imgkit
from imgkit.errors import GateError
from imgkit.exports.int8 import TRIALS
from imgkit.predict import expand_inputs

pytestmark = pytest.mark.slow

FAMILIES = {
    "resnet18": 32,
    "vgg11_compact": 64,
    "test_convnext": 32,
    "tf_efficientnet_lite0": 32,
    "vit_tiny_patch16_224": 32,
    "swin_tiny_patch4_window7_224": 64,
    "mobilenetv4_conv_small": 32,
    "cbam_resnet50": 32,
}
OPTIONS = {
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 3},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "depths": (1, 1, 2, 1)},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> imgkit.Run:
    pytest.importorskip("onnx")
    place = tmp_path_factory.mktemp("families")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(place / "cache"))
        return trained(place)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_answers_as_its_source(run: imgkit.Run, tmp_path: Path, name: str) -> None:
    other = with_network(run, tmp_path, name, FAMILIES[name], **OPTIONS.get(name, {}))
    for to in ("onnx", "torch-export", "timm"):
        done = other.export(to, max_size="none")
        assert done["exported"]["max_abs_logit"] <= 1e-3, to
        assert done["exported"]["same"] == done["n"], to
    assert proof_in(other, "onnx")["from_files"]["same_pixels"] == done["n"]
    assert proof_in(other, "timm")["exported"]["max_abs_logit"] == 0.0


@pytest.mark.parametrize("name", ["trained", "vit_tiny_patch16_224"])
def test_int8_is_smaller_and_says_what_it_costs(run: imgkit.Run, tmp_path: Path, name: str) -> None:
    other = run if name == "trained" else with_network(run, tmp_path, name, FAMILIES[name], **OPTIONS[name])
    done = other.export("onnx-int8", max_drop=100.0, calibration=12)
    tried = done["int8"]["distances"]
    assert list(tried) == list(TRIALS if name != "trained" else TRIALS[:2])
    assert done["int8"]["chosen"] == min(tried, key=tried.get)
    assert done["int8"]["n"] == 12
    weights = (other.folder.path / "model" / "model.safetensors").stat().st_size
    assert done["files"]["model.onnx"]["bytes"] < 0.45 * weights
    assert set(done["files"]) == {"model.json", "model.onnx", "predict_onnx.py"}
    assert 0 < done["exported"]["max_abs_logit"] < 3
    again = other.export("onnx-int8", max_drop=100.0, calibration=12)
    assert again["exported"] == done["exported"], "the draw is keyed"


def test_int8_that_costs_too_much_is_refused(run: imgkit.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from imgkit.exports.int8 import Session

    original = Session.__call__
    monkeypatch.setattr(Session, "__call__", lambda self, pixels: -original(self, pixels))
    with pytest.raises(GateError, match=r"macro F1 falls by [0-9.]+ points, over the limit of 1 \(--max-drop\)"):
        run.export("onnx-int8", calibration=8)
    assert (run.folder.path / "exports" / "onnx-int8-refused.json").is_file()


def test_sets_of_labels_are_answered_by_the_script(tmp_path: Path) -> None:
    table = write_patches(tmp_path / "patches", 150)
    sets = ("data.label_delimiter=;", "data.label_col=labels", "data.split_col=split", "data.task=multilabel")
    run = trained(tmp_path, *sets, data=str(table))
    done = run.export("onnx")
    assert done["exported"]["same"] == done["n"]
    about = json.loads((run.folder.path / "exports" / "onnx" / "model.json").read_text())
    assert set(about["thresholds"]) == set(about["classes"])
    model = runpy.run_path(str(run.folder.path / "exports" / "onnx" / "predict_onnx.py"))["Model"](threads=1)
    paths = [given.file for given in expand_inputs([tmp_path / "patches"]) if given.file.endswith(".png")][:40]
    for answer in run.predict(paths, precision="float32"):
        labels, probs = model.answer(answer.path)
        assert sorted(labels) == sorted(answer.labels)
        assert np.allclose(list(probs.values()), answer.probs, atol=1e-5)


def test_a_head_of_several_layers_is_exported(tmp_path: Path) -> None:
    run = trained(
        tmp_path, "model.head=mlp:8", 'phases.head.solver="sgd"', "phases.head.epochs=1", "phases.head.lr=1e-3"
    )
    for to in ("onnx", "torch-export"):
        assert run.export(to)["exported"]["max_abs_logit"] <= 1e-4
