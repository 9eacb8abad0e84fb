"""Whole run folders made of scores, without a network: what a page is made from."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgkit.calibration import Calibration, calibrate
from imgkit.data.index import SPLITS, Index, PathTable, hash_array
from imgkit.evaluations import write_evaluation
from imgkit.recipe.load import load_recipe
from imgkit.recipe.write import render
from imgkit.run import RunFolder

EPOCHS = 4
STEP = 40


def scores_of(
    n: int, k: int, *, seed: int = 0, sure: float = 3.0, sets: bool = False
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """Targets of n images and logits (n, k) that are right more often than not; neighbours are confused most."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, k)).astype(np.float32)
    if sets:
        targets = (rng.random((n, k)) < 0.3).astype(np.float32)
        return targets, noise + sure * (targets - 0.5)
    targets = np.arange(n) % k
    logits = noise
    logits[np.arange(n), targets] += sure
    logits[np.arange(n), (targets + 1) % k] += sure / 2
    return targets.astype(np.int64), logits


def make_run(
    out: Path,
    name: str = "one",
    *,
    classes: Sequence[str] = ("cat", "dog", "eel"),
    n: int = 120,
    test: bool = True,
    sets: bool = False,
    seed: int = 0,
    sure: float = 3.0,
    paths: Sequence[str] | None = None,
    copied: Sequence[int] = (),
    pictures: int = 0,
    sets_of_recipe: Sequence[str] = (),
    **about: object,
) -> RunFolder:
    """A finished run with its index, recipe, history and evaluations of val and, with `test`, of test.

    Args:
        out: folder of runs.
        name: of the run.
        classes: their names.
        n: images of each split that is scored.
        test: whether there is a test split.
        sets: several labels an image.
        seed: of the scores; the images do not depend on it.
        sure: how good the network is.
        paths: of the last scored split, (n,).
        copied: rows of the last scored split whose bytes are those of a training image.
        pictures: how many images of the last scored split have pictures.
        sets_of_recipe: "train.batch_size=8" and so on.
        about: keys of run.json.
    """
    folder = RunFolder(out / name)
    for part in ("data", "evaluations", "model"):
        (folder.path / part).mkdir(parents=True)
    splits = ("train", "val", "test") if test else ("train", "val")
    last, k = splits[-1], len(classes)
    targets, logits = scores_of(n, k, seed=seed, sure=sure, sets=sets)
    paths = [f"{last}/{row:05d}.png" for row in range(n)] if paths is None else paths
    index = _index(out, splits, paths, targets, classes, copied)
    index.write_csv(folder.path / "data" / "index.csv")
    loaded = load_recipe("finetune", sets=["model.name=resnet18", "seed=3", *sets_of_recipe])
    (folder.path / "recipe.toml").write_text(render(loaded))
    content = {
        "schema": 1,
        "created": "2026-11-22T10:00:00+00:00",
        "name": name,
        "verb": "finetune",
        "command": "imgkit finetune resnet18 --data animals/",
        "model": "resnet18.a1_in1k",
        "recipe": "finetune",
        "seed": 3,
        "smoke": False,
        "device": "cpu",
        "machine": "CPU, 2 threads",
        "threads": 2,
        "format": {"precision": "float32", "why": "float32: the only one here", "memory": "channels_last"},
        "versions": {"python": "3.11.7", "imgkit-timm": "0.1.0", "torch": "2.14.1"},
        "data": {
            "where": "animals/",
            "root": "/data/animals",
            "fingerprint": index.fingerprint,
            "n": {split: len(index.rows(split)) for split in SPLITS},
            "notes": ["2 images are grayscale among colour ones, converted to RGB."],
        },
        "task": "multilabel" if sets else "single",
        "classes": list(classes),
        "loss_weights": {},
        "weights": {"kind": "hub", "detail": "timm/resnet18.a1_in1k", "licence": "apache-2.0", "sha256": "ab" * 32},
        "parameters": 11_689_512,
        "budget": {"size": {"limit": "50MB", "origin": "--max-size", "most": 5e7, "found": 4e7, "words": "40.0 MB"}},
        "preprocessing": {"size": [224, 224]},
        "plugins": [],
        **about,
    }
    folder.write_json("run.json", content)
    best = {"step": STEP, "metric": "val/f1_macro", "value": 0.7}
    folder.set_status("finished", step=STEP, total_steps=STEP, best=best)
    folder.write_rows("history.jsonl", _history(sets=sets))
    folder.write_rows(
        "steps.jsonl", [{"step": s, "phase": "all", "loss": 1.0, "lr": 1e-3 / s} for s in range(10, 41, 10)]
    )
    calibration = calibrate(logits, targets, classes)
    for split in splits[1:]:
        write(folder, split, index, targets, logits, classes, calibration)
    if pictures:
        write_pictures(folder.path / "evaluations" / f"{last}@{STEP}", paths, pictures)
    return folder


