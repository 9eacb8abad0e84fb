"""What a report says of a sweep: its trials, the best one, what the score hung on, and how far choosing flatters."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, cast
from urllib.parse import quote

from markupsafe import Markup
from rich.console import Console

from imgkit.data.rows import count, listed
from imgkit.duration import format_seconds
from imgkit.errors import ImgkitError
from imgkit.evaluations import weights_label
from imgkit.recipe.toml import value_text
from imgkit.report.board import Cell, Table
from imgkit.report.html.lanes import Lane, Thread, bars, parallel
from imgkit.report.words import with_interval
from imgkit.run import RunFolder
from imgkit.sweeps.importance import ROUGH, importances
from imgkit.sweeps.record import Record, Row
from imgkit.sweeps.schema import Choices, Domain
from imgkit.sweeps.space import values_of
from imgkit.terminal import print_columns

_SHOWN = 10  # trials on the screen
_SHARES = ("f1", "precision", "recall", "top", "map", "subset")  # how scores begin that are shown in percent
_HALVES = 2 * 1.96  # standard errors between the ends of a 95 % interval


@dataclass(frozen=True)
class SweepPart:
    """A sweep as its page shows it.

    Args:
        title: its heading.
        best: the chosen trial in sentences.
        warnings: what choosing it means for its score.
        trials: the table.
        importance: a chart; "" where none can be told.
        parallel: parallel coordinates; "" of fewer than two finished trials.
        notes: what else a reader has to know.
    """

    title: str
    best: Sequence[str]
    warnings: Sequence[str]
    trials: Table
    importance: Markup
    parallel: Markup
    notes: Sequence[str]


def sweep_part(out: Path, record: Record) -> SweepPart:
    """What the page of a folder says of its sweep."""
    importance, notes = _importance(record)
    return SweepPart(
        title=f"Sweep {record.name}: {states_words(record)}",
        best=best_words(out, record),
        warnings=warnings(out, record),
        trials=_table(out, record),
        importance=importance,
        parallel=_parallel(record),
        notes=[*notes, *_apart(record)],
    )


def print_sweep(out: Path, record: Record, console: Console) -> None:
    """The best trials, the chosen one and the warnings, on a terminal."""
    rows = _by_merit(record)
    titles = ["trial", _metric(record), "state", *_short([*record.space])]
    texts = [
        [str(row.number), _score(row.value, record), row.state, *(_shown(row, key, record) for key in record.space)]
        for row in rows[:_SHOWN]
    ]
    print_columns(titles, texts, console, right={"trial", _metric(record)})
    if len(rows) > _SHOWN:
        console.print(f"and {len(rows) - _SHOWN:,} more", highlight=False)
    console.print()
    for sentence in (f"{states_words(record)}.", *best_words(out, record), *warnings(out, record)):
        console.print(sentence, highlight=False, markup=False)


def _short(keys: Sequence[str]) -> list[str]:
    """The last words of keys, where they tell them apart: a screen is narrow."""
    last = [key.rpartition(".")[2] for key in keys]
    return [word if last.count(word) == 1 else key for key, word in zip(keys, last, strict=True)]


def states_words(record: Record) -> str:
    """`12 trials: 8 finished, 3 pruned, 1 failed`."""
    states = ("finished", "pruned", "failed", "running", "waiting")
    parts = [f"{record.count(state):,} {state}" for state in states if record.count(state)]
    asked = f" of {record.asked:,}" if len(record.rows) <= record.asked else f" ({record.asked:,} were asked for)"
    return f"{count(len(record.rows), 'trial')}{asked}: {', '.join(parts) or 'none drawn yet'}"


def best_words(out: Path, record: Record) -> list[str]:
    """Which trial is the best, its values, and its scores with their intervals."""
    best = record.best
    if best is None:
        return ["No trial has finished."]
    values = values_of(best.params, record.space)
    told = ", ".join(f"{key} = {_brief(value)}" for key, value in values.items())
    sentences = [
        f"Best by {record.monitor}: trial {best.number} ({best.run}), {_score(best.value, record)}, with {told}."
    ]
    for split, metrics in _evaluations(out, best).items():
        name = _metric(record)
        if name in metrics["intervals"]:
            score = with_interval(float(metrics[name]), metrics["intervals"][name])
            what = "which chose it" if split == "val" else "which chose nothing"
            sentences.append(f"Its {name} on the {metrics['n']:,} {split} images, {what}: {score}.")
    return sentences


def warnings(out: Path, record: Record) -> list[str]:
    """How far the score of the chosen trial can be believed."""
    best, tried = record.best, len(record.finished) + record.count("pruned")
    if best is None:
        return []
    found = _evaluations(out, best)
    sentences = [
        f"Validation chose the best of {count(tried, 'trial')}, and the epoch of each: its score on validation "
        f"flatters, the more so the more trials there are.{_optimism(found.get('val'), record, tried)}"
    ]
    tested = [row.run for row in record.rows if row.run and "test" in _evaluations(out, row)]
    if len(tested) > 1:
        sentences.append(
            f"Test was scored for {count(len(tested), 'trial')} ({listed(tested)}), since others were the best before: "
            "choosing among these by test would make it validation."
        )
    elif tested == [best.run]:
        sentences.append("Test was scored once, of the chosen trial alone; report that score.")
    elif not tested:
        sentences.append("There is no test score, so nothing here tells how unseen images will be answered.")
    return sentences


def expected_lead(n: int) -> float:
    """How many standard errors the best of n equally good, independent trials lies above their mean, about.

    Blom's approximation of the expected maximum of n draws from a normal distribution (Blom 1958).
    """
    return NormalDist().inv_cdf((n - 0.375) / (n + 0.25)) if n > 1 else 0.0


def _optimism(val: Mapping[str, Any] | None, record: Record, tried: int) -> str:
    interval = None if val is None else val["intervals"].get(_metric(record))
    if interval is None or tried < 2 or not record.monitor.removeprefix("val/").startswith(_SHARES):
        return ""
    points = 100 * expected_lead(tried) * (interval[1] - interval[0]) / _HALVES
    return (
        f" Were all of them equally good and their errors independent, the best would lie about {points:.1f} points "
        "above their mean by luck; trials that err on the same images lead by less."
    )


def _apart(record: Record) -> list[str]:
    data = {row.data for row in record.rows if row.data}
    if len(data) < 2:
        return []
    return [f"Trials were trained on {len(data)} different sets of images: their scores cannot be compared."]


def _evaluations(out: Path, row: Row) -> dict[str, Mapping[str, Any]]:
    """The evaluations of a run's chosen weights by split, if the run is here."""
    folder = RunFolder(out / row.run)
    if not row.run or not (folder.path / "status.json").is_file():
        return {}
    status = folder.read_json("status.json")
    if not status.get("best") or status["state"] != "finished":
        return {}
    label = weights_label(status["best"])
    found = folder.evaluations()
    return {split: found[f"{split}@{label}"] for split in ("val", "test") if f"{split}@{label}" in found}


