"""What benchmarks/speed.py found, as medians, ranges and ratios: docs/speed.md and its chart docs/plots/speed.png."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
PAGE, CHART = ROOT / "docs" / "speed.md", ROOT / "docs" / "plots" / "speed.png"
LITE, RES = "tf_efficientnet_lite0", "resnet50"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")  # of Okabe and Ito, as in all plots


@dataclass(frozen=True)
class Spread:
    """Of the repeats.

    Attributes:
        median: the middle one.
        low: the least.
        high: the greatest.
        n: how many there are.
    """

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values), len(values))

    def told(self, digits: int | None = None) -> str:
        """`12.3 (11.9 to 12.8)`."""
        low, median, high = (number(one, digits) for one in (self.low, self.median, self.high))
        return median if self.n == 1 else f"{median} ({low} to {high})"


@dataclass(frozen=True)
class Bar:
    """What was promised of a scenario.

    Attributes:
        scenario: its name.
        own: who keeps the promise.
        other: beside whom; "": nobody.
        least: how many times as fast `own` has to be at least.
        most: how large `own` may be at most: of `other`'s value, or alone.
    """

    scenario: str
    own: str
    other: str = ""
    least: float | None = None
    most: float | None = None


BARS = (
    *(Bar(f"train-{model}", "imgkit", "no data", 0.90) for model in (LITE, RES)),
    *(Bar(f"train-{model}", "imgkit, prepared data", "no data", 0.95) for model in (LITE, RES)),
    Bar(f"train-{LITE}", "imgkit", "timm train.py, best flags", 1.5),
    Bar(f"train-{RES}", "imgkit", "timm train.py, best flags", 1.1),
    *(Bar(f"train-{model}", "imgkit", "timm train.py, defaults", 2.3) for model in (LITE, RES)),
    *(Bar(f"train-{model}", "imgkit", "fastai", 2.0) for model in (LITE, RES)),
    *(
        Bar(f"frozen-{LITE}", f"imgkit, {time}{more}", f"{peer}{more}", least)
        for time, peer, least in (
            ("first time", "timm, frozen by hand, best flags", 6.0),
            ("first time", "fastai", 8.0),
            ("again", "timm, frozen by hand, best flags", 50.0),
        )
        for more in ("", ": with validation")
    ),
    Bar(f"predict-{LITE}", "imgkit", "timm inference.py, best flags", 1.6),
    Bar("quality-solar2", "imgkit", "fastai", 15.0),
    Bar("command", "imgkit --help", "import torch", most=0.15),
    Bar("index-s", "imgkit", "ImageFolder", 2.0),
    Bar("index-bytes", "imgkit", most=150.0),
    Bar("checkpoint", "imgkit, beside", "imgkit, waited for", most=0.10),
    Bar(f"train-{RES}-cuda", "imgkit, prepared data", "no data", 0.95),
    Bar(f"train-{RES}-cuda", "imgkit, prepared data", "timm train.py, best flags", 1.3),
)

WORDS = {
    "train": "Training all layers of `{model}`, images a second of epochs 2 and on, waiting for data counted",
    "frozen": "{epochs} epochs of a head on the frozen trunk of `{model}`, from the first picture on, seconds, with "
    "validation and without; imgkit learns from one random crop of each picture, the others from a new one an epoch",
    "predict": "Labels of `{model}` for a folder of JPEGs, images a second",
    "quality": "Solar cells, 2 classes, `tf_efficientnet_lite0`: one whole command with cold caches, seconds",
    "command": "Until the command answers, seconds",
    "index-s": "Finding {files:,} files in {classes} classes, seconds",
    "index-bytes": "The same, memory that the process takes for it, bytes a file",
    "checkpoint": "What an update waits for a checkpoint of `{model}` with AdamW and averages, seconds",
}


def number(value: float, digits: int | None = None) -> str:
    """With three significant digits, or so many decimals."""
    if digits is not None:
        return f"{value:,.{digits}f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def best_variant(runs: Sequence[Mapping[str, Any]], of: str, *, more: bool) -> str | None:
    """The variant of a contestant that was best in the first repeat that has one; None: there is none yet."""
    first = [run for run in runs if run["of"] == of and run["who"] == of and run["value"] is not None]
    if not first:  # one that gives several values, or has failed: it has the variants that it has
        return next((run["variant"] for run in runs if run["of"] == of), None)
    first = [run for run in first if run["repeat"] == first[0]["repeat"]]
    return str((max if more else min)(first, key=lambda run: run["value"])["variant"])


def values_of(found: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """The value of each repeat by who, of the variants that count."""
    values: dict[str, dict[int, float]] = defaultdict(dict)
    chosen = {run["of"]: best_variant(found["runs"], run["of"], more=found["more"]) for run in found["runs"]}
    for run in found["runs"]:
        if run["value"] is not None and run["variant"] == chosen[run["of"]]:
            values[run["who"]][run["repeat"]] = run["value"]
    return dict(values)


def ratios(found: Mapping[str, Any], own: str, other: str) -> Spread | None:
    """How many times as fast `own` is as `other`, over the repeats that have both; None: there are none."""
    values = values_of(found)
    ours, theirs = values.get(own, {}), values.get(other, {})
    shared = sorted(ours.keys() & theirs.keys())
    pairs = [(ours[one], theirs[one]) if found["more"] else (theirs[one], ours[one]) for one in shared]
    return Spread.of([left / right for left, right in pairs]) if pairs else None


def judged(bar: Bar, found: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """What was promised, what was measured, and whether that keeps it."""
    beside = f" of {bar.other}" if bar.other else ""
    promised = f"≥ {bar.least:g} × as fast as {bar.other}" if bar.least is not None else f"≤ {bar.most:g}{beside}"
    spread = None if found is None else measured(bar, found)
    if found is None or spread is None:
        return promised, "not measured", ""
    kept = spread.median >= bar.least if bar.least is not None else spread.median <= (bar.most or 0.0)
    scores = {run["who"]: run["f1_macro"] for run in found["runs"] if "f1_macro" in run}
    if scores:
        kept = kept and scores[bar.own] >= scores[bar.other]
    told = "; macro F1 " + " and ".join(f"{score:.3f}" for score in scores.values()) if scores else ""
    once = ", measured once" if spread.n == 1 else ""
    return promised, spread.told(None if bar.most and bar.most > 1 else 2) + once + told, "yes" if kept else "**no**"


def measured(bar: Bar, found: Mapping[str, Any]) -> Spread | None:
    """What a bar is about: times as fast, a share, or a value."""
    if not bar.other:
        values = values_of(found).get(bar.own)
        return Spread.of(list(values.values())) if values else None
    faster = ratios(found, bar.own, bar.other)
    if faster is None or bar.least is not None:
        return faster
    return ratios({**found, "more": not found["more"]}, bar.own, bar.other)  # a share of time is its inverse


def own_beside(values: Mapping[str, object], who: str) -> str:
    """imgkit's first value of the kind that `who` has, such as "with validation"; "": none, or `who` is imgkit."""
    kind, ours = who.partition(":")[2], [own for own in values if own.startswith("imgkit")]
    return "" if who in ours else next((own for own in ours if own.partition(":")[2] == kind), "")


