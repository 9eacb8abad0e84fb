"""Exports of one run: whole or not there, and proved on its pictures."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from exported_run import files_of, proof_in, trained, with_network
from pictures import TreeHash
from torch import nn

import imgkit
from imgkit.errors import DataError, DiskError, GateError, UsageError, WeightsError
from imgkit.exports import export, graph
from imgkit.exports.export import drawn
from imgkit.exports.proof import ask_both
from imgkit.models.folder import load_model_folder
from imgkit.screen import Screen

ONNX = {"model.json", "model.onnx", "predict_onnx.py", "verify.json"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> imgkit.Run:
    place = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(place / "cache"))
        return trained(place)


@pytest.fixture
def place(run: imgkit.Run) -> Path:
    found = run.folder.path / "exports"
    shutil.rmtree(found, ignore_errors=True)
    return found


def off_by(amount: float) -> Callable[[Path], nn.Module]:
    """`load_timm` of weights that are a little other ones."""

    def load(folder: Path) -> nn.Module:
        model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
        with torch.no_grad():
            model.get_classifier().bias[0] += amount
        return model.eval()

    return load


def test_onnx_stands_alone(run: imgkit.Run, place: Path, tree_hash: TreeHash) -> None:
    pytest.importorskip("onnx")
    pictures = run.folder.path.parent.parent / "in"
    before = tree_hash(pictures)
    done = run.export("onnx")
    assert tree_hash(pictures) == before
    assert (set(files_of(place / "onnx")), files_of(place)) == (ONNX, ["onnx"])
    n = len(run.metrics["val@" + next(iter(run.metrics)).split("@")[1]]) and done["n"]
    assert done["exported"]["max_abs_logit"] <= 1e-4
    assert (done["exported"]["same"], done["from_files"]["same"], done["from_files"]["same_pixels"]) == (n, n, n)
    assert proof_in(run, "onnx") == {key: value for key, value in done.items() if key != "folder"}

    # In a process that has neither imgkit nor torch, on pictures, a folder and what is none.
    block = "import sys\nfor name in ('imgkit', 'torch', 'timm', 'torchvision'): sys.modules[name] = None\n"
    code = f"{block}sys.argv = sys.argv[1:]\nimport runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    bad = place / "bad.png"
    bad.write_bytes(b"no picture")
    words = [str(place / "onnx" / "predict_onnx.py"), "--json", "--threads", "1", str(pictures), str(bad)]
    shown = subprocess.run([sys.executable, "-I", "-W", "error", "-c", code, *words], capture_output=True, check=True)
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    answers = list(run.predict([pictures], precision="float32"))
    assert [row["path"] for row in rows[:-1]] == [answer.path for answer in answers]
    for row, answer in zip(rows, answers, strict=False):
        assert row["labels"] == list(answer.labels)
        assert np.allclose(list(row["probs"].values()), answer.probs, atol=1e-4)
    assert rows[-1]["error"]
    assert rows[-1]["labels"] == []
    assert shown.stderr == b""
    if os.name == "posix":  # a reader that is gone, as of `| head`, is no traceback
        reads, writes = os.pipe()
        os.close(reads)
        cut = subprocess.run([sys.executable, words[0], str(bad)], stdout=writes, stderr=subprocess.PIPE, check=False)
        os.close(writes)
        assert cut.stderr == b""


def test_torch_export_holds_no_pickle(run: imgkit.Run, place: Path) -> None:
    done = run.export("torch-export", images=5, tolerance=1e-4)
    assert (done["n"], done["of"] > 5) == (5, True)
    file = place / "torch-export" / "model.pt2"
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert not any(content.startswith((b"\x80", b"PK")) for name, content in contents.items() if "weight_" not in name)
    assert all(b'"use_pickle": true' not in content for content in contents.values())
    program = torch.export.load(file).module()
    loaded = load_model_folder(run.folder.path / "model")
    for images in (1, 3):
        pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8)
        assert torch.allclose(program(pixels), loaded.model(loaded.preprocessing.normalise(pixels)), atol=1e-5)
    about = json.loads((place / "torch-export" / "model.json").read_text())
    assert about["classes"] == ["a", "b"]
    assert about["temperature"] == loaded.calibration.temperature
    assert about["preprocessing"] == loaded.preprocessing.to_dict()


def test_plain_timm_and_imgkit_load_the_folder(run: imgkit.Run, place: Path) -> None:
    done = run.export("timm")
    assert done["exported"]["max_abs_logit"] == 0.0
    source = load_model_folder(run.folder.path / "model")
    images = torch.randn(2, 3, 32, 32)
    for model in (
        timm.create_model(f"local-dir:{place / 'timm'}", pretrained=True).eval(),
        load_model_folder(place / "timm").model,
    ):
        assert torch.equal(model(images), source.model(images))
    config = json.loads((place / "timm" / "config.json").read_text())
    assert "num_classes" not in config["model_args"], "Transformers gives it itself"
    assert config["num_classes"] == config["pretrained_cfg"]["num_classes"] == len(config["label_names"]) == 2
    card = (place / "timm" / "README.md").read_text()
    assert str(run.folder.path.parent.parent) not in card + json.dumps(config), "no place on this machine is told"
    metrics = next(iter(run.metrics.values()))
    assert f"{100 * metrics['f1_macro']:.1f} %" in card


def test_transformers_wrapper_has_the_same_logits(run: imgkit.Run, place: Path) -> None:
    transformers = pytest.importorskip("transformers")
    run.export("timm", images=2)
    model = transformers.AutoModelForImageClassification.from_pretrained(place / "timm").eval()
    images = torch.randn(2, 3, 32, 32)
    source = load_model_folder(run.folder.path / "model").model
    assert torch.allclose(model(images).logits, source(images), rtol=0, atol=1e-6)
    assert model.config.id2label == {0: "a", 1: "b"}


def test_a_network_that_answers_otherwise_leaves_no_export(
    run: imgkit.Run, place: Path, monkeypatch: pytest.MonkeyPatch, tree_hash: TreeHash
) -> None:
    monkeypatch.setattr(export, "load_timm", off_by(0.01))
    with pytest.raises(GateError, match=r"on the same pixels a logit is 0\.01 away, over the limit of 0\.001") as told:
        run.export("timm")
    assert told.value.exit_code == 8
    assert files_of(place) == ["timm-refused.json"]
    assert json.loads((place / "timm-refused.json").read_text())["exported"]["max_abs_logit"] > 0.009
    assert run.export("timm", tolerance=0.1)["faults"] == []
    assert files_of(place) == ["timm"], "what was refused is told no more"
    before = tree_hash(place / "timm")
    with pytest.raises(GateError):
        run.export("timm")
    assert tree_hash(place / "timm") == before, "the export that was there stays"


def test_pixels_that_timms_transform_makes_are_looked_at(
    run: imgkit.Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = timm.data.create_transform
    monkeypatch.setattr("timm.data.create_transform", lambda **config: original(**config | {"crop_pct": 0.5}))
    with pytest.raises(GateError, match="from the pictures' files a logit is"):
        run.export("timm")
    assert files_of(place) == ["timm-refused.json"]


@pytest.mark.parametrize("given", [{"max_size": "10kB"}, {}])
def test_a_file_over_the_limit_is_not_kept(run: imgkit.Run, place: Path, tmp_path: Path, given: dict[str, str]) -> None:
    copy = imgkit.Run(type(run.folder)(tmp_path / "runs" / "run"))
    shutil.copytree(run.folder.path, copy.folder.path)
    if not given:
        about = copy.folder.read_json("run.json")
        about["budget"] = {"size": {"limit": "10kB", "origin": "--max-size", "most": 10_000.0}}
        copy.folder.write_json("run.json", about)
    with pytest.raises(GateError, match=r"model\.safetensors takes [0-9,.]+ kB, over the limit of 10kB \(--max-size\)"):
        copy.export("timm", **given)
    assert files_of(copy.folder.path / "exports") == []
    copy.export("timm", max_size="none", images=1)
    assert files_of(copy.folder.path / "exports") == ["timm"]


def test_runs_that_are_not_finished_or_damaged_are_refused(run: imgkit.Run, tmp_path: Path) -> None:
    def copied(name: str) -> imgkit.Run:
        shutil.copytree(run.folder.path, tmp_path / name)
        return imgkit.Run(type(run.folder)(tmp_path / name))

    going = copied("going")
    going.folder.set_status("running", step=1, total_steps=9)
    with pytest.raises(UsageError, match="is still running"):
        going.export("timm")
    unfinished = copied("unfinished")
    shutil.rmtree(unfinished.folder.path / "model")
    with pytest.raises(UsageError, match="has no finished model yet"):
        unfinished.export("timm")
    damaged = copied("damaged")
    weights = damaged.folder.path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DiskError, match="cannot be read"):
        damaged.export("timm")
    moved = copied("moved")
    about = moved.folder.read_json("run.json")
    about["data"]["root"] = str(tmp_path / "nowhere")
    moved.folder.write_json("run.json", about)
    with pytest.raises(DataError, match="is gone: the data changed"):
        moved.export("timm")
    assert moved.export("timm", root=run.folder.path.parent.parent / "in", images=1)["n"] == 1
    for one in (going, unfinished, damaged):
        assert files_of(one.folder.path / "exports") == []


def test_a_full_disk_leaves_nothing(run: imgkit.Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "write_timm", full)
    with pytest.raises(DiskError, match="No space left on device"):
        run.export("timm")
    assert files_of(place) == []


def test_packages_that_are_not_installed_are_named(run: imgkit.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for to in ("onnx", "onnx-int8"):
        with pytest.raises(UsageError, match=r"of which onnxruntime is not installed") as told:
            run.export(to)
        assert "pip install 'imgkit-timm[export]'" in told.value.hint


def test_heads_that_timm_does_not_make_are_refused(run: imgkit.Run, tmp_path: Path) -> None:
    other = imgkit.Run(type(run.folder)(tmp_path / "other"))
    shutil.copytree(run.folder.path, other.folder.path)
    config = json.loads((other.folder.path / "model" / "config.json").read_text())
    config["imgkit"]["head"] = "mlp:8"
    with pytest.raises(UsageError, match="The head of this run is mlp:8, which timm does not make"):
        export.check_head(config)


def test_a_network_without_a_graph_is_told(run: imgkit.Run) -> None:
    class Counting(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(1, 2, 3)).unsqueeze(1) if images.sum() > 0 else images[:, 0, 0, :2]

    rule = load_model_folder(run.folder.path / "model").preprocessing
    with pytest.raises(WeightsError, match="torch cannot make a graph of this network"):
        graph.traced(graph.OfPixels(Counting(), rule), rule)


def test_images_are_drawn_by_key(run: imgkit.Run) -> None:
    from imgkit.evaluate import read_index

    index = read_index(run.folder, run.folder.read_json("run.json"))
    every = drawn(index, "val", 10_000, 0)
    assert np.array_equal(every, index.rows("val"))
    some: Any = drawn(index, "train", 7, 3)
    assert np.array_equal(some, drawn(index, "train", 7, 3))
    assert len(set(some.tolist()) & set(index.rows("train").tolist())) == 7
    assert not np.array_equal(some, drawn(index, "train", 7, 4))
    with pytest.raises(UsageError, match="has no test images"):
        drawn(index, "test", 7, 3)


def test_the_export_is_asked_in_batches_of_several_sizes(run: imgkit.Run) -> None:
    from imgkit.evaluate import read_index

    loaded = load_model_folder(run.folder.path / "model")
    index, sizes = read_index(run.folder, run.folder.read_json("run.json")), list[int]()

    def exported(pixels: np.ndarray) -> np.ndarray:
        sizes.append(len(pixels))
        with torch.no_grad():
            return loaded.model(loaded.preprocessing.normalise(torch.from_numpy(pixels))).numpy()

    for images, expected in ((32, [31, 1]), (35, [32, 2, 1]), (33, [32, 1])):
        sizes.clear()
        found = ask_both(loaded, exported, index, np.arange(images), 10**6, Screen(quiet=True))
        assert sizes == expected
        assert np.allclose(found.exported, found.source, atol=1e-4)


def test_greys_are_exported_as_greys(run: imgkit.Run, tmp_path: Path) -> None:
    grey = with_network(run, tmp_path, "test_convnext", 32, in_chans=1)
    done = grey.export("timm", images=4)
    assert done["from_files"]["max_abs_logit"] <= 1e-4
