"""The table of epochs on a terminal: the columns that fit, a header and a line an epoch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.cells import cell_len

from imgkit.terminal import clock, percent


@dataclass(frozen=True)
class _Column:
    title: str
    key: str
    width: int
    kind: str  # loss | share | rate | clock
    keep: int  # the smaller, the longer it stays on a narrow screen


_LABEL_WIDTH = 8
_COLUMNS = (
    _Column("train loss", "train_loss", 11, "loss", 4),
    _Column("val loss", "val/loss", 10, "loss", 2),
    _Column("top-1", "val/top1", 9, "share", 0),
    _Column("mAP", "val/map", 9, "share", 0),
    _Column("macro F1", "val/f1_macro", 10, "share", 1),
    _Column("img/s", "images_per_second", 7, "rate", 6),
    _Column("time", "seconds", 8, "clock", 3),
    _Column("left", "left_s", 8, "clock", 5),
)
_SHORT = {"loss_calibrated": "cal. loss", "topk": "top-k", "subset_accuracy": "exact sets"}
_SHORT |= {"precision": "prec.", "f1": "F1"}


def _columns(monitor: str) -> tuple[_Column, ...]:
    """All columns; one for `monitor` comes before the times if none shows it yet."""
    if any(column.key == monitor for column in _COLUMNS):
        return _COLUMNS
    name = monitor.removeprefix("val/")
    score, _, mean = name.rpartition("_")
    title = _SHORT.get(name) or f"{mean} {_SHORT.get(score, score)}"  # "weighted F1"
    column = _Column(title, monitor, len(title) + 2, "loss" if "loss" in name else "share", 0)
    at = next(number for number, one in enumerate(_COLUMNS) if one.kind == "rate")
    return (*_COLUMNS[:at], column, *_COLUMNS[at:])


class EpochTable:
    """Which columns fit into `width`, and their texts.

    Args:
        width: of the screen.
        absent: keys of the columns that the task does not have.
        monitor: key of the score that chooses the best row: it stays longest.
    """

    def __init__(self, width: int, absent: Collection[str], monitor: str) -> None:
        columns = [replace(one, keep=-1 if one.key == monitor else one.keep) for one in _columns(monitor)]
        columns = [column for column in columns if column.key not in absent]
        room = width - 1 - _LABEL_WIDTH - 3  # 3: the mark of the best row
        chosen: list[_Column] = []
        for column in sorted(columns, key=lambda column: column.keep):
            if column.width <= room:
                chosen.append(column)
                room -= column.width
            else:
                break
        self._columns = [column for column in columns if column in chosen]
        self._mark = "  ★ best" if room + 3 >= 8 else "  ★"

    def header(self) -> str:
        """The titles, each over the right end of its numbers."""
        return " " + "epoch".ljust(_LABEL_WIDTH) + "".join(c.title.rjust(c.width) for c in self._columns)

    def row(self, row: Mapping[str, Any]) -> str:
        """The line of an epoch."""
        phase, epoch = str(row.get("phase") or ""), row.get("epoch")
        # A solved head belongs to no epoch: its phase alone names it.
        number = f" {epoch}" if epoch else ""
        name = phase if cell_len(phase) + len(number) <= _LABEL_WIDTH else phase[: _LABEL_WIDTH - len(number) - 1] + "…"
        cells = "".join(_cell(row.get(c.key), c.kind).rjust(c.width) for c in self._columns)
        return " " + f"{name}{number}".strip().ljust(_LABEL_WIDTH) + cells + (self._mark if row.get("best") else "")


def _cell(value: float | None, kind: str) -> str:
    if value is None:
        return "-"
    if kind == "share":
        return percent(value)
    if kind == "clock":
        return clock(value)
    if kind == "rate":
        return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"
    return f"{value:z.3f}" if abs(value) < 1000 else f"{value:.2e}"
