"""A trained network as a folder that plain timm loads: config.json and model.safetensors, and what imgkit adds.

config.json           architecture, arguments, class names, preprocessing, in timm's local-dir layout; imgkit.head
model.safetensors     the tensors
preprocessing.json    the evaluation rule, exactly
calibration.json      the temperature of its probabilities, the thresholds of its labels
README.md             a short card
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.models import get_model_args, get_model_input_config, is_model, model_entrypoint, split_model_name_tag
from torch import Tensor, nn

from imgkit.bounds import check_tensors, read_json
from imgkit.calibration import Calibration
from imgkit.data.preprocessing import CROP_MODES, Preprocessing
from imgkit.errors import DiskError, UsageError, brief, suggestion
from imgkit.models.heads import set_head
from imgkit.models.weights import mismatch
from imgkit.recipe.fields import Task
from imgkit.recipe.heads import LINEAR, HeadShape


@dataclass(frozen=True)
class LoadedModel:
    """A network from a folder.

    Attributes:
        model: images float32 (B, C, H, W) -> logits (B, K); on the CPU, in evaluation mode.
        preprocessing: how a picture becomes its input.
        classes: names, in the order of the logits.
        calibration: how its logits become probabilities and labels.
        config: the content of config.json.
    """

    model: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    calibration: Calibration
    config: Mapping[str, Any]

    @property
    def task(self) -> Task:
        """One label an image, or any number of them."""
        return "single" if self.calibration.thresholds is None else "multilabel"


def save_model_folder(
    folder: Path,
    *,
    model: nn.Module,
    model_name: str,
    state: Mapping[str, Tensor],
    classes: Sequence[str],
    preprocessing: Preprocessing,
    calibration: Calibration,
    extra: Mapping[str, Any],
) -> None:
    """Write the files into an existing folder.

    Args:
        folder: exists.
        model: made by timm; asked for its arguments and input, not for its weights.
        model_name: timm's, with or without tag.
        state: the weights to keep, every name of `model.state_dict()`.
        classes: names, in the order of the logits.
        preprocessing: the evaluation rule.
        calibration: how its logits become probabilities and labels.
        extra: goes into config.json as "imgkit"; plain values. A licence in extra["weights"]["licence"] is shown, and
            extra["head"], if it is there, is the head that `create_model` gave the model.

    Raises:
        DiskError: if a file cannot be written.
    """
    lacking = mismatch(state, model.state_dict())
    assert not lacking, lacking
    config = _config(model, model_name, classes, preprocessing, extra)
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    try:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        _write_json(folder / "config.json", config)
        _write_json(folder / "preprocessing.json", preprocessing.to_dict())
        _write_json(folder / "calibration.json", calibration.to_dict())
        (folder / "README.md").write_text(
            _card(model_name, classes, preprocessing, calibration, extra), encoding="utf-8"
        )
    except (OSError, SafetensorError) as error:
        raise DiskError(f"The model cannot be written into {folder}: {error}", "Free some space and resume.") from error


def load_model_folder(folder: Path) -> LoadedModel:
    """Read what `save_model_folder` wrote; names and shapes of all tensors must agree.

    Raises:
        DiskError: if a file is missing or damaged, or the tensors are those of another network.
        UsageError: if the network is not in timm's registry.
    """
    config = _read_json(folder / "config.json")
    preprocessing = _read_preprocessing(folder)
    classes = config.get("label_names")
    if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise DiskError(f"{folder / 'config.json'} has no list of class names under label_names.", _RESTORE)
    model = _build(folder, config)
    file = folder / "model.safetensors"
    try:
        check_tensors(file)
        state = load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise DiskError(f"{file} cannot be read: {brief(error)}", _RESTORE) from error
    listed = mismatch(state, model.state_dict())
    if listed:
        raise DiskError(f"{file} does not fit config.json. Missing (-) and surplus (+):\n{listed}", _RESTORE)
    if getattr(model, "num_classes", len(classes)) != len(classes):
        raise DiskError(f"{folder / 'config.json'} names {len(classes)} classes of {model.num_classes}.", _RESTORE)
    model.load_state_dict(state, strict=True)
    return LoadedModel(model.eval(), preprocessing, tuple(classes), _read_calibration(folder, classes), config)


_RESTORE = "Copy the folder again; or remove it, and write it anew from the run's checkpoints: imgkit resume NAME"


def _config(
    model: nn.Module, model_name: str, classes: Sequence[str], preprocessing: Preprocessing, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """config.json: what `timm.create_model("local-dir:...", pretrained=True)` needs, and the class names."""
    name, tag = split_model_name_tag(model_name)
    current = get_model_input_config(model)
    source = getattr(model, "pretrained_cfg", {})
    kept = {"classifier": source.get("classifier"), "license": source.get("license"), "pool_size": None}
    greys = {} if preprocessing.channels == 3 else {"in_chans": preprocessing.channels}
    pretrained = {key: value for key, value in kept.items() if value is not None or key != "license"}
    pretrained |= {
        "tag": tag or None,
        "custom_load": False,
        "input_size": [preprocessing.channels, *preprocessing.size],
        "fixed_input_size": current["fixed_input_size"],
        "first_conv": current["first_conv"],
        "interpolation": preprocessing.interpolation,
        "crop_pct": preprocessing.crop_pct,
        "crop_mode": CROP_MODES[preprocessing.fit],
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "num_classes": len(classes),
    }
    args = get_model_args(model)
    if HeadShape.parse(str(extra.get("head", LINEAR))).side is not None:
        args.pop("global_pool", None)  # the head's, which timm does not know
    return {
        "architecture": name,
        "num_classes": len(classes),
        "num_features": getattr(model, "num_features", None),
        "label_names": list(classes),
        # What the network chose by itself is written down: loaded for other images, it would choose otherwise.
        "model_args": args | getattr(model, "settled", {}) | {"num_classes": len(classes)} | greys,
        "pretrained_cfg": pretrained,
        "imgkit": dict(extra),
    }


def how_it_loads(model_name: str, head: str) -> str:
    """What it takes to load a model folder besides imgkit, in a few words."""
    module = model_entrypoint(split_model_name_tag(model_name)[0]).__module__
    if head != LINEAR:
        return "imgkit loads it; plain timm has no such head"
    if module.startswith("timm."):
        return "loads in plain timm"
    return f"timm loads it once {'imgkit.models' if module.startswith('imgkit.') else 'the plugin'} is imported"


def _build(folder: Path, config: Mapping[str, Any]) -> nn.Module:
    """The network that config.json describes, with its head; weights are new."""
    name = config.get("architecture")
    if not isinstance(name, str) or not is_model(name):
        raise UsageError(
            f"The network {name!r} of {folder} is not in timm's registry{suggestion(str(name), timm.list_models())}.",
            "Import the module that registers it first.",
        )
    try:
        model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=False)
        set_head(model, config.get("imgkit", {}).get("head", LINEAR), config["num_classes"])
    except Exception as error:  # arguments from a damaged file make networks fail in many ways
        reason = (str(error).splitlines() or [""])[0]
        raise DiskError(
            f"{folder / 'config.json'} does not describe a network: {type(error).__name__}: {reason}", _RESTORE
        ) from error
    return model


def _read_preprocessing(folder: Path) -> Preprocessing:
    values = _read_json(folder / "preprocessing.json")
    try:
        return Preprocessing.from_dict(values)
    except (UsageError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DiskError(f"{folder / 'preprocessing.json'} is damaged: {reason}", _RESTORE) from error


def _read_calibration(folder: Path, classes: Sequence[str]) -> Calibration:
    values = _read_json(folder / "calibration.json")
    try:
        calibration = Calibration.from_dict(values)
        if calibration.thresholds is not None and set(calibration.thresholds) != set(classes):
            raise ValueError("its thresholds are of other classes")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DiskError(f"{folder / 'calibration.json'} is damaged: {error}", _RESTORE) from error
    return calibration


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise DiskError(f"{file} cannot be read: {brief(error)}", _RESTORE) from error


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _card(
    model_name: str,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    calibration: Calibration,
    extra: Mapping[str, Any],
) -> str:
    height, width = preprocessing.size
    colours = "RGB pictures" if preprocessing.channels == 3 else 'pictures in greys (Pillow\'s convert("L"))'
    weights = extra.get("weights")
    licence = weights.get("licence") if isinstance(weights, Mapping) else None
    kind, answers = "classes", f"softmax(logits / {calibration.temperature:.4g})"
    if calibration.thresholds is not None:
        kind = "labels, any number of them an image"
        answers = f"sigmoid(logits / {calibration.temperature:.4g}), and a label is answered from its threshold on"
    names = "\n".join(f"    {json.dumps(name, ensure_ascii=False)}" for name in classes)
    return f"""# {model_name}, {len(classes)} {kind}

