"""A short run, and the hash of everything that it promises to repeat bit for bit."""

import hashlib
import json
from pathlib import Path

import torch

from imgkit import Run, checkpoint, finetune
from imgkit.plugin_files import Given

SHORT = """
schema = 1
name = "short"
seed = 3

[model]
weights = "none"
image_size = 32

[train]
batch_size = 8
micro_batch = 4
ema = 0.9
batch_norm = "train"
precision = "float32"

[augment]
jitter = [0.2, 0.2, 0.2, 0.1]
jitter_p = 0.5

[save]
every_steps = 2

[[phases]]
name = "head"
train = "head"
solver = "logistic"

[[phases]]
name = "top"
train = "last:2"
steps = 5
lr = 1e-3

[[phases]]
name = "all"
train = "all"
epochs = 2
lr = 1e-3
schedule = { name = "cosine", warmup = "20%" }
"""


def write_recipe(folder: Path, text: str = SHORT) -> str:
    """The recipe as a file."""
    file = folder / "short.toml"
    file.write_text(text)
    return str(file)


def short_run(
    folder: Path, *sets: str, data: str = "synthetic:3x16", name: str = "run", workers: int = 0, plugin: Given = ()
) -> Run:
    """Train a small network in a second or two."""
    folder.mkdir(parents=True, exist_ok=True)
    return finetune(
        "test_resnet",
        recipe=write_recipe(folder),
        data=data,
        out=folder / "runs",
        name=name,
        sets=[f"run.workers={workers}", *sets],
        plugin=plugin,
    )


def fingerprint(run: Run, *, best: bool = True) -> str:
    """SHA-256 over weights, averages, optimizer, history and best of a run's newest checkpoint; times left out.

    Without `best`, so is which epoch was the best: what a full disk kept off it is not.
    """
    found = checkpoint.load(run.folder.path / "checkpoints", lambda text: None)
    assert found is not None
    digest = hashlib.sha256(str(found.step).encode())
    for name, tensor in sorted([*found.model.items(), *found.train.items()]):
        digest.update(name.encode())
        digest.update(
            tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else repr(tensor.item()).encode()
        )
    state = json.loads(json.dumps(found.state))
    for time in ("seconds", "train_seconds", "closing_seconds"):
        state["progress"].pop(time)
    for row in state["progress"]["history"]:
        row.pop("seconds")
        row.pop("images_per_second")
        if not best:
            row.pop("best")
    if not best:
        state["progress"].pop("best")
        state["progress"].pop("epochs_without_gain")
    digest.update(json.dumps(state, sort_keys=True).encode())
    return digest.hexdigest()
