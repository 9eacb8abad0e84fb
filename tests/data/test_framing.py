import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rules import picture, rule
from torchvision.transforms import v2

from imgkit.data.framing import crop_box, cut, scaled_box
from imgkit.keys import uniforms


def test_crops_are_drawn_like_torchvision() -> None:
    image = Image.new("RGB", (50, 40))
    theirs = v2.RandomResizedCrop(8, scale=(0.3, 0.9), ratio=(0.7, 1.5))
    torch.manual_seed(0)
    expected = [
        (p["left"], p["top"], p["width"], p["height"]) for p in (theirs.make_params([image]) for _ in range(4000))
    ]
    boxes = [crop_box(uniforms(key, 64), 50, 40, (0.3, 0.9), (0.7, 1.5)) for key in range(4000)]
    ours = [(left, top, right - left, bottom - top) for left, top, right, bottom in boxes]
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.abs(np.quantile(ours, quantile, axis=0) - np.quantile(expected, quantile, axis=0)).max() <= 1
    assert np.abs(np.mean(ours, axis=0) - np.mean(expected, axis=0)).max() < 0.5


@settings(max_examples=200, deadline=None)
@given(
    key=st.integers(0, 2**64 - 1),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    low=st.floats(0.01, 1),
    wide=st.floats(0.2, 1),
)
def test_crop_lies_inside(key: int, width: int, height: int, low: float, wide: float) -> None:
    left, top, right, bottom = crop_box(uniforms(key, 64), width, height, (low, 1.0), (wide, 1 / wide))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@pytest.mark.parametrize(("width", "height", "box"), [(100, 10, (43, 0, 56, 10)), (10, 100, (0, 43, 10, 56))])
def test_centre_crop_where_no_draw_fits(width: int, height: int, box: tuple[int, ...]) -> None:
    assert crop_box(uniforms(0, 64), width, height, (1.0, 1.0), (3 / 4, 4 / 3)) == box


@settings(max_examples=200, deadline=None)
@given(
    key=st.integers(0, 2**64 - 1),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    low=st.floats(0.3, 1.5),
    span=st.floats(1, 2),
    fit=st.sampled_from(["crop", "squash"]),
    crop_pct=st.floats(0.5, 1),
)
def test_scaled_box_lies_inside_and_keeps_the_aspect(
    key: int, width: int, height: int, low: float, span: float, fit: str, crop_pct: float
) -> None:
    preprocessing = rule(32, fit=fit, crop_pct=crop_pct)
    left, top, right, bottom = scaled_box(uniforms(key, 64), width, height, preprocessing, (low, low * span))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    high, wide = preprocessing.resized(height, width)
    assert (right - left) * wide / width == pytest.approx((bottom - top) * high / height, rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    key=st.integers(0, 2**64 - 1), width=st.integers(20, 400), height=st.integers(20, 400), factor=st.floats(0.4, 2.0)
)
def test_with_bars_a_box_covers_the_picture_or_lies_in_it(key: int, width: int, height: int, factor: float) -> None:
    preprocessing = rule(32, fit="letterbox", crop_pct=1.0)
    box = scaled_box(uniforms(key, 64), width, height, preprocessing, (factor, factor))
    longest = max(width, height) / factor
    assert max(box[2] - box[0], box[3] - box[1]) == pytest.approx(longest, rel=0.3)  # the short side is rounded
    for low, high, side in ((box[0], box[2], width), (box[1], box[3], height)):
        assert (low >= -1e-9 and high <= side + 1e-9) or (low <= 1e-9 and high >= side - 1e-9)


def test_a_box_beyond_the_picture_is_cut_from_a_canvas() -> None:
    preprocessing, image = rule(30, fit="letterbox", interpolation="nearest"), picture(20, 10)
    canvas = Image.new("RGB", (50, 50), preprocessing.fill)
    canvas.paste(image, (15, 15))  # 15 pixels of room on each side
    for box in ((-5, -10, 25, 20), (5, -15, 35, 15), (-10, 0, 20, 30), (2, 1, 17, 9)):
        part = canvas.crop(tuple(15 + edge for edge in box)).resize((30, 30), Image.Resampling.NEAREST)
        assert cut(image, box, preprocessing).tobytes() == part.tobytes()


def test_scaled_boxes_span_the_factors_and_the_whole_picture() -> None:
    boxes = np.array(
        [scaled_box(uniforms(key, 64), 80, 64, rule(32, crop_pct=0.5), (0.8, 1.25)) for key in range(2000)]
    )
    sides = boxes[:, 2] - boxes[:, 0]  # the picture becomes 80 x 64 for a crop of 32
    assert (sides.min(), sides.max()) == pytest.approx((32 / 1.25, 32 / 0.8), rel=0.01)
    assert np.median(sides) == pytest.approx(32, rel=0.02)
    assert boxes[:, :2].min() < 0.5
    assert boxes[:, 2].max() > 79.5
    assert boxes[:, 3].max() > 63.5