An image classifier trained with imgkit. It reads {colours} of {height}×{width} pixels; preprocessing.json says how
a picture becomes that.

Licence of the weights that training started from: {licence or "not known"}.

{_by_timm(model_name, str(extra.get("head", LINEAR)))}

With imgkit:

    from imgkit.models.folder import load_model_folder
    loaded = load_model_folder(Path("PATH_OF_THIS_FOLDER"))

Its probabilities are {answers} (calibration.json, fitted on validation).

Classes, in the order of the logits:

{names}
"""


_LOAD = """
    model = timm.create_model("local-dir:PATH_OF_THIS_FOLDER", pretrained=True).eval()
    config = timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg)
    transform = timm.data.create_transform(**config)"""


def _by_timm(model_name: str, head: str) -> str:
    """How plain timm loads the folder, or that it cannot."""
    module = model_entrypoint(split_model_name_tag(model_name)[0]).__module__
    if head != LINEAR:
        return (
            f"Its head is `{head}`, which timm does not make: `timm.create_model` refuses these weights. What imgkit\n"
            "gives is a plain torch module, `loaded.model`, and needs no imgkit to be exported or saved otherwise."
        )
    if module.startswith("timm."):
        return f"With plain timm:\n{_LOAD}"
    if module.startswith("imgkit."):
        return f"With timm and imgkit's networks:\n\n    import imgkit.models  # registers the network{_LOAD}"
    return f"With timm, once the module that registers the network is imported:\n{_LOAD}"
