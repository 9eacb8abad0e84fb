"""What leaves answers open, on a small trained run: the distance of features, and the command as a whole."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_run import Run as Command
from oracle import short_run
from PIL import Image
from torch import nn

from imgkit.api import Run
from imgkit.api_options import Cautions
from imgkit.cells import parted
from imgkit.data.decode import load_image
from imgkit.data.preprocessing import Preprocessing
from imgkit.errors import DataError, DiskError, UsageError
from imgkit.evaluate import load_run_model
from imgkit.features import pooled
from imgkit.likeness import NAME, Watch, likeness_of
from imgkit.screen import Screen
from imgkit.unlike import Likeness

pytest_plugins = ["cli_fixture"]
SCREEN = Screen(quiet=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with 38 validation images."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return short_run(tmp_path_factory.mktemp("likeness"), "phases.all.epochs=2", data="synthetic:3x64")


@pytest.fixture(scope="module")
def everything(run: Run) -> list[str]:
    """All 192 pictures of the run: `predict` without a wish answers the last ones of so many in another way."""
    return sorted(map(str, Path(run.folder.read_json("run.json")["data"]["root"]).rglob("*.png")))


@pytest.fixture(scope="module")
def pictures(everything: list[str]) -> list[str]:
    return everything[::4]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Pictures of noise, which is nothing that the run has seen."""
    place, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(place / f"{number}.png")
    return sorted(map(str, place.iterdir()))


def test_shares_are_those_of_the_features_by_themselves(run: Run, pictures: list[str]) -> None:
    likeness, loaded = likeness_of(run.folder, device="cpu", screen=SCREEN), load_run_model(run.folder)
    found = [one.unlike for one in run.predict(pictures, unlike=0.9)]
    images = torch.stack([loaded.preprocessing(load_image(Path(file))) for file in pictures])
    with torch.inference_mode():
        features = pooled(loaded.model.eval(), loaded.preprocessing.normalise(images)).numpy()
    distances = likeness.distances(features)
    expected = [(likeness.held < one).sum() / (len(likeness.held) + 1) for one in distances]
    assert found == pytest.approx(expected, abs=1.01 / (len(likeness.held) + 1)), "rounding may pass one image by"
    assert len(likeness.held) == len(run.folder.path.joinpath("data/index.csv").read_text().split(",val,")) - 1