def headline(found: Mapping[str, Any]) -> str:
    """What a scenario measures, in words."""
    name = found["scenario"]
    words = WORDS.get(name) or WORDS[name.split("-")[0]]
    return words.format(**found["settings"])


def scenario_lines(found: Mapping[str, Any]) -> list[str]:
    """The table of one scenario in Markdown, and what has to be known of it."""
    rows = [
        f"| | {found['unit']}, median (range) | repeats | imgkit is so many times as fast | format, flags |",
        "|---|---|---|---|---|",
    ]
    values = values_of(found)
    variants = {run["who"]: run["variant"] for run in found["runs"]}
    for of in {run["of"]: None for run in found["runs"]}:
        variants[of] = best_variant(found["runs"], of, more=found["more"]) or ""
    for who, spread in ((who, Spread.of(list(each.values()))) for who, each in values.items()):
        faster = ratios(found, own_beside(values, who), who)
        told = "" if faster is None or "bytes" in found["unit"] else faster.told(2)
        flags = formats_of(found, who) or ("" if variants[who] == "as it is" else variants[who])
        rows.append(f"| {who} | {spread.told()} | {spread.n} | {told} | {flags} |")
    failed = {f"{run['who']} ({run['variant']})": run["error"] for run in found["runs"] if run["value"] is None}
    lines = [headline(found), "", *rows, "", settings_line(found)]
    notes = [f"* {who} failed: {why}" for who, why in failed.items()]
    notes += [f"* left out: {text}" for text in found["left_out"]]
    return [*lines, "", *notes] if notes else lines


def formats_of(found: Mapping[str, Any], who: str) -> str:
    """The number formats that a contestant chose by itself, the most frequent first; "": it was told, or tells none."""
    told = [run["format"] for run in found["runs"] if run["who"] == who and run.get("format")]
    names = [one if isinstance(one, str) else f"{one['precision']}, {one['memory']}" for one in told]
    return " or ".join(name for name, _ in Counter(names).most_common())