def _metric(record: Record) -> str:
    return record.monitor.removeprefix("val/")


def _score(value: float | None, record: Record) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f} %" if _metric(record).startswith(_SHARES) else f"{value:.4g}"


def _brief(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else value_text(value)


def _shown(row: Row, key: str, record: Record) -> str:
    values = values_of(row.params, record.space)
    return _brief(values[key]) if key in values else ""


def _by_merit(record: Record) -> list[Row]:
    """Finished trials, the best first; then the others by number."""
    sign = -1.0 if record.way == "max" else 1.0
    return sorted(record.rows, key=lambda row: (row.value is None, sign * (row.value or 0.0), row.number))


def _table(out: Path, record: Record) -> Table:
    titles = ["#trial", "run", f"#{record.monitor}", "state", *(f"#{key}" for key in record.space)]
    titles += ["#evaluations", "#time", "host", "why"]
    rows = []
    for row in _by_merit(record):
        page = out / row.run / "report.html"
        there = f"./{quote(os.fsencode(row.run))}/report.html" * (bool(row.run) and page.is_file())
        rows.append(
            [
                Cell(str(row.number), row.number),
                Cell(row.run, link=there),
                Cell(_score(row.value, record), row.value),
                Cell(row.state),
                *(Cell(_shown(row, key, record), _number(row.params.get(key))) for key in record.space),
                Cell(str(len(row.epochs)), len(row.epochs)),
                Cell("" if row.seconds is None else format_seconds(row.seconds), row.seconds),
                Cell(row.host),
                Cell(row.reason),
            ]
        )
    return Table(titles, rows)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _importance(record: Record) -> tuple[Markup, list[str]]:
    """The chart, and why it is not there."""
    rows = record.finished
    try:
        shares = importances(record)
        rough = f" Rough: from {len(rows)} trials." if len(rows) < ROUGH else f" From {len(rows)} finished trials."
        words = f"Share of the variance of {record.monitor} that each key explains, by functional ANOVA.{rough}"
        return bars("What the score hung on", words, [*shares.items()]), []
    except ImgkitError as error:
        return Markup(""), [f"Importance: {error.message} {error.hint}".rstrip()]


def _parallel(record: Record) -> Markup:
    best, rows = record.best, record.finished
    if best is None or len(rows) < 2:
        return Markup("")
    words = f"Each line is a finished trial: its values, and at the right its {record.monitor}."
    scores = [cast(float, row.value) for row in rows]
    lanes = [_lane(key, domain) for key, domain in record.space.items()]
    lanes.append(Lane(record.monitor, f"{min(scores):.3g}", f"{max(scores):.3g}"))
    spread = max(scores) - min(scores) or 1.0
    threads = [
        Thread(
            [
                *(_place(row.params[key], domain) for key, domain in record.space.items()),
                (score - min(scores)) / spread,
            ],
            f"trial {row.number}: {_score(row.value, record)}",
            row is best,
        )
        for row, score in zip(rows, scores, strict=True)
    ]
    return parallel("Parallel coordinates", words, lanes, threads)


def _lane(key: str, domain: Domain) -> Lane:
    if isinstance(domain, Choices):
        last = len(domain.values) - 1
        return Lane(key, "", "", [(at / last, _brief(one)) for at, one in enumerate(domain.values)])
    return Lane(key, f"{domain.low:g}", f"{domain.high:g}")


def _place(value: object, domain: Domain) -> float:
    """Where a value lies on its axis, in [0, 1]."""
    if isinstance(domain, Choices):
        kept = [one if isinstance(one, float | int | str) else value_text(one) for one in domain.values]
        at = next(at for at, one in enumerate(kept) if type(one) is type(value) and one == value)
        return at / (len(kept) - 1)
    low, high, here = domain.low, domain.high, float(cast(float, value))
    if domain.log:
        low, high, here = math.log(low), math.log(high), math.log(here)
    return (here - low) / (high - low)