def write(
    folder: RunFolder,
    split: str,
    index: Index,
    targets: npt.NDArray[Any],
    logits: npt.NDArray[np.float32],
    classes: Sequence[str],
    calibration: Calibration,
) -> None:
    rows = index.rows(split)
    write_evaluation(
        folder.path / "evaluations" / f"{split}@{STEP}",
        paths=[index.paths[int(row)] for row in rows],
        targets=targets,
        logits=logits,
        classes=classes,
        split=split,
        step=STEP,
        seed=3,
        extra={"data": index.select(rows).fingerprint},
        calibration=calibration,
    )


def write_pictures(place: Path, paths: Sequence[str], n: int, *, side: int = 112, quality: int = 75) -> None:
    """Pictures of noise and their overlays for the first n rows, and images.json."""
    rng, entries = np.random.default_rng(0), []
    (place / "images").mkdir()
    for row in range(n):
        names = [f"{row:04d}.webp", f"{row:04d}-cam.webp"]
        for file in names:
            stream = io.BytesIO()
            small = Image.fromarray(rng.integers(0, 255, (14, 14, 3), dtype=np.uint8))
            small.resize((side, side)).save(stream, "WEBP", quality=quality)
            (place / "images" / file).write_bytes(stream.getvalue())
        why = ["mistake"] if row % 2 else ["cell"]
        entries.append({"row": row, "path": paths[row], "file": names[0], "cam": names[1], "cam_of": "cat", "why": why})
    (place / "images.json").write_text(
        json.dumps({"schema": 1, "longer_side": side, "images": entries, "left_out": []})
    )


def _index(
    out: Path,
    splits: Sequence[str],
    paths: Sequence[str],
    targets: npt.NDArray[Any],
    classes: Sequence[str],
    copied: Sequence[int],
) -> Index:
    n, last = len(targets), splits[-1]
    names = [
        path for split in splits for path in (paths if split == last else [f"{split}/{row}.png" for row in range(n)])
    ]
    digests = [hashlib.sha256(f"{split} {row}".encode()).hexdigest() for split in splits for row in range(n)]
    for row in copied:
        digests[(len(splits) - 1) * n + row] = digests[row]
    hot = targets.ndim == 2
    codes = [np.flatnonzero(row) if hot else np.array([row]) for row in targets] * len(splits)
    return Index(
        root=out,
        paths=PathTable.of(names),
        classes=tuple(classes),
        codes=np.concatenate(codes).astype(np.int64),
        offsets=np.concatenate([[0], np.cumsum([len(one) for one in codes])]).astype(np.int64),
        splits=np.repeat([SPLITS.index(split) for split in splits], n).astype(np.int8),
        groups=None,
        sizes=np.full(len(names), 100, dtype=np.int64),
        hashes=hash_array(digests),
        task="multilabel" if hot else "single",
        weights=None,
    )


def _history(*, sets: bool) -> list[dict[str, Any]]:
    score = "val/map" if sets else "val/top1"
    return [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "phase": "head" if epoch < 2 else "all",
            "solved": False,
            "lr": 1e-3 / epoch,
            "train_loss": 1.0 / epoch,
            "val/loss": 1.1 / epoch,
            score: 0.5 + 0.05 * epoch,
            "val/f1_macro": 0.5 + 0.05 * epoch,
            "best": True,
            "seconds": 12.5 * epoch,
            "images_per_second": 321.0,
        }
        for epoch in range(1, EPOCHS + 1)
    ]
