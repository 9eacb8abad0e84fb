"""A finished run with pictures of its own, and copies of it that hold another network."""

import json
import shutil
from pathlib import Path
from typing import Any

import timm
import torch
from oracle import short_run
from pictures import square

import imgkit
import imgkit.models
from imgkit.calibration import Calibration
from imgkit.data.preprocessing import Preprocessing
from imgkit.models.folder import load_model_folder, save_model_folder
from imgkit.run import RunFolder


def trained(place: Path, *sets: str, data: str | None = None) -> imgkit.Run:
    """Train on squares of three sizes and two classes, in a second or two."""
    torch.set_num_threads(1)
    if data is None:
        for number in range(60):
            file = place / "in" / "ab"[number % 2] / f"{number}.{'jpg' if number % 3 else 'png'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture = square(number, code=number % 2, side_px=(32, 40, 70)[number % 3])
            picture.resize((picture.width + number % 5, picture.height)).save(file)
    return short_run(place, "phases.top.steps=1", "phases.all.epochs=1", *sets, data=data or str(place / "in"))


def with_network(run: imgkit.Run, place: Path, name: str, size_px: int, **options: Any) -> imgkit.Run:  # noqa: ANN401
    """A copy of a run whose best weights are those of another network, random ones."""
    copy = RunFolder(place / "runs" / name)
    shutil.copytree(run.folder.path, copy.path)
    before = load_model_folder(copy.path / "model")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=len(before.classes), **options)
    rule = Preprocessing.from_timm(timm.data.resolve_model_data_config(model))
    channels = options.get("in_chans", 3)
    values = rule.to_dict() | {"size": [size_px, size_px], "mean": rule.mean[:channels], "std": rule.std[:channels]}
    shutil.rmtree(copy.path / "model")
    (copy.path / "model").mkdir()
    save_model_folder(
        copy.path / "model",
        model=model,
        model_name=name,
        state=model.state_dict(),
        classes=before.classes,
        preprocessing=Preprocessing.from_dict(values),
        calibration=Calibration(1.3, None, "val", 40),
        extra=dict(before.config["imgkit"]) | {"run": name},
    )
    about = copy.read_json("run.json")
    copy.write_json("run.json", about | {"model": name})
    return imgkit.Run(copy)


def files_of(folder: Path) -> list[str]:
    """What lies in a folder, hidden names too."""
    return sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []


def proof_in(run: imgkit.Run, to: str) -> dict[str, Any]:
    """verify.json of an export."""
    found: dict[str, Any] = json.loads((run.folder.path / "exports" / to / "verify.json").read_text())
    return found
