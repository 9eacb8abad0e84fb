import re

import pytest

from imgkit.errors import UsageError
from imgkit.exports.formats import Wish


@pytest.mark.parametrize("to", ["onnx", "timm", "torch-export"])
def test_what_only_int8_uses_is_refused_elsewhere(to: str) -> None:
    Wish(to, tolerance=0.1, images=1, max_size="95MiB").check()
    for more in ({"max_drop": 1.0}, {"calibration": 8}):
        with pytest.raises(UsageError, match=r"--(max-drop|calibration) is not used: it is for --to onnx-int8"):
            Wish(to, **more).check()


def test_int8_has_no_tolerance_of_logits() -> None:
    Wish("onnx-int8", max_drop=0.0, calibration=1, max_size="none").check()
    with pytest.raises(UsageError, match="--tolerance is not used: int8 rounds"):
        Wish("onnx-int8", tolerance=0.1).check()


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish("onx"), "--to 'onx' is not known (did you mean 'onnx'?)."),
        (Wish("onnx", images=0), "--images: must be at least 1, got 0."),
        (Wish("onnx", tolerance=-1.0), "--tolerance: must be at least 0, got -1."),
        (Wish("onnx", tolerance=float("nan")), "--tolerance: must be at least 0, got nan."),
        (Wish("onnx-int8", max_drop=float("inf")), "--max-drop: must be at least 0, got inf."),
        (Wish("onnx-int8", calibration=0), "--calibration: must be at least 1, got 0."),
        (Wish("onnx", max_size="100"), "--max-size: '100' has no unit"),
    ],
)
def test_what_is_out_of_range_is_named(wish: Wish, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        wish.check()
