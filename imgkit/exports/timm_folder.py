"""The run's model folder as plain timm and Transformers' wrapper of timm load it."""

import json
import shutil
from pathlib import Path
from typing import Any

import timm
from torch import nn

from imgkit.errors import UsageError
from imgkit.models.folder import how_it_loads
from imgkit.recipe.heads import LINEAR
from imgkit.run import RunFolder

COPIED = ("model.safetensors", "preprocessing.json", "calibration.json")


def check_head(config: dict[str, Any]) -> None:
    """See that plain timm makes the network's head.

    Raises:
        UsageError: if it does not.
    """
    head = config.get("imgkit", {}).get("head", LINEAR)
    if head != LINEAR:
        raise UsageError(
            f"The head of this run is {head}, which timm does not make, so no folder for timm can hold it.",
            "A format that holds any network:  --to onnx   or  --to torch-export",
        )


def write_timm(run: RunFolder, draft: Path, config: dict[str, Any]) -> None:
    """Put copies of the model's files into `draft`, with a config.json that both libraries read.

    Transformers gives timm `num_classes` beside `model_args`, which therefore must not name it; timm takes it from
    `pretrained_cfg`. The place of the weights is nobody else's business, so only their licence stays.
    """
    for name in COPIED:
        shutil.copyfile(run.path / "model" / name, draft / name)
    args = {key: value for key, value in config["model_args"].items() if key != "num_classes"}
    told = {key: value for key, value in config["imgkit"].items() if key != "weights"}
    told["weights"] = {"licence": (config["imgkit"].get("weights") or {}).get("licence")}
    content = {**config, "model_args": args, "imgkit": told}
    (draft / "config.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_timm(folder: Path) -> nn.Module:
    """The network of a folder by plain timm, weights and all."""
    model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return model.eval()


def needs_import(config: dict[str, Any]) -> str:
    """What has to be imported before timm knows the network; "" where it knows it by itself."""
    words = how_it_loads(str(config["architecture"]), LINEAR)
    if "imgkit.models" in words:
        return "imgkit.models"
    return "" if words == "loads in plain timm" else "its plugin"
