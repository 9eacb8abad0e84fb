"""Charts of the page of many runs: curves over each other, and macro F1 against what it cost."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from imgkit.data.rows import count
from imgkit.report.html.axes import Axis
from imgkit.report.html.svg import Point, Series, line_chart, scatter
from imgkit.report.trials import Group, Ladder, Trial

CURVES = 8
"""Runs of a ladder whose curves are drawn over each other, and that have a look of their own in every chart."""
_NUMBERS = {
    "val/loss": ("Loss on validation", "loss", 1.0),
    "val/f1_macro": ("Macro F1 on validation", "macro F1, %", 100.0),
}


class Cost(NamedTuple):
    """What a score is drawn against: a title, the axis, and a run's place on it."""

    title: str
    axis: str
    place: Callable[[Trial], float | None]


COSTS = (
    Cost("Macro F1 against parameters", "parameters, millions", lambda trial: _in(trial.run.parameters, 1e6)),
    Cost("Macro F1 against the size of the weights", "MiB", lambda trial: _in(trial.size_bytes, 2**20)),
    Cost("Macro F1 against training time", "minutes", lambda trial: _in(trial.run.seconds, 60)),
    Cost("Macro F1 against training images", "training images", lambda trial: float(trial.train_images)),
)


def draw_curves(ladder: Ladder) -> list[Markup]:
    """Loss and macro F1 on validation by epoch, of the best `CURVES` runs; none where no run has two epochs."""
    charts = []
    for title, (unit, lines) in curves(ladder).items():
        words = f"By epoch, of {'the best ' if len(ladder.trials) > CURVES else ''}{count(len(lines), 'run')}."
        epochs = [epoch for line in lines for epoch in line.x]
        across = Axis("epoch", min(epochs) - 0.5, max(epochs) + 0.5, whole=True)  # no marker on the other axis
        charts.append(line_chart(title, words, lines, across, Axis(unit)))
    return charts


def curves(ladder: Ladder) -> Mapping[str, tuple[str, list[Series]]]:
    """The unit and the lines of each number by title; a run that has a number at fewer than two epochs has no line."""
    found: dict[str, tuple[str, list[Series]]] = {}
    for look, (rank, trial) in enumerate(zip(ladder.ranks[:CURVES], ladder.trials[:CURVES], strict=True)):
        history = trial.folder.history()
        for key, (title, unit, scale) in _NUMBERS.items():
            rows = [row for row in history if row.get(key) is not None]
            if len(rows) > 1:
                x, y = [float(row["epoch"]) for row in rows], [scale * float(row[key]) for row in rows]
                found.setdefault(title, (unit, []))[1].append(Series(f"{rank}. {trial.run.name}", x, y, look))
    return found


def draw_costs(ladder: Ladder) -> list[Markup]:
    """Macro F1 against size, time and training images, where the runs differ in them."""
    legend = [f"{rank}. {trial.run.name}" for rank, trial in zip(ladder.ranks, ladder.trials, strict=True)]
    charts = []
    for cost in COSTS:
        points = against_cost(ladder, cost)
        if len({point.x for point in points}) > 1:
            words = f"Each point is a run with its 95 % interval, scored on {ladder.split}."
            own = legend if len(legend) <= CURVES else ()
            charts.append(scatter(cost.title, words, points, Axis(cost.axis, low=0.0), Axis("macro F1, %"), legend=own))
    return charts


def against_cost(ladder: Ladder, cost: Cost) -> list[Point]:
    """The runs of which the cost is known; with more than `CURVES` runs all look alike."""
    few = len(ladder.trials) <= CURVES
    return [
        _point(f"{rank}. {trial.run.name}", trial, x, look if few else 0)
        for look, (rank, trial) in enumerate(zip(ladder.ranks, ladder.trials, strict=True))
        if (x := cost.place(trial)) is not None
    ]


def draw_more_data(groups: Sequence[Group]) -> list[Markup]:
    """A chart for each set of images that runs of several groups were scored on."""
    charts = []
    for scored, trials in of_the_same_images(groups).items():
        numbers = sorted({number for number, _ in trials})
        points = [
            _point(f"{trial.run.name} (group {number})", trial, float(trial.train_images), numbers.index(number))
            for number, trial in trials
        ]
        n, split = trials[0][1].score.n, trials[0][1].score.split
        words = f"All are scored on the same {n:,} {split} images (data {scored[:8]}), with 95 % intervals."
        x, y = Axis("training images", low=0.0), Axis("macro F1, %")
        legend = [f"group {number}" for number in numbers]
        charts.append(scatter("Macro F1 against training images", words, points, x, y, legend=legend))
    return charts


def of_the_same_images(groups: Sequence[Group]) -> Mapping[str, list[tuple[int, Trial]]]:
    """Runs with the number of their group by the fingerprint of what they are scored on, where groups share it."""
    together: dict[str, list[tuple[int, Trial]]] = {}
    for group in groups:
        for ladder in group.ladders:
            if ladder.best.scored:
                together.setdefault(ladder.best.scored, []).extend((group.number, trial) for trial in ladder.trials)
    return {
        scored: trials
        for scored, trials in together.items()
        if len({number for number, _ in trials}) > 1 and len({trial.train_images for _, trial in trials}) > 1
    }


def _point(label: str, trial: Trial, x: float, look: int) -> Point:
    measured = trial.score.measured["f1_macro"]
    ends = None if measured.interval is None else (100 * measured.interval[0], 100 * measured.interval[1])
    return Point(x, 100 * measured.value, f"{label}: {100 * measured.value:.1f} %", look, ends)


def _in(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit
