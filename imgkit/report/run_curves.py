"""The curves of a training as charts of a page, phases marked, and the same numbers as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from imgkit.errors import ImgkitError
from imgkit.plots.curves import Kind, Plot, plots_of
from imgkit.plots.history import History, history_of_run
from imgkit.report.html.axes import Axis
from imgkit.report.html.svg import Band, Point, Series, line_chart
from imgkit.run import RunFolder

_LOOKS: Mapping[Kind, int] = {"train": 0, "val": 1, "delta": 2, "rate": 4}
_MEASURED = {"lr": "learning rate", "f1": "F1", "map": "mAP"}
_FEWEST = 2  # epochs from which on a line says something


def charts_of(folder: RunFolder) -> list[Markup]:
    """The curves of a run so far; none where it has fewer than two epochs, or its history cannot be read."""
    try:
        history = history_of_run(folder)
    except ImgkitError:
        return []
    if len(history.epochs) < _FEWEST:
        return []
    return [_chart(plot, history) for plot in plots_of(history) if not plot.name.startswith("delta-")]


def epoch_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a table of epochs, as in history.jsonl; scores in percent."""
    names = {
        "val/loss": "val loss",
        "val/f1_macro": "val macro F1, %",
        "val/top1": "val top-1, %",
        "val/map": "val mAP, %",
        "val/subset_accuracy": "val exact sets, %",
    }
    there = [key for key in names if any(row.get(key) is not None for row in rows)]
    header = ["epoch", "phase", "learning rate", "train loss", *(names[key] for key in there), "images/s", "best"]
    return header, [
        [
            str(row["epoch"]),
            str(row["phase"]),
            _number(row.get("lr"), "{:.3g}"),
            _number(row.get("train_loss"), "{:.4f}"),
            *(_number(row.get(key), "{:.4f}" if key == "val/loss" else "{:.1%}").rstrip("%") for key in there),
            _number(row.get("images_per_second"), "{:.0f}"),
            "★" if row.get("best") else "",
        ]
        for row in rows
    ]


def _number(value: object, form: str) -> str:
    return form.format(float(value)) if isinstance(value, int | float) else ""


def _chart(plot: Plot, history: History) -> Markup:
    series = [
        Series(line.label, line.x, line.y, look=_LOOKS[line.kind], dashed=line.dashed, stepped=line.stepped)
        for line in plot.lines
    ]
    spans = history.spans
    low, high = spans[0].start, spans[-1].stop
    bands = [Band(phase.name, phase.start, phase.stop) for phase in spans]
    marks = [] if plot.mark is None else [Point(plot.mark.x, plot.mark.y, plot.mark.words, look=3)]
    words = [] if plot.mark is None else [f"{plot.mark.words[:1].upper()}{plot.mark.words[1:]}."]
    if history.chosen is not None and plot.name != "lr":
        words.append(f"{history.chosen.words[:1].upper()}{history.chosen.words[1:]}.")
    unit = f", {plot.unit}" if plot.unit else ""
    return line_chart(
        plot.title,
        " ".join(words),
        series,
        Axis("epoch", low, high, whole=True),
        Axis(
            f"{_MEASURED.get(plot.name, plot.name)}{unit}",
            plot.log_from,
            log=plot.log_from is not None,
        ),
        bands=bands if len(bands) > 1 else [],
        marks=marks,
    )