@pytest.mark.parametrize("wish", [{"unlike": 0.9}, {"reject_at": 0.9}])
def test_many_images_are_answered_from_exact_pixels_and_in_order(
    run: Run, everything: list[str], wish: Cautions, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [*everything[:100], "gone.png", *everything[100:]]
    expected = list(run.predict(files, precision="float32"))
    quick, made = Preprocessing.quick, list[int]()
    monkeypatch.setattr(Preprocessing, "quick", lambda *given: made.append(1) or quick(*given))
    found = list(run.predict(files, **wish))
    assert made == []
    assert [one.path for one in found] == files
    assert [one.probs for one in found] == [one.probs for one in expected]
    if "unlike" in wish:
        parts = (files[start : start + 50] for start in range(0, len(files), 50))
        few = [one.unlike for part in parts for one in run.predict(part, **wish)]
        assert [one.unlike for one in found] == pytest.approx(few, abs=0.06)
        assert len(set(few)) > 20, "an order that was lost would be seen"
    list(run.predict(files))
    assert made, "without a wish torch resizes some of so many"


def test_it_is_measured_once_for_the_same_weights(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = likeness_of(run.folder, device="cpu", screen=SCREEN)
    file = run.folder.path / "model" / NAME
    with monkeypatch.context() as patch:
        patch.setattr("imgkit.likeness._measure", lambda *_: pytest.fail("measured again"))
        assert np.array_equal(likeness_of(run.folder, device="cpu", screen=SCREEN).held, first.held)
    about = file.read_bytes()
    file.write_bytes(about[:-1])
    assert np.array_equal(likeness_of(run.folder, device="cpu", screen=SCREEN).held, first.held), "damaged: once more"
    assert file.read_bytes() == about


def test_noise_is_left_open_as_unlike(run: Run, pictures: list[str], noise: list[str]) -> None:
    answers = list(run.predict([*pictures, *noise], unlike=0.9))
    assert [one.rejected for one in answers[-len(noise) :]] == ["unlike"] * len(noise)
    assert np.mean([one.rejected == "unlike" for one in answers[: len(pictures)]]) < 0.3
    assert all(one.label == "" and one.top[0][0] for one in answers if one.rejected)


def test_batches_with_unreadable_files_keep_their_order(run: Run, pictures: list[str], noise: list[str]) -> None:
    alone = {one.path: one.unlike for one in run.predict([*pictures, *noise], unlike=0.9)}
    mixed = [noise[0], "gone.png", *pictures[:3], "lost.png", noise[1]]
    found = list(run.predict(mixed, unlike=0.9))
    assert [bool(one.error) for one in found] == [file in ("gone.png", "lost.png") for file in mixed]
    assert [one.unlike for one in found] == pytest.approx([alone.get(file) for file in mixed], abs=0.06)


def test_a_network_without_one_linear_head_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgkit import likeness

    (run.folder.path / "model" / NAME).unlink(missing_ok=True)
    loaded = load_run_model(run.folder)
    monkeypatch.setattr(likeness, "load_run_model", lambda _: loaded)
    monkeypatch.setattr(loaded.model, "get_classifier", lambda: nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(UsageError, match=r"--unlike measures what a single linear head sees, and ResNet has a head of"):
        likeness_of(run.folder, device="cpu", screen=SCREEN)


def test_images_that_are_gone_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.folder.path / "model" / NAME).unlink(missing_ok=True)

    def gone(*_: object) -> None:
        raise DataError("a.png is gone: the data changed since the run began.", "")

    monkeypatch.setattr("imgkit.likeness.check_files", gone)
    with pytest.raises(DataError, match=r"The first --unlike looks at the training images once more\.") as error:
        likeness_of(run.folder, device="cpu", screen=SCREEN)
    assert "If they were moved:  imgkit evaluate" in error.value.hint


def test_features_of_another_precision_are_not_compared(run: Run, pictures: list[str]) -> None:
    message = r"--unlike compares features in float32, and --precision bfloat16 has others\."
    with pytest.raises(UsageError, match=message):
        next(run.predict(pictures, unlike=0.9, precision="bfloat16"))


def test_a_convolution_as_head_is_watched_as_well() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(4, 3, 1)

        def get_classifier(self) -> nn.Module:
            return self.head

        def forward_head(self, images: torch.Tensor) -> torch.Tensor:
            return images

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(images).flatten(1)

    likeness = Likeness(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[:1], np.array([0.5, 1.5]))
    network = Network()
    watch = Watch(network, likeness)
    network(torch.eye(4)[:2, :, None, None])
    assert watch.shares() == [0.0, 2 / 3]
    wide = Likeness(np.eye(5, dtype=np.float32), np.eye(5, dtype=np.float32)[:1], np.array([0.5]))
    with pytest.raises(DiskError, match=r"model/unlike\.safetensors is of 5 features, and the head is given 4\."):
        Watch(network, wide)


def test_the_command_writes_columns_that_read_back(
    run: Run, pictures: list[str], noise: list[str], imgkit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.folder.path.parents[1])
    wish = ["--reject-at", "0.9", "--unlike", "0.9", "--conformal", "0.9"]
    code, out, err = imgkit("predict", "run", *pictures, *noise, "gone.png", *wish)
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["path", "label", "prob", "guess", "rejected", "unlike", "set", "error"]
    expected = list(run.predict([*pictures, *noise, "gone.png"], reject_at=0.9, unlike=0.9, conformal=0.9))
    for row, one in zip(rows, expected, strict=True):
        assert (row["label"], row["rejected"]) == (one.label, one.rejected)
        assert row["guess"] == (one.top[0][0] if one.top else "")
        assert tuple(parted(row["set"])) == (one.in_set or ())
        assert row["unlike"] == ("" if one.unlike is None else f"{one.unlike:.6f}")
        assert bool(row["label"]) == (not row["rejected"] and not row["error"])
        assert (
            row["rejected"] == "unlike" or row["error"] or (float(row["prob"]) < 0.9) == (row["rejected"] == "unsure")
        )
    told = " ".join(err.split())
    left = sum(bool(one.rejected) for one in expected)
    unlike = sum(one.rejected == "unlike" for one in expected)
    n = len(expected) - 1
    assert f"{n - left} of {n} images answered, {left} left open: {left - unlike} unsure, {unlike} unlike" in told
    assert "answers from 0.9 on: of " in told
    assert "sets hold the true class of 90 % of images like those of validation" in told

    code, out, _ = imgkit("predict", "run", *pictures, "gone.png", "--format", "jsonl", *wish)
    lines = [json.loads(line) for line in out.splitlines()]
    for line, one in zip(lines, expected[: len(pictures)], strict=False):
        assert line["label"] == (one.label or None)
        assert line["rejected"] == (one.rejected or None)
        assert line["guess"] == one.top[0][0]
        assert tuple(line["set"]) == one.in_set
    assert [lines[-1][name] for name in ("label", "guess", "rejected", "unlike", "set")] == [None] * 5


def test_a_target_that_cannot_be_promised_leaves_the_file_alone(
    run: Run, pictures: list[str], imgkit: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(run.folder.path.parents[1])
    file = tmp_path / "answers.csv"
    file.write_text("path,label,prob,error\n")
    code, _, err = imgkit("predict", "run", *pictures, "--target-accuracy", "0.999", "--out", str(file))
    assert code == 2
    assert "Accuracy 99.9 % cannot be promised from " in " ".join(err.split())
    assert file.read_text() == "path,label,prob,error\n"
