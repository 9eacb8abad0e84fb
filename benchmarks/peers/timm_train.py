"""timm's own train.py on one split, at sensible fine-tuning flags, scored by timm's evaluation transform.

    git clone https://github.com/huggingface/pytorch-image-models TIMM
    python benchmarks/peers/timm_train.py --csv DATA/solar2-0.csv --scratch SCRATCH --timm-repo TIMM --out timm.json

train.py is not in timm's wheel, so a checkout is asked for (its own timm is the one that trains). It trains five
epochs from the ImageNet weights and keeps the checkpoint with the best validation accuracy, which is then scored on the
test part, once. Everything that TRAIN_FLAGS leaves out is train.py's default (random resized crop, flip, colour jitter
0.4, label smoothing 0.1, no exponential moving average).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common

METER = common.Meter()  # before the heavy imports, so that they count

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

EPOCHS = 5
TRAIN_FLAGS = (
    *("--pretrained", "--opt", "adamw", "--lr", "3e-4", "--weight-decay", "0.05"),
    *("--epochs", str(EPOCHS), "--sched", "cosine", "--warmup-epochs", "1", "--sched-on-updates"),
    *("--batch-size", "32", "--checkpoint-hist", "1", "--workers", "1", "--device", "cpu", "--log-interval", "20"),
)


def link_folders(split: common.Split, root: Path) -> None:
    """Lay train and val out as root/SPLIT/CLASS/picture, by links, and write root/classes.txt."""
    shutil.rmtree(root, ignore_errors=True)
    for path, label, part in split.rows:
        if part == "test":
            continue  # train.py never sees it
        folder = root / part / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path.resolve())
    (root / "classes.txt").write_text("\n".join(split.classes) + "\n")


def train_command(root: Path, repo: Path, weights: Path, classes: int, size: int, seed: int) -> list[str]:
    """The command line of train.py."""
    return [
        *(sys.executable, str(repo / "train.py")),
        *("--data-dir", str(root), "--train-split", "train", "--val-split", "val"),
        *("--class-map", str(root / "classes.txt"), "--num-classes", str(classes), "--model", common.MODEL),
        *("--pretrained-path", str(weights), "--img-size", str(size), "--seed", str(seed), *TRAIN_FLAGS),
        *("--output", str(root), "--experiment", "run"),
    ]


def load_best(root: Path, classes: int) -> torch.nn.Module:
    """The network of the epoch with the best validation accuracy, ready to score."""
    import timm
    import torch

    model = timm.create_model(common.MODEL, num_classes=classes)
    saved = torch.load(root / "run" / "model_best.pth.tar", map_location="cpu", weights_only=False)  # our own file
    model.load_state_dict(saved["state_dict"])
    return model.eval()


def predict(model: torch.nn.Module, paths: list[Path], size: int) -> NDArray[np.int64]:
    """Class codes (N,), by timm's evaluation transform at the given size."""
    import numpy as np
    import torch
    from PIL import Image
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    config = resolve_data_config({"img_size": size}, model=model)  # type: ignore[no-untyped-call]
    transform = create_transform(**config, is_training=False)
    codes: list[NDArray[np.int64]] = []
    with torch.inference_mode():
        for start in range(0, len(paths), 64):
            images = [transform(Image.open(path).convert("RGB")) for path in paths[start : start + 64]]
            codes.append(model(torch.stack(images)).argmax(dim=1).numpy())  # (B, 3, H, W) -> (B, K) -> (B,)
    return np.concatenate(codes)


def score_test(model: torch.nn.Module, split: common.Split, size: int) -> dict[str, Any]:
    """Score the test part once."""
    import numpy as np

    test = split.part("test")
    targets = np.array([split.classes.index(label) for _, label in test])
    return common.score(targets, predict(model, [path for path, _ in test], size), split.classes)


def checkout_version(repo: Path) -> str:
    """The timm version that the checkout itself names."""
    return (repo / "timm" / "version.py").read_text().split("=")[1].strip().strip("'\"")


def main() -> None:
    """Train, score, write."""
    parser = common.arguments("timm's train.py on one split.")
    parser.add_argument("--timm-repo", type=Path, required=True, help="checkout of pytorch-image-models")
    args = parser.parse_args()
    common.prepare_environment()
    split = common.Split.read(args.csv)
    size = args.size or common.SIZE_OF_TASK_PX[split.task]
    seed = split.index if args.seed is None else args.seed
    scratch, repo = args.scratch.resolve(), args.timm_repo.resolve()
    root = scratch / f"timm-{split.task}-{split.index}"

    link_folders(split, root)
    command = train_command(root, repo, common.timm_weights(scratch), len(split.classes), size, seed)
    subprocess.run(command, check=True, cwd=root)
    trained = METER.read()

    import torch

    torch.set_num_threads(common.THREADS)
    scores = score_test(load_best(root, len(split.classes)), split, size)
    common.write_result(
        args.out,
        {
            "tool": "timm",
            "task": split.task,
            "split": split.index,
            **scores,
            "n_train": len(split.part("train")),
            "n_val": len(split.part("val")),
            **METER.read(),
            "trained_wall_s": trained["wall_s"],
            "trained_cpu_s": trained["cpu_s"],
            "epochs": EPOCHS,
            "frozen_epochs": 0,
            "batch_size": 32,
            "model": common.MODEL,
            "image_size_px": size,
            "checkpoint": "best validation accuracy",
            "seed": seed,
            "train_command": " ".join(common.shortened(word) for word in ["python", *command[1:]]),
            **common.surroundings(("timm", "scikit-learn")),
            "timm_checkout": checkout_version(repo),
        },
    )


if __name__ == "__main__":
    main()
