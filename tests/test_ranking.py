"""Networks ranked by their features; the numbers again by scikit-learn."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from multilabel_data import write_patches
from pictures import square
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score
from test_trunk import Told

import imgkit
from imgkit import ranking
from imgkit.errors import DataError, DeviceError, RecipeError, UsageError, WeightsError
from imgkit.ranking import Ranked

NETWORKS = ["test_resnet", "test_vit", "test_efficientnet"]
SETS = ["model.weights=none", "model.image_size=32", "run.workers=0"]


def probe(folder: Path, models: list[str], *sets: str, data: str = "synthetic:3x20") -> tuple[list[Ranked], str]:
    screen = Told()
    image_size = [] if "test_vit" in models else SETS[1:2]
    given = [SETS[0], *image_size, *SETS[2:], *sets]
    return imgkit.probe(models, data=data, out=folder / "probe", sets=given, screen=screen), screen.said


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_number_can_be_recomputed_from_the_answers(tmp_path: Path) -> None:
    ranked, _ = probe(tmp_path, NETWORKS, data=textures(tmp_path / "textures", images=60))
    rows, answers = table(tmp_path / "probe" / "probe.csv"), table(tmp_path / "probe" / "held-out.csv")
    assert [row["model"] for row in rows] == [one.probed.model for one in ranked]
    assert [float(row["f1_macro"]) for row in rows] == sorted((float(row["f1_macro"]) for row in rows), reverse=True)
    labels = [row["label"] for row in answers]
    assert len(labels) == len({row["path"] for row in answers}) == 60
    first = rows[0]
    for row in rows:
        told = [answer[row["model"]] for answer in answers]
        assert float(row["f1_macro"]) == pytest.approx(f1_score(labels, told, average="macro"))
        assert float(row["right"]) == pytest.approx(accuracy_score(labels, told))
        assert float(row["f1_low"]) <= float(row["f1_macro"]) <= float(row["f1_high"])
        assert int(row["images"]) == 60
        if row is not first:
            assert float(row["behind"]) == pytest.approx(float(row["f1_macro"]) - float(first["f1_macro"]))
            assert row["told_apart"] == str(not float(row["behind_low"]) <= 0 <= float(row["behind_high"]))


def textures(folder: Path, images: int) -> str:
    """A table of grey noise of two strengths, hard to tell apart."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    lines = ["path,label"]
    for number in range(images):
        pixels = draw.normal(128, (24, 26)[number % 2], (32, 32)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]}")
    (folder / "table.csv").write_text("\n".join(lines))
    return str(folder / "table.csv")


def test_images_are_answered_by_heads_that_were_fitted_without_them(tmp_path: Path) -> None:
    """Labels drawn by chance are guessed by chance: a head that had seen an image would know it."""
    ranked, _ = probe(tmp_path, ["test_resnet"], data=noisy(tmp_path / "noisy", images=120, right=0.5))
    assert ranked[0].probed.right < 0.65


