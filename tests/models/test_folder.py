import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from imgkit.calibration import Calibration
from imgkit.errors import DiskError, UsageError
from imgkit.models.create import Created, create_model
from imgkit.models.folder import load_model_folder, save_model_folder
from imgkit.recipe.schema import ModelSettings

CLASSES = ("cat", "<b>dog</b>", "Käfer\n")
CALIBRATION = Calibration(1.7, dict.fromkeys(CLASSES, 0.4), "val", 40)
EXTRA = {"run": "r1", "weights": {"kind": "package", "licence": "apache-2.0"}}


def make(folder: Path, name: str, **values: object) -> Created:
    settings = ModelSettings.model_validate({"name": name, "weights": "none", **values})
    created = create_model(settings, 3, 0)
    for parameter in created.model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    folder.mkdir()
    save_model_folder(
        folder,
        model=created.model,
        model_name=created.name,
        state=created.model.state_dict(),
        classes=CLASSES,
        preprocessing=created.preprocessing,
        calibration=CALIBRATION,
        extra=EXTRA,
    )
    return created


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make(tmp_path / "model", "test_resnet", image_size=48)
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_resnet", 48), ("test_vit", 64), ("test_vit", None), ("test_efficientnet", 64), ("test_convnext", 32)],
)
@pytest.mark.parametrize("channels", [3, 1])
def test_the_same_logits_in_imgkit_and_in_timm(name: str, size: int | None, channels: int, tmp_path: Path) -> None:
    created = make(tmp_path / "m", name, image_size=size, in_chans=channels, drop_rate=0.5)
    images = torch.randn(2, channels, *created.preprocessing.size)
    created.model.eval()
    loaded = load_model_folder(tmp_path / "m")
    timms = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True).eval()
    with torch.no_grad():
        expected = created.model(images)
        assert torch.equal(loaded.model(images), expected)
        assert torch.equal(timms(images), expected)
    assert (loaded.classes, loaded.preprocessing) == (CLASSES, created.preprocessing)
    assert not loaded.model.training
    assert loaded.config["imgkit"] == EXTRA
    assert (loaded.calibration, loaded.task) == (CALIBRATION, "multilabel")
    assert timms.pretrained_cfg["label_names"] == list(CLASSES)


