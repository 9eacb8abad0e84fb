"""The stand-alone script makes of every file what imgkit makes of it."""

import json
import runpy
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import corpus
import numpy as np
import pytest
from PIL import Image

from imgkit.calibration import Calibration
from imgkit.cells import guarded
from imgkit.data.decode import load_image
from imgkit.data.preprocessing import RESAMPLING, Preprocessing
from imgkit.data.rows import EXTENSIONS
from imgkit.errors import BadImage
from imgkit.predict import answer_of

MOST = 4_000_000


@pytest.fixture(scope="module")
def script() -> SimpleNamespace:
    pytest.importorskip("onnxruntime")
    return SimpleNamespace(**runpy.run_path(str(files("imgkit.exports") / "predict_onnx.txt")))


def rule(**values: Any) -> Preprocessing:  # noqa: ANN401
    usual = {"size": (24, 24), "crop_pct": 0.9, "interpolation": "bicubic", "mean": (0.5, 0.4, 0.3), "std": (0.2,) * 3}
    return Preprocessing(**{**usual, **values})


def theirs(script: SimpleNamespace, path: Path, mine: Preprocessing) -> np.ndarray | None:
    try:
        values = json.loads(json.dumps(mine.to_dict()))
        return script.fitted(script.load(path, MOST, values), values)
    except Exception:
        return None


def ours(path: Path, mine: Preprocessing) -> np.ndarray | None:
    try:
        return mine(load_image(path, max_pixels=MOST, min_side=mine.min_side)).numpy()
    except BadImage:
        return None


@pytest.mark.parametrize("mine", [rule(), rule(mean=(0.5,), std=(0.2,), fit="letterbox")], ids=["colours", "greys"])
def test_every_odd_picture_gives_the_same_pixels(script: SimpleNamespace, tmp_path: Path, mine: Preprocessing) -> None:
    seen = 0
    for case in corpus.cases(tmp_path):
        if not case.path.is_file():
            continue
        expected, found = ours(case.path, mine), theirs(script, case.path, mine)
        if expected is None and found is None:
            continue
        assert found is not None, case.path.name
        assert expected is not None, case.path.name
        assert np.array_equal(found, expected), case.path.name
        seen += 1
    assert seen > 25


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("name", RESAMPLING)
def test_every_rule_gives_the_same_pixels(script: SimpleNamespace, tmp_path: Path, fit: str, name: str) -> None:
    rng = np.random.default_rng(1)
    for number, size in enumerate([(24, 24), (31, 57), (90, 33), (1, 40), (3, 400), (500, 2)]):
        file = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(file)
        for values in ({}, {"size": (20, 31)}, {"crop_pct": 1.0}, {"size": (31, 20), "crop_pct": 0.7}):
            mine = rule(fit=fit, interpolation=name, **values)
            assert np.array_equal(theirs(script, file, mine), ours(file, mine)), (size, values)


def test_a_large_jpeg_is_decoded_at_the_same_scale(script: SimpleNamespace, tmp_path: Path) -> None:
    file = tmp_path / "large.jpg"
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (600, 800, 3), dtype=np.uint8)).save(file)
    assert np.array_equal(theirs(script, file, rule()), ours(file, rule()))


@pytest.mark.parametrize("thresholds", [None, {"x": 0.3, "y": 0.95, "z": 0.5}])
def test_probabilities_and_answers_are_imgkits(script: SimpleNamespace, thresholds: dict[str, float] | None) -> None:
    logits = np.random.default_rng(3).normal(0, 30, (40, 3)).astype(np.float32)
    calibration = Calibration(1.7, thresholds, "val", 40)
    model = script.Model.__new__(script.Model)
    model.classes, model.about = ["x", "y", "z"], {"temperature": 1.7, "thresholds": thresholds}
    probs = calibration.probabilities(logits)
    assert np.allclose(model.probabilities(logits), probs, rtol=1e-12, atol=1e-300)
    model.pixels, model.logits = lambda number: number, lambda number: logits[number : number + 1]
    for number in range(40):
        answer = answer_of("", probs[number], model.classes, thresholds, 1)
        labels, told = model.answer(number)
        assert tuple(labels) == answer.labels
        assert np.allclose([told[name] for name in model.classes], answer.probs)


def test_cells_and_endings_are_imgkits(script: SimpleNamespace) -> None:
    assert script.EXTENSIONS == EXTENSIONS
    for cell in ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "a=1", "", "'=1", "''x", "x.png"):
        assert script.guarded(cell) == guarded(cell), cell
