"""Both networks on the same validation images: how far apart their logits, answers and scores are."""

import os
import runpy
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from imgkit.data.batches import eval_batches
from imgkit.data.byte_range import opened, parse
from imgkit.data.decode import load_image
from imgkit.data.index import Index
from imgkit.errors import BadImage, GateError, printable
from imgkit.exports.formats import MAX_DROP, TOLERANCE, Wish
from imgkit.features import BATCH, filled
from imgkit.models.folder import LoadedModel
from imgkit.report.compare import Comparison, Gap, Targets, compare, macro_f1
from imgkit.screen import Screen
from imgkit.terminal import percent

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]
Answer = Callable[[Pixels], Logits]
"""The exported network: pixels uint8 (B, C, H, W) -> logits (B, K)."""
OneFile = Callable[[str], tuple[Pixels | None, Logits]]
"""What uses the export as its users do: a picture's file -> the pixels (C, H, W) it was made into, logits (K,)."""


@dataclass(frozen=True)
class Answers:
    """What was answered to N images, whose rows of the index are `ids`, int64 (N,).

    Args:
        targets: the truth, int64 (N,), or zeros and ones (N, K) of several labels.
        source: logits of the run's network, float32 (N, K).
        exported: those of the exported one, of the same pixels.
        from_files: those of what reads the files by itself; None: there is none.
        same_pixels: of how many images it made the same pixels as the run; None: it does not tell.
    """

    ids: npt.NDArray[np.int64]
    targets: npt.NDArray[Any]
    source: Logits
    exported: Logits
    from_files: Logits | None
    same_pixels: int | None


def ask_both(
    loaded: LoadedModel,
    exported: Answer,
    index: Index,
    rows: npt.NDArray[np.int64],
    max_pixels: int,
    screen: Screen,
    one_file: OneFile | None = None,
) -> Answers:
    """Have the run's network and the exported one answer rows of the index, on this machine's processor.

    The source gets full batches, as when it is scored; the export those of the images that are left at the end, whose
    last one comes alone, so that its batches are of several sizes whatever the number of images.

    Raises:
        BadImage: at a file that cannot be read.
        GateError: if the exported network cannot answer.
    """
    ids, targets, source, other, alone, same = [], [], [], [], [], 0
    model = loaded.model.to("cpu").eval()
    batches = eval_batches(
        index, rows, preprocessing=loaded.preprocessing, batch_size=BATCH, workers=0, max_pixels=max_pixels
    )
    with closing(batches), screen.progress("comparing") as progress, torch.inference_mode():
        for batch in batches:
            pixels = np.ascontiguousarray(batch.images.numpy())
            source.append(model(filled(loaded.preprocessing.normalise(batch.images)))[: len(pixels)].float().numpy())
            last = len(pixels) - 1 if sum(map(len, source)) == len(rows) else 0
            other += [exported(part) for part in (pixels[:last], pixels[last:]) if len(part)]
            for row, mine in zip(batch.ids.tolist() if one_file else (), pixels, strict=False):
                assert one_file is not None
                theirs, logits = one_file(os.fspath(index.path(row)))
                same += theirs is not None and np.array_equal(theirs, mine)
                alone.append(logits)
            ids.append(batch.ids.numpy())
            targets.append(batch.targets.numpy())
            progress(sum(map(len, ids)), len(rows))
    together = np.concatenate
    return Answers(
        together(ids),
        together(targets),
        together(source),
        together(other),
        np.stack(alone) if alone else None,
        same if alone and theirs is not None else None,
    )


def by_the_script(folder: Path, threads: int) -> OneFile:
    """What predict_onnx.py of an export makes of a file; the script itself is run, on Pillow and numpy alone."""
    model = runpy.run_path(os.fspath(folder / "predict_onnx.py"))["Model"](folder, threads)

    def one(path: str) -> tuple[Pixels, Logits]:
        with _as_file(path, folder) as file:
            try:
                pixels = model.pixels(file)
            except OSError as error:  # else it is told as one of the disk that is written to
                raise BadImage(path, error.strerror or str(error)) from error
        return pixels[0], model.logits(pixels)[0]

    return one


@contextmanager
def _as_file(path: str, folder: Path) -> Iterator[str]:
    """A picture as a file of its own while inside: a part of a shard is written into one below `folder`.

    Raises:
        BadImage: if a part cannot be read.
        OSError: if it cannot be written.
    """
    part = parse(path)
    if part is None:
        yield path
        return
    try:
        content = opened(path).read()
    except OSError as error:
        raise BadImage(path, error.strerror or str(error)) from error
    with TemporaryDirectory(dir=folder) as name:
        file = Path(name, f"picture{Path(part.name).suffix}")
        file.write_bytes(content)
        yield os.fspath(file)


def by_timm(network: nn.Module, max_pixels: int, min_side: int) -> OneFile:
    """What timm's own transform and network make of a picture that imgkit decoded."""
    from timm.data import create_transform, resolve_data_config

    config = resolve_data_config(pretrained_cfg=network.pretrained_cfg)
    greys, transform = config["input_size"][0] == 1, create_transform(**config)

    def one(path: str) -> tuple[None, Logits]:
        image = load_image(Path(path), max_pixels=max_pixels, min_side=min_side)
        return None, network(transform(image.convert("L") if greys else image)[None])[0].numpy()

    return one


