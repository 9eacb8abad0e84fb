"""The table of classes before the first step: images, weights in the loss, expected draws; and what imbalance means."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from rich.cells import cell_len, set_cell_size

from imgkit.data.index import Index, Ints
from imgkit.data.sampling import class_counts, expected_draws, row_weights
from imgkit.errors import printable
from imgkit.recipe.plan import Plan

Sampling = Mapping[str, tuple[str, int]]
"""Phases that take gradient steps: name -> sampler, images an epoch draws."""

T = TypeVar("T")

_IMBALANCE = 3  # times the smallest class; above it the table is shown
_SHOWN = 20  # classes
_NAME_WIDTH = 28
_NO_LABEL = "(no label)"


def sampling_of(plan: Plan) -> Sampling:
    """How each phase draws that takes gradient steps."""
    return {
        phase.name: (phase.settings.sampler, phase.steps_per_epoch * phase.settings.batch_size)
        for phase in plan.phases
        if phase.lr is not None
    }


def class_table(
    index: Index,
    sampling: Sampling,
    weights: Mapping[str, Mapping[str, float]],
    shifts: Mapping[str, Mapping[str, float]] | None = None,
) -> list[str]:
    """The training classes, the rarest first, as lines of columns: class, images, weight, logit shift, draws an epoch.

    Empty unless an epoch draws otherwise than each image once, the loss has class weights or shifts, or the largest
    class has more than three times the images of the smallest; what may be done about that is the last line, where
    nothing is.

    Args:
        index: the data.
        sampling: from `sampling_of`.
        weights: of the classes in the loss, by phase and class name, where it has any.
        shifts: by how much the loss raises their logits, likewise.

    Raises:
        DataError: if every image has the weight 0.
    """
    rows = index.rows("train")
    counts = class_counts(index, rows)
    done = bool(weights or shifts)
    if not done and _is_uniform(sampling) and not _is_unequal(counts[:-1]):
        return []
    names = (*index.classes, _NO_LABEL)
    columns: list[tuple[str, list[str]]] = [
        ("class", [_cut(name) for name in names]),
        ("images", [f"{n:,}" for n in counts.tolist()]),
    ]
    for phases, own in _same(weights):
        columns.append((f"weight{phases}", [f"{own[name]:.3g}" if name in own else "-" for name in names]))
    for phases, own in _same(shifts or {}):
        columns.append((f"logit shift{phases}", [f"{own[name]:+.2f}" if name in own else "-" for name in names]))
    for phases, (sampler, draws) in _same(sampling):
        expected = expected_draws(index, rows, row_weights(index, rows, sampler), draws)
        columns.append((f"{sampler} draws{phases}", [f"{n:,.1f}" for n in expected.tolist()]))
    rarest = np.argsort(counts, kind="stable")
    listed = [code for code in rarest.tolist() if code < len(index.classes) or counts[code]]
    lines = _aligned(columns, listed[:_SHOWN])
    more = len(listed) - _SHOWN
    lines += [f"and {more:,} more"] if more > 0 else []
    return lines if done or not _is_uniform(sampling) else [*lines, _advice(index, counts[:-1], bool(sampling))]


def _advice(index: Index, counts: Ints, sampled: bool) -> str:
    """What may be done about classes of such different size; `sampled`: some phase takes gradient steps."""
    large, small = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin())
    names = [f"{printable(index.classes[code])!r} ({counts[code]:,})" for code in (large, small)]
    draw = "Draw rare classes more often:  --sampler sqrt (or balanced).  " if sampled else ""
    own = "loss.name=bce --set loss.pos_weight=sqrt (or neg_pos)"
    weigh = (
        own
        if index.task == "multilabel"
        else "loss.class_weights=sqrt (or inverse), or raise their logits:  --set loss.name=logit_adjusted"
    )
    return (
        f"The largest class, {names[0]}, has {counts[large] / counts[small]:.1f} times the images of the smallest, "
        f"{names[1]}, and counts as much more in training. {draw}Weigh their loss more:  --set {weigh}."
    )


def _is_uniform(sampling: Sampling) -> bool:
    return all(sampler == "uniform" for sampler, _ in sampling.values())


def _is_unequal(counts: Ints) -> bool:
    present = counts[counts > 0]
    return len(present) > 0 and int(present.max()) > _IMBALANCE * int(present.min())


def _same(by_phase: Mapping[str, T]) -> list[tuple[str, T]]:
    """Phases with the same content as one: " (head, all)", or "" where they are all the same; and the content."""
    groups: list[tuple[list[str], T]] = []
    for phase, content in by_phase.items():
        known = next((names for names, other in groups if other == content), None)
        if known is None:
            groups.append(([phase], content))
        else:
            known.append(phase)
    if len(groups) == 1:
        return [("", groups[0][1])]
    return [(f" ({', '.join(names)})", content) for names, content in groups]


def _cut(name: str) -> str:
    text = printable(name)
    return text if cell_len(text) <= _NAME_WIDTH else set_cell_size(text, _NAME_WIDTH - 1) + "…"


def _aligned(columns: Sequence[tuple[str, Sequence[str]]], order: Sequence[int]) -> list[str]:
    """A header and the cells of `order` as lines; names to the left, numbers to the right."""
    lines = [""] * (1 + len(order))
    for number, (title, cells) in enumerate(columns):
        texts = [title, *(cells[code] for code in order)]
        width = max(map(cell_len, texts))
        for line, text in enumerate(texts):
            space = " " * (width - cell_len(text))
            lines[line] += text + space if number == 0 else f"  {space}{text}"
    return lines