def settings_line(found: Mapping[str, Any]) -> str:
    """Settings, machine and load in a line."""
    given, machine = dict(found["settings"]), found["machine"]
    data = given.pop("data", None)
    told = [f"{name.replace('_', ' ')} {value}" for name, value in given.items()]
    if data is not None:
        told.append(f"{data['pictures']:,} JPEGs of {data['pixels']} px and {data['mean_kb']} kB on average")
    loads = [run["load"] for run in found["runs"]]
    told.append(f"load average at the start of a run {min(loads):g} to {max(loads):g}" if loads else "not run")
    return f"{'; '.join(told)}; begun {found['began']} UTC on {machine['device']}."


def bar_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The table of promises, of the scenarios that were measured or could have been on a CPU."""
    lines = ["| | promised | measured | kept |", "|---|---|---|---|"]
    for bar in BARS:
        one = found.get(bar.scenario)
        if one is not None or not bar.scenario.endswith("-cuda"):
            lines.append(f"| {bar.scenario}: {bar.own} | {' | '.join(judged(bar, one))} |")
    return lines


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The Markdown page."""
    machines = {json.dumps(one["machine"], sort_keys=True): one["machine"] for one in found.values()}
    lines = [
        "# Speed",
        "",
        "Written by `python benchmarks/speed.py table` from `benchmarks/results/speed/*.json`; do not edit.",
        "",
        "All contestants of a table took turns on one machine, each in a process of its own, in the other "
        "order in every other repeat. A ratio compares two of the same repeat; the median is given, and the "
        "range where there are several. Imports and start-up do not count, but for whole commands. In "
        "training, imgkit stays and does an epoch in each repeat, and the limit some steps, while the others "
        "wait. Everybody has the same network with random weights, the same batch and image size, random "
        "crops from 0.08 of the area and flips, AdamW, and batch norm in training mode. timm's scripts run as"
        " they are, at their defaults and with the fastest flags that the first repeat tried; so do fastai "
        "and the plain loop. *No data* is the same network stepping on one synthetic batch, in the best of "
        "several formats. The pictures are parts of two photographs, as JPEGs.",
        "",
        "![How many times as fast imgkit is](plots/speed.png)",
        "",
        "## What was promised",
        "",
        *bar_lines(found),
    ]
    for name, one in found.items():
        lines += ["", f"## {name}", "", *scenario_lines(one)]
    lines += ["", "## Machine", ""]
    for one in machines.values():
        versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        lines.append(
            f"* {one['device']}, {one['cores']} cores, {one['memory_gib']:g} GiB, {one['system']}, "
            f"{one['threads']} threads; {versions}"
        )
    if not any(name.endswith("-cuda") for name in found):
        lines += ["", "Nothing was measured on a GPU; the same script runs there with `--device cuda`."]
    lines += ["", "How to run it again: the head of `benchmarks/speed.py` says what to install and to type."]
    return "\n".join(lines) + "\n"


def collect(results: Path) -> dict[str, dict[str, Any]]:
    """The scenarios that were measured, by name, in the order of the promises."""
    files = {file.stem: json.loads(file.read_text()) for file in sorted(results.glob("*.json"))}
    order = [bar.scenario for bar in BARS]
    return dict(sorted(files.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def write(results: Path) -> None:
    """Write the page and its chart."""
    found = collect(results)
    if not found:
        raise SystemExit(f"There is nothing in {results}: python benchmarks/speed.py train")
    PAGE.write_text(page(found), encoding="utf-8")
    draw(found, CHART)
    print(*bar_lines(found), sep="\n")


def chart_rows(found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, Spread]]:
    """Scenario, whom imgkit is compared with, and how many times as fast it is; nothing that is no time."""
    rows = []
    for name, one in found.items():
        values = values_of(one)
        for who in values:
            faster = ratios(one, own_beside(values, who), who)
            if faster is not None and ":" not in who and "bytes" not in one["unit"]:
                rows.append((name, who, faster))
    return rows


def draw(found: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """A chart of these rows with their ranges, on a scale where equal ratios take equal room."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from imgkit.plots.drawing import styled

    rows = chart_rows(found)
    with styled():
        figure = Figure(figsize=(7.0, 0.9 + 0.26 * len(rows)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xscale="log", xlabel="imgkit is so many times as fast")
        axes.axvline(1, color="0.45", linewidth=0.8)
        looks = dict(zip(found, COLOURS * len(found), strict=False))
        for place, (name, _, spread) in enumerate(rows):
            axes.plot([spread.low, spread.high], [place, place], color=looks[name], linewidth=1.6)
            axes.plot([spread.median], [place], color=looks[name], marker="o", markersize=5)
            axes.annotate(number(spread.median), (spread.high, place), (5, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(rows)), [f"{name}: {who}" for name, who, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.15)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
