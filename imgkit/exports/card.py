"""The model card of an export: what the network is, how it was made and scored, and what it is not good for.

A card may be published, so it tells no path and no name of an image of this machine.
"""

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from imgkit import __version__
from imgkit.data.rows import count
from imgkit.errors import printable
from imgkit.evaluations import weights_label
from imgkit.exports.timm_folder import needs_import
from imgkit.models.folder import LoadedModel
from imgkit.report.words import guessing, with_interval
from imgkit.run import RunFolder

_TITLES = {
    "single": {"top1": "top-1", "f1_macro": "macro F1"},
    "multilabel": {"map": "mAP", "f1_macro": "macro F1", "subset_accuracy": "exact sets"},
}
_LICENCES = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc-by-nc-sa-4.0"}


def card_of(run: RunFolder, about: Mapping[str, Any], loaded: LoadedModel) -> str:
    """README.md of a folder for timm, with the header that model hubs read."""
    licence = (about.get("weights") or {}).get("licence")
    called, random = str(licence or "").lower(), str((about.get("weights") or {}).get("kind")) == "none"
    head = ["---", "library_name: timm", "pipeline_tag: image-classification", "tags:", "- image-classification"]
    head += ["- timm", "- transformers", "- imgkit"]
    head += [] if random else [f"license: {called if called in _LICENCES else 'other'}"]
    kind = "classes" if loaded.task == "single" else "labels, any number of them an image"
    parts = [
        "\n".join([*head, "---"]),
        f"# {loaded.config['architecture']}, {len(loaded.classes)} {kind}",
        "An image classifier, trained with imgkit " + __version__ + ".",
        "## Use\n\n" + _use(loaded),
        "## Data\n\n" + _data(about),
        "## Training\n\n" + _training(about),
        "## Scores\n\n" + _scores(run, loaded),
        "## Limits\n\n" + _limits(about, loaded),
        "## Licence\n\n" + _licence(licence, about),
        "## Classes, in the order of the logits\n\n" + "\n".join(f"    {json.dumps(name)}" for name in loaded.classes),
    ]
    return "\n\n".join(parts) + "\n"


_TIMM = """
    model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()   # or "hf-hub:OWNER/NAME"
    config = timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg)
    transform = timm.data.create_transform(**config)
"""
_TRANSFORMERS = """
or, through Transformers:

    model = transformers.AutoModelForImageClassification.from_pretrained("FOLDER")
"""


def _use(loaded: LoadedModel) -> str:
    first = needs_import(dict(loaded.config))
    imports = "    import timm, imgkit.models" if first == "imgkit.models" else "    import timm"
    also = (
        f"\ntimm knows the network once {first} is imported; Transformers does not know it.\n"
        if first
        else _TRANSFORMERS
    )
    answers = f"softmax(logits / {loaded.calibration.temperature:.4g})"
    if loaded.calibration.thresholds is not None:
        answers = (
            f"sigmoid{answers.removeprefix('softmax')}; a label is answered from its threshold in calibration.json on"
        )
    return f"{imports}{_TIMM}{also}\nIts calibrated probabilities are {answers}."


def _data(about: Mapping[str, Any]) -> str:
    n, data = about["data"]["n"], about["data"]
    name = printable(PurePath(str(data["where"]).split(" (")[0]).name).replace("`", "") or "a folder"
    splits = ", ".join(f"{split} {images:,}" for split, images in n.items() if images)
    fingerprint = f"Fingerprint of the data: `{data['fingerprint'][:16]}`."
    return f"`{name}`: {splits} images, {len(about['classes'])} classes. {fingerprint}"


def _training(about: Mapping[str, Any]) -> str:
    weights = about.get("weights") or {}
    start = {"none": "random weights"}.get(str(weights.get("kind")), f"weights of {about['model']}")
    return (
        f"`imgkit {about['verb']}` with the recipe `{about['recipe']}`, seed {about['seed']}, from {start}; "
        f"{about['parameters']:,} parameters."
    )


def _scores(run: RunFolder, loaded: LoadedModel) -> str:
    label = weights_label(loaded.config["imgkit"])
    found = run.evaluations()
    shown = [found[f"{split}@{label}"] for split in ("test", "val") if f"{split}@{label}" in found]
    if not shown:
        return "No score of these weights is stored in the run."
    lines = []
    for metrics in shown:
        told = " · ".join(
            f"{title} {with_interval(metrics[name], metrics['intervals'][name])}"
            for name, title in _TITLES[loaded.task].items()
        )
        lines.append(f"* {metrics['split']}, {count(metrics['n'], 'image')}: {told}; {guessing(metrics)}.")
    lines.append("\nIn brackets: 95 % intervals.")
    if len(shown) == 1 and shown[0]["split"] == "val":
        lines.append("Validation chose the weights, so its score flatters.")
    return "\n".join(lines)


def _limits(about: Mapping[str, Any], loaded: LoadedModel) -> str:
    every = "answers one of its classes to every picture, also to one that shows none of them"
    lines = [
        f"* It {every}." if loaded.task == "single" else "* It knows its labels and no others.",
        "* The scores are of pictures like those above; on others it may be worse, and nothing here says by how much.",
        "* Nobody has looked for groups of pictures that it treats worse than others, unless this card says so.",
    ]
    if about.get("smoke"):
        lines.insert(0, "* **Trained for a few steps only, to try the program: its answers mean nothing.**")
    return "\n".join(lines)


def _licence(licence: object, about: Mapping[str, Any]) -> str:
    if str((about.get("weights") or {}).get("kind")) == "none":
        return "It started from random weights, so no licence of others is on them; the data have their own."
    return f"Of the weights that training started from: {licence or 'not known'}. The data have their own."
