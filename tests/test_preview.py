from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imgkit import api
from imgkit.data.augment import TrainTransform
from imgkit.data.batches import train_batches
from imgkit.data.load import load_data
from imgkit.errors import DiskError, UsageError
from imgkit.models.create import create_model
from imgkit.preview import Sheet, drawn
from imgkit.recipe.load import Flag, load_recipe
from imgkit.recipe.plan import make_plan

SETS = ["model.image_size=32", "augment.rotate=30", "augment.erase=0.5", "augment.ramp=50%", "seed=5"]


def test_the_pixels_are_those_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the batches of the run itself: all images, in its order."""
    shown: list[Sheet] = []
    monkeypatch.setattr("imgkit.preview.drawn", lambda sheet: shown.append(sheet) or drawn(sheet))
    file = api.preview("test_resnet", data="synthetic:3x8", rows=4, sets=SETS, out=tmp_path / "sheet.png")
    (sheet,) = shown
    loaded = load_recipe("finetune", flags={"data.path": Flag("--data", "synthetic:3x8")}, sets=SETS)
    index = load_data(loaded.recipe.data).index
    rows = index.rows("train")
    phase = make_plan(loaded, len(rows)).phases[1]
    settings = loaded.recipe.model.model_copy(update={"name": "test_resnet", "weights": "none"})
    preprocessing = create_model(settings, 3, 5).preprocessing
    batches = train_batches(
        index,
        rows,
        transform=TrainTransform(preprocessing, phase.augment, phase.ramp),
        seed=5,
        first_epoch=phase.first_epoch,
        batch_size=len(rows),
        steps_per_epoch=1,
        start=0,
        stop=4,
        workers=0,
        max_pixels=10**6,
    )
    labels = index.labels()
    wanted = [rows[labels[rows] == code][turn] for code, turn in ((0, 0), (1, 0), (2, 0), (0, 1))]
    assert sheet.names == [index.classes[labels[row]] for row in wanted]
    assert sheet.heads == ["evaluation", "epoch 1", "epoch 2", "epoch 3", "epoch 4"]
    for column, batch in enumerate(batches, start=1):
        for number, row in enumerate(wanted):
            (place,) = (batch.ids == row).nonzero().flatten().tolist()
            assert torch.equal(sheet.pictures[column, number], batch.images[place])
    with Image.open(file) as picture:
        assert picture.size == (150 + 5 * 36, 22 + 4 * 36)
        assert np.array_equal(np.asarray(picture)[22:54, 150:182], sheet.pictures[0, 0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "probe"}, "No phase of 'probe' trains on augmented pictures."),
        ({"rows": 0}, "--rows 0: a sheet has at least one row."),
    ],
)
def test_what_cannot_be_shown_is_told(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        api.preview("test_resnet", data="synthetic:3x8", out=tmp_path / "a.png", **options)  # type: ignore[arg-type]
    assert caught.value.message == message


def test_never_into_the_data(tmp_path: Path) -> None:
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"The picture .* lies inside the data folder") as caught:
        api.preview("test_resnet", data=tmp_path / "pictures", out=tmp_path / "pictures" / "sheet.png")
    assert caught.value.hint.endswith("/preview.png")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="Cannot write"):
        api.preview(
            "test_resnet", data="synthetic:3x8", rows=1, sets=["model.image_size=32"], out=tmp_path / "no" / "a.png"
        )
