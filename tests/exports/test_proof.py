"""What a comparison says, against counts by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from imgkit.calibration import Calibration
from imgkit.errors import GateError
from imgkit.exports.formats import Wish
from imgkit.exports.proof import Answers, lines_of, proof_of, refuse

CLASSES = ("a", "b", "c")


def loaded(thresholds: dict[str, float] | None = None) -> SimpleNamespace:
    task = "single" if thresholds is None else "multilabel"
    return SimpleNamespace(task=task, classes=CLASSES, calibration=Calibration(2.0, thresholds, "val", 60))


def answers(change: float, *, flips: int = 0, many: bool = False, same_pixels: int = 60) -> Answers:
    rng = np.random.default_rng(0)
    source = rng.normal(0, 3, (60, 3)).astype(np.float32)
    targets = (source > 0).astype(np.float32) if many else source.argmax(1).astype(np.int64)
    if not many:
        targets[:6] = (targets[:6] + 1) % 3
    other = source.copy()
    other[-1, 0] += np.float32(change)
    other[10 : 10 + flips] = -other[10 : 10 + flips]
    return Answers(np.arange(60), targets, source, other, source, same_pixels)


@pytest.mark.parametrize("flips", [0, 7])
def test_scores_and_differences_are_scikit_learns(flips: int) -> None:
    found = answers(0.0, flips=flips)
    proof = proof_of(found, loaded(), Wish("onnx-int8"), seed=0)
    before, after = (
        f1_score(found.targets, logits.argmax(1), average="macro") for logits in (found.source, found.exported)
    )
    assert proof["source"]["f1_macro"] == pytest.approx(before)
    assert proof["exported"]["f1_macro"] == pytest.approx(after)
    assert proof["exported"]["difference"]["f1_macro"] == pytest.approx(after - before)
    assert proof["exported"]["same"] == 60 - np.sum(found.source.argmax(1) != found.exported.argmax(1))
    assert proof["exported"]["top1"] == np.mean(found.exported.argmax(1) == found.targets)
    assert bool(proof["faults"]) is (100 * (before - after) > 1)


@pytest.mark.parametrize(("change", "good"), [(0.0009, True), (0.002, False), (float("nan"), False), (np.inf, False)])
def test_the_furthest_logit_decides(change: float, good: bool) -> None:
    proof = proof_of(answers(change), loaded(), Wish("onnx"), seed=0)
    assert (proof["faults"] == []) is good
    if good:
        assert proof["exported"]["max_abs_logit"] == pytest.approx(change, rel=1e-2)
        refuse(proof, kept=None)
    else:
        with pytest.raises(GateError, match="does not answer as the run's does"):
            refuse(proof, kept="exports/onnx-refused.json")


def test_the_limits_are_those_that_were_asked_for() -> None:
    assert proof_of(answers(0.02), loaded(), Wish("onnx", tolerance=0.05), seed=0)["faults"] == []
    (fault,) = proof_of(answers(0.02), loaded(), Wish("onnx", tolerance=0.01), seed=0)["faults"]
    assert "a logit is 0.02 away, over the limit of 0.01 (--tolerance)" in fault
    many = answers(0.0, flips=7)
    assert proof_of(many, loaded(), Wish("onnx-int8", max_drop=50.0), seed=0)["faults"] == []
    (fault,) = proof_of(many, loaded(), Wish("onnx-int8", max_drop=0.0), seed=0)["faults"]
    assert "over the limit of 0 (--max-drop); n = 60" in fault


@pytest.mark.parametrize("to", ["onnx", "onnx-int8"])
def test_other_pixels_are_a_fault_whatever_is_answered(to: str) -> None:
    (fault,) = proof_of(answers(0.0, same_pixels=58), loaded(), Wish(to), seed=0)["faults"]
    assert fault == "of 2 files it makes other pixels than the run did"


def test_labels_are_answered_from_their_thresholds_on() -> None:
    rule = loaded({"a": 0.5, "b": 0.9, "c": 0.5})
    found = answers(0.0, flips=5, many=True)
    proof = proof_of(found, rule, Wish("onnx-int8", max_drop=100.0), seed=0)
    probs = [
        1 / (1 + np.exp(-logits.astype(float) / 2)) >= [0.5, 0.9, 0.5] for logits in (found.source, found.exported)
    ]
    assert proof["exported"]["same"] == np.sum((probs[0] == probs[1]).all(axis=1))
    assert proof["exported"]["f1_macro"] == pytest.approx(f1_score(found.targets, probs[1], average="macro"))
    assert any("exact sets" in line for line in lines_of(proof))