def proof_of(found: Answers, loaded: LoadedModel, wish: Wish, seed: int) -> dict[str, Any]:
    """What verify.json says of the answers: distances, agreement and scores, and the limit that was set."""
    base = labels_of(loaded, found.source)
    truth = found.targets if loaded.task == "single" else found.targets.astype(np.bool_)
    proof: dict[str, Any] = {"n": len(base), "source": _scores(truth, base)}
    proof["exported"] = _compared(found.exported, found.source, truth, base, loaded, seed)
    if found.from_files is not None:
        proof["from_files"] = _compared(found.from_files, found.source, truth, base, loaded, seed)
        if found.same_pixels is not None:
            proof["from_files"]["same_pixels"] = found.same_pixels
    proof["limit"] = (
        {"f1_macro_drop": (MAX_DROP if wish.max_drop is None else wish.max_drop) / 100}
        if wish.rounds
        else {"max_abs_logit": TOLERANCE if wish.tolerance is None else wish.tolerance}
    )
    proof["faults"] = _faults(proof)
    return proof


def labels_of(loaded: LoadedModel, logits: Logits) -> Targets:
    """The answers of logits (N, K): classes int64 (N,), or whether each label is answered, bool (N, K)."""
    least = loaded.calibration.thresholds
    if least is None:
        likeliest: Targets = logits.argmax(axis=1)
        return likeliest
    answered: Targets = loaded.calibration.probabilities(logits) >= np.array([least[name] for name in loaded.classes])
    return answered


def refuse(proof: Mapping[str, Any], kept: Path) -> None:
    """Say that an export may not be used, if that is so.

    Args:
        proof: from `proof_of`.
        kept: the file in which it stands.

    Raises:
        GateError: if it has a fault.
    """
    if proof["faults"]:
        raise GateError(
            "\n".join(
                ["The exported network does not answer as the run's does, so there is no export:", *proof["faults"]]
            ),
            f"All that was measured: {printable(str(kept))}\n{_advice(proof)}",
        )


def lines_of(proof: Mapping[str, Any]) -> list[str]:
    """What was compared, for people."""
    right = "top-1" if "top1" in proof["source"] else "exact sets"
    lines = []
    for name, what in (("exported", "same pixels"), ("from_files", "from files")):
        if name not in proof:
            continue
        part = proof[name]
        text = f"{what}: logits at most {part['max_abs_logit']:.2g} apart, same answer to {part['same']:,} of "
        text += f"{proof['n']:,}"
        if "same_pixels" in part:
            text += f", same pixels of {part['same_pixels']:,}"
        lines.append(text)
    for name in ("f1_macro", "top1", "exact"):
        if name in proof["source"]:
            title = "macro F1" if name == "f1_macro" else right
            gap, ends = proof["exported"]["difference"][name], proof["exported"]["difference"][f"{name}_interval"]
            told = "" if ends is None else f", 95 % interval {100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"
            before, after = percent(proof["source"][name]), percent(proof["exported"][name])
            lines.append(f"{title} {before} before, {after} after ({100 * gap:+.2f} points{told}; n = {proof['n']:,})")
    return lines


def _scores(truth: Targets, answers: Targets) -> dict[str, float]:
    right = answers == truth if truth.ndim == 1 else (answers == truth).all(axis=1)
    return {"f1_macro": macro_f1(truth, answers), ("top1" if truth.ndim == 1 else "exact"): float(right.mean())}


def _compared(
    logits: Logits, source: Logits, truth: Targets, base: Targets, loaded: LoadedModel, seed: int
) -> dict[str, Any]:
    answers, apart = labels_of(loaded, logits), np.abs(logits.astype(np.float64) - source)
    same = answers == base if base.ndim == 1 else (answers == base).all(axis=1)
    return {
        "max_abs_logit": float(apart.max()),
        "mean_abs_logit": float(apart.mean()),
        "same": int(same.sum()),
        **_scores(truth, answers),
        "difference": _difference(compare(truth, base, answers, seed=seed), truth.ndim == 1),
    }


def _difference(found: Comparison, single: bool) -> dict[str, Any]:
    def both(name: str, gap: Gap) -> dict[str, Any]:
        return {name: gap.value, f"{name}_interval": None if gap.interval is None else list(gap.interval)}

    return both("f1_macro", found.f1) | both("top1" if single else "exact", found.right)


def _faults(proof: Mapping[str, Any]) -> list[str]:
    """Why the export may not be used, a sentence each."""
    faults = []
    for name, what in (("exported", "on the same pixels"), ("from_files", "from the pictures' files")):
        part = proof.get(name)
        if part is None:
            continue
        apart, most = part["max_abs_logit"], proof["limit"].get("max_abs_logit")
        if not np.isfinite(apart):
            faults.append(f"{what} a logit is not finite")
        elif most is not None and apart > most:
            faults.append(f"{what} a logit is {apart:.3g} away, over the limit of {most:g} (--tolerance)")
        drop, most = -part["difference"]["f1_macro"], proof["limit"].get("f1_macro_drop")
        if most is not None and drop > most + 1e-12:
            faults.append(
                f"{what} macro F1 falls by {100 * drop:.2f} points, over the limit of {100 * most:g} (--max-drop); "
                f"n = {proof['n']:,}"
            )
        if part.get("same_pixels", proof["n"]) < proof["n"]:
            faults.append(f"of {proof['n'] - part['same_pixels']:,} files it makes other pixels than the run did")
    return faults


def _advice(proof: Mapping[str, Any]) -> str:
    if "f1_macro_drop" in proof["limit"]:
        lines = "One that loses nothing:  --to onnx", "With ranges of more images:  --calibration 512"
        return "\n".join([*lines, "Or allow more:  --max-drop POINTS"])
    return "Another format may do:  --to timm\nIf you know why, allow more:  --tolerance X"