def test_timm_alone_is_enough(saved: Path, tmp_path: Path) -> None:
    program = """
import sys, timm, torch
from safetensors.torch import save_file
folder, out = sys.argv[1:]
torch.set_num_threads(1)
model = timm.create_model("local-dir:" + folder, pretrained=True).eval()
config = timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg)
with torch.no_grad():
    save_file({"logits": model(torch.linspace(-1, 1, 3 * 48 * 48).reshape(1, 3, 48, 48))}, out)
assert config["input_size"] == (3, 48, 48) or config["input_size"] == [3, 48, 48], config
assert not any(name.startswith("imgkit") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program, str(saved), str(tmp_path / "out")], check=True, cwd=tmp_path, env={})
    model = load_model_folder(saved).model
    with torch.no_grad():
        logits = model(torch.linspace(-1, 1, 3 * 48 * 48).reshape(1, 3, 48, 48))
    assert torch.equal(load_file(tmp_path / "out")["logits"], logits)


def test_timms_transform_makes_our_pixels(saved: Path) -> None:
    loaded = load_model_folder(saved)
    model = timm.create_model(f"local-dir:{saved}", pretrained=True)
    config = timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg)
    picture = Image.linear_gradient("L").convert("RGB").resize((90, 70))
    theirs = timm.data.create_transform(**config)(picture)
    ours = loaded.preprocessing.normalise(loaded.preprocessing(picture)[None])[0]
    assert theirs.shape == ours.shape
    assert float((theirs - ours).abs().mean()) < 0.05


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
def test_timm_fits_pictures_as_we_do(fit: str, tmp_path: Path) -> None:
    created = make(tmp_path / "model", "test_resnet", image_size=48, fit=fit)
    assert created.preprocessing.fit == fit
    model = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg))
    for size in ((90, 70), (70, 140), (31, 48)):
        picture = Image.linear_gradient("L").convert("RGB").resize(size)
        ours = created.preprocessing.normalise(created.preprocessing(picture)[None])[0]
        torch.testing.assert_close(transform(picture), ours, atol=1e-5, rtol=1e-5)


def test_timm_reads_greys_as_we_do(tmp_path: Path) -> None:
    created = make(tmp_path / "model", "test_efficientnet", image_size=48, in_chans=1)
    model = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True)
    config = timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg)
    assert (tuple(config["input_size"]), tuple(config["mean"])) == ((1, 48, 48), created.preprocessing.mean)
    picture = Image.effect_noise((90, 70), 60).convert("RGB")
    theirs = timm.data.create_transform(**config)(picture.convert("L"))
    ours = created.preprocessing.normalise(created.preprocessing(picture)[None])[0]
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    assert 'pictures in greys (Pillow\'s convert("L")) of 48×48' in (tmp_path / "model" / "README.md").read_text()


def test_nothing_is_a_pickle_and_the_card_says_how(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == [
        "README.md",
        "calibration.json",
        "config.json",
        "model.safetensors",
        "preprocessing.json",
    ]
    card = (saved / "README.md").read_text(encoding="utf-8")
    for words in (
        "test_resnet.r160_in1k, 3 labels",
        "48×48",
        "apache-2.0",
        "local-dir:",
        "load_model_folder",
        '"cat"',
    ):
        assert words in card


def test_a_registered_network(registered: str, tmp_path: Path) -> None:
    created = make(tmp_path / "m", registered, image_size=32)
    images = torch.randn(2, 3, 32, 32)
    loaded = load_model_folder(tmp_path / "m")
    timms = timm.create_model(f"local-dir:{tmp_path / 'm'}")
    assert isinstance(timms, type(created.model))
    with torch.no_grad():
        assert torch.equal(loaded.model(images), created.model.eval()(images))


def test_channels_last_weights_are_kept(tmp_path: Path) -> None:
    created = create_model(ModelSettings(name="test_resnet", weights="none"), 3, 0)
    model = created.model.to(memory_format=torch.channels_last)
    save_model_folder(
        tmp_path,
        model=model,
        model_name=created.name,
        state=model.state_dict(),
        classes=CLASSES,
        preprocessing=created.preprocessing,
        calibration=CALIBRATION,
        extra={},
    )
    state = load_model_folder(tmp_path).model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert "not known" in (tmp_path / "README.md").read_text(encoding="utf-8")


def edit(file: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("name", ["config.json", "preprocessing.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"<html>", b"[1]", b"\xff\xfe"])
def test_a_missing_or_damaged_file_is_named(saved: Path, name: str, content: bytes | None) -> None:
    (saved / name).unlink()
    if content is not None:
        (saved / name).write_bytes(content)
    with pytest.raises(DiskError) as caught:
        load_model_folder(saved)
    assert str(saved / name) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_tensors_of_another_network(saved: Path) -> None:
    state = load_file(saved / "model.safetensors")
    del state["fc.bias"]
    save_file(state | {"extra": torch.zeros(2)}, saved / "model.safetensors")
    with pytest.raises(DiskError, match="does not fit") as caught:
        load_model_folder(saved)
    assert caught.value.message.splitlines()[1:] == ["  - fc.bias (3,)", "  + extra (2,)"]


def test_an_unknown_network(saved: Path) -> None:
    edit(saved / "config.json", lambda config: config.update(architecture="test_resnett"))
    with pytest.raises(UsageError, match=r"not in timm's registry \(did you mean 'test_resnet'\?\)") as caught:
        load_model_folder(saved)
    assert "registers it" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label_names": None}, "no list of class names"),
        ({"label_names": ["a", "b"]}, "names 2 classes of 3"),
        ({"model_args": {"no_such_argument": 3}}, "does not describe a network"),
        ({"pretrained_cfg": 3}, "does not describe a network"),
    ],
)
def test_a_config_that_is_wrong(saved: Path, change: dict[str, object], words: str) -> None:
    edit(saved / "config.json", lambda config: config.update(change))
    with pytest.raises(DiskError, match=words):
        load_model_folder(saved)


def test_preprocessing_that_is_wrong(saved: Path) -> None:
    edit(saved / "preprocessing.json", lambda values: values.update(size=[0, 3]))
    with pytest.raises(DiskError, match=r"preprocessing\.json is damaged"):
        load_model_folder(saved)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    created = create_model(ModelSettings(name="test_resnet", weights="none"), 3, 0)
    with pytest.raises(DiskError, match="cannot be written into"):
        save_model_folder(
            tmp_path / "missing",
            model=created.model,
            model_name=created.name,
            state=created.model.state_dict(),
            classes=CLASSES,
            preprocessing=created.preprocessing,
            calibration=CALIBRATION,
            extra={},
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "is damaged: 'temperature'"),
        (
            '{"schema": 1, "temperature": 0, "thresholds": null, "fitted_on": "val", "n": 3, "notes": []}',
            "temperature",
        ),
        (
            '{"schema": 1, "temperature": 1, "thresholds": {"cat": 0.5}, "fitted_on": "val", "n": 3, "notes": []}',
            "its thresholds are of other classes",
        ),
    ],
)
def test_a_damaged_calibration_is_named(saved: Path, text: str, said: str) -> None:
    (saved / "calibration.json").write_text(text)
    with pytest.raises(DiskError) as caught:
        load_model_folder(saved)
    assert "calibration.json" in caught.value.message
    assert said in caught.value.message
