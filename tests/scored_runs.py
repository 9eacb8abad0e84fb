"""Run folders with stored answers, made without training: an index, and evaluations of logits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sample_runs import write_run

from imgkit.data.index import Index, PathTable
from imgkit.evaluations import write_evaluation
from imgkit.recipe.load import load_recipe
from imgkit.recipe.write import render
from imgkit.run import RunFolder

CLASSES = ("cat", "dog", "eel")


def index_of(
    n: int = 90, classes: Sequence[str] = CLASSES, *, several: bool = False, seed: int = 0, paths: Sequence[str] = ()
) -> Index:
    """A table of n images, a third of them in each split, whose content is told by their path."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 3, n) if several else np.ones(n, dtype=np.int64)
    codes = [sorted(rng.choice(len(classes), count, replace=False)) for count in counts]
    names = [*paths, *(f"pictures/{row:04d}.png" for row in range(len(paths), n))]
    return Index(
        root=Path("/nowhere"),
        paths=PathTable.of(names),
        classes=tuple(classes),
        codes=np.array([code for row in codes for code in row], dtype=np.int64),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        splits=(np.arange(n) % 3).astype(np.int8),
        groups=None,
        sizes=np.full(n, 100, dtype=np.int64),
        hashes=np.frombuffer(b"".join(f"{hash_of(name):032d}".encode() for name in names), np.uint8).reshape(n, 32),
        task="multilabel" if several else "single",
    )


def hash_of(name: str) -> int:
    """A number of up to 31 digits for a name."""
    return int.from_bytes(name.encode("utf-8", "surrogateescape")[-12:], "big")


def logits_of(index: Index, split: str, share: float, seed: int = 0) -> npt.NDArray[np.float32]:
    """Logits (n, K) for the images of a split that are right on about `share` of them."""
    rng, targets = np.random.default_rng(seed), index.targets()[index.rows(split)]
    hot = targets if index.task == "multilabel" else np.eye(len(index.classes), dtype=np.float32)[targets]
    right = rng.random((len(hot), 1)) < share
    wrong = rng.random(hot.shape) if index.task == "multilabel" else np.roll(hot, 1, axis=1)
    return (8 * np.where(right, hot, wrong) - 4 + rng.normal(0, 0.1, hot.shape)).astype(np.float32)


def write_scored_run(
    out: Path,
    name: str,
    index: Index,
    shares: Mapping[str, float],
    *,
    draw: int = 0,
    sets: Sequence[str] = (),
    **about: Any,  # noqa: ANN401
) -> RunFolder:
    """A finished run whose evaluations at step 10 are right on about `shares` of the images of each split.

    `draw` is the seed of which images these are; `sets` are values for its recipe.
    """
    counts = {split: len(index.rows(split)) for split in ("train", "val", "test")}
    data = {"where": "cells/", "fingerprint": index.fingerprint, "n": counts, "root": "/nowhere"}
    recipe = load_recipe("finetune", sets=[f"seed={about.get('seed', 0)}", *sets])
    given = {"task": index.task, "classes": list(index.classes), "data": data, "recipe_text": render(recipe), **about}
    content = given.pop("data")
    folder = write_run(out, name, f1=0.5, split="spare", **given)
    folder.write_json("run.json", folder.read_json("run.json") | {"data": content})
    (folder.path / "data").mkdir()
    index.write_csv(folder.path / "data" / "index.csv")
    for split, share in shares.items():
        rows = index.rows(split)
        write_evaluation(
            folder.path / "evaluations" / f"{split}@10",
            paths=[index.paths[int(row)] for row in rows],
            targets=index.targets()[rows],
            logits=logits_of(index, split, share, draw),
            classes=index.classes,
            split=split,
            step=10,
            seed=0,
            extra={"data": index.select(rows).fingerprint},
            fit_loss=False,
        )
    return folder