def noisy(folder: Path, images: int, right: float) -> str:
    """A table of pictures of two colours, whose labels say which one with that probability, and else the other."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    lines = ["path,label"]
    for number in range(images):
        square(number, code=number % 2, side_px=16).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[(number + (draw.random() > right)) % 2]}")
    (folder / "table.csv").write_text("\n".join(lines))
    return str(folder / "table.csv")


def test_test_images_are_left_alone(tmp_path: Path) -> None:
    probe(tmp_path, ["test_resnet"], "data.test=0.25")
    assert len(table(tmp_path / "probe" / "held-out.csv")) == 45


def test_sets_of_labels(tmp_path: Path) -> None:
    data = write_patches(tmp_path / "patches", n=80)
    ranked, _ = probe(tmp_path, ["test_resnet"], "data.label_delimiter=;", data=str(data))
    (one,) = ranked
    assert one.probed.answers.dtype == np.bool_
    expected = f1_score(one.probed.targets, one.probed.answers, average="macro", zero_division=0)
    assert one.probed.f1 == pytest.approx(expected)
    assert one.probed.right == pytest.approx(accuracy_score(one.probed.targets, one.probed.answers))
    assert one.probed.f1_interval is not None


def test_a_second_ranking_and_a_training_find_the_features(tmp_path: Path) -> None:
    first, _ = probe(tmp_path, ["test_resnet", "test_efficientnet"])
    again, _ = probe(tmp_path, ["test_efficientnet", "test_resnet"])
    assert [one.probed.computed for one in first] == [60, 60]
    assert [one.probed.computed for one in again] == [0, 0]
    assert [one.probed.f1 for one in first] == [one.probed.f1 for one in again]
    screen = Told()
    imgkit.finetune(
        "test_resnet", data="synthetic:3x20", recipe="probe", out=tmp_path / "runs", sets=SETS, screen=screen
    )
    assert "(all kept by earlier runs)" in screen.said


TWO_HEADS = "deit_tiny_distilled_patch16_224"


def test_a_network_that_cannot_be_probed_is_left_out_and_the_others_are_ranked(tmp_path: Path) -> None:
    ranked, said = probe(tmp_path, [TWO_HEADS, "test_resnet"])
    assert [one.probed.model for one in ranked] == ["test_resnet.r160_in1k"]
    assert f"warning: {TWO_HEADS} is left out: " in said
    assert "only a single linear head can be solved Train the head by gradients" in said, "and what to do about it"


def test_where_none_can_be_probed_the_reason_is_the_error_and_said_once(tmp_path: Path) -> None:
    screen = Told()
    with pytest.raises(UsageError, match="only a single linear head"):
        imgkit.probe([TWO_HEADS], data="synthetic:3x20", out=tmp_path / "probe", sets=SETS, screen=screen)
    with pytest.raises(DataError, match="nowhere"):
        imgkit.probe(NETWORKS, data=str(tmp_path / "nowhere"), out=tmp_path / "probe", sets=SETS, screen=screen)
    with pytest.raises(RecipeError, match="no_such_key"):
        imgkit.probe(NETWORKS, data="synthetic:3x20", out=tmp_path / "probe", sets=["no_such_key=1"], screen=screen)
    assert "left out" not in screen.said
    assert not (tmp_path / "probe").exists()


def test_a_misspelt_name_is_told_before_the_first_network_takes_its_time(tmp_path: Path) -> None:
    screen = Told()
    with pytest.raises(UsageError, match="tset_vit"):
        imgkit.probe(["test_resnet", "tset_vit"], data="synthetic:3x20", out=tmp_path / "probe", screen=screen)
    assert screen.said == ""


def test_weights_that_are_not_here(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        imgkit.probe(["test_resnet"], data="synthetic:3x20", out=tmp_path / "probe")


def test_equal_scores_share_a_rank(tmp_path: Path) -> None:
    (one,), _ = probe(tmp_path, ["test_resnet"])
    ranked = ranking.rank([one.probed, replace(one.probed, model="other")])
    assert [found.rank for found in ranked] == [1, 1]
    assert ranked[1].behind is not None
    assert not ranked[1].behind.told_apart


def test_too_few_images_and_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="too few to hold some out"):
        probe(tmp_path, ["test_resnet"], "data.group_col=group", data=one_group(tmp_path / "group"))
    monkeypatch.setattr(ranking, "fits", lambda *_: False)
    with pytest.raises(DeviceError, match="too many to solve a head"):
        probe(tmp_path, ["test_resnet"])


def one_group(folder: Path) -> str:
    """Pictures that belong together but for one, which becomes validation."""
    folder.mkdir()
    lines = ["path,label,group,split"]
    for number in range(6):
        square(number, code=number % 2, side_px=16).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]},one,{'train' if number < 4 else 'val'}")
    (folder / "table.csv").write_text("\n".join(lines))
    return str(folder / "table.csv")


@pytest.mark.parametrize("models", [[], "resnet50"])
def test_it_takes_a_list(models: list[str]) -> None:
    with pytest.raises(UsageError, match="a list of networks"):
        imgkit.probe(models, data="synthetic:3x20")
