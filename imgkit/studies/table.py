"""study.md, study.csv and the table on the screen: the rows of a study in three forms."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console

from imgkit.data.index import SPLITS
from imgkit.data.rows import count, listed
from imgkit.duration import format_seconds
from imgkit.errors import printable
from imgkit.run import replace_text
from imgkit.studies.estimates import Estimate, verdict
from imgkit.studies.plan import Asked, Planned
from imgkit.studies.results import COSTS, Quantity, Result
from imgkit.studies.rows import Row, quantities, rows_of, unseen_of
from imgkit.studies.state import Memory, State
from imgkit.terminal import print_columns

CSV_COLUMNS = ["kind", "subject", "against", "split", "quantity", "n", "mean", "low", "high", "seeds", "values"]
_GAP = 2  # spaces between columns
_OF_BATCH = ("batch_size", "warm_up", "passes", "machine")


def write_tables(
    asked: Asked, runs: Sequence[Planned], results: Sequence[Result], found: Mapping[str, State], memory: Memory
) -> list[Path]:
    """Write study.md and study.csv.

    Returns:
        The files.

    Raises:
        DiskError: if one cannot be written.
    """
    rows = rows_of(asked.study, results)
    files = {
        asked.out / "study.md": markdown(asked, runs, results, rows, found, memory),
        asked.out / "study.csv": csv_text(rows),
    }
    for file, text in files.items():
        replace_text(file, text)
    return list(files)


def csv_text(rows: Iterable[Row]) -> str:
    """All rows; fractions in [0, 1], seconds, bytes. `values` are those of `seeds`, in order."""
    stream = io.StringIO()
    out = csv.writer(stream, lineterminator="\n")
    out.writerow(CSV_COLUMNS)
    for row in rows:
        found = row.estimate
        place = [row.kind, row.subject, row.against, row.split, row.quantity.key]
        if found is None:
            out.writerow([*place, 0, "", "", "", "", ""])
            continue
        low, high = ("", "") if found.ends is None else (f"{end:.9g}" for end in found.ends)
        seeds, values = (
            " ".join(map(form, part)) for form, part in ((str, found.values), (repr, found.values.values()))
        )
        out.writerow([*place, len(found.values), f"{found.mean:.9g}", low, high, seeds, values])
    return stream.getvalue()


def markdown(
    asked: Asked,
    runs: Sequence[Planned],
    results: Sequence[Result],
    rows: Sequence[Row],
    found: Mapping[str, State],
    memory: Memory,
) -> str:
    """The study for people."""
    study = asked.study
    lines = [f"# Study {study.name}", "", *_about(asked, runs, results)]
    if asked.smoke:
        lines += ["", "**A smoke run: a few steps each, whose scores mean nothing.**"]
    lines += _missing(runs, found, memory)
    if results:
        lines += ["", "## Scores", "", *_md(*score_cells(rows, results))]
        lines += ["", "## Seen and unseen", "", *_md(*_gap_cells(rows, results))]
        lines += ["", "## Cost", "", *_md(*_cost_cells(rows, results)), "", *_measured(memory)]
        lines += _differences(rows, results)
        lines += _effects(rows, results)
        lines += ["", *footnotes(rows, results)]
    return "\n".join(lines) + "\n"


def print_study(asked: Asked, results: Sequence[Result], console: Console) -> None:
    """The scores and the differences, for a terminal."""
    rows = rows_of(asked.study, results)
    if not results:
        return
    titles, cells = _fitting(*score_cells(rows, results), console.width)
    print_columns(titles, cells, console, right=titles[2:], folded=titles[:1])
    for heading, kind in (("Differences", "difference"), ("Effects", "effect")):
        if own := [row for row in rows if row.kind == kind]:
            console.print()
            console.print(f"{heading} on {unseen_of(results)}", style="bold")
            titles, cells = _difference_cells(own)
            print_columns(titles, cells, console, folded=titles[:1])
    console.print()
    for line in footnotes(rows, results):
        console.print(line)


def _fitting(titles: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> tuple[list[str], list[list[str]]]:
    """The columns of the table of scores that fit: counts are left out first, then the last scores."""
    columns = dict(zip(titles, zip(*cells, strict=True), strict=True))
    for name in ("images", "seeds", *reversed(titles[5:])):
        if sum(max(map(cell_len, (title, *column))) + _GAP for title, column in columns.items()) <= width:
            break
        del columns[name]
    return [*columns], [list(row) for row in zip(*columns.values(), strict=True)]


def _about(asked: Asked, runs: Sequence[Planned], results: Sequence[Result]) -> list[str]:
    study = asked.study
    seeds = ", ".join(map(str, study.seeds))
    over = [f"`--data {asked.data}`"] if asked.data is not None else []
    over += [f"`--set {printable(text)}`" for text in asked.sets]
    lines = [
        f"{study.verb} by the recipe `{study.recipe}`: {count(len(study.variants), 'variant')} × "
        f"{count(len(study.seeds), 'seed')} ({seeds}), {len(results)} of {len(runs)} runs finished.",
    ]
    return lines + ([f"Over the file: {', '.join(over)}."] if over else [])


def _missing(runs: Sequence[Planned], found: Mapping[str, State], memory: Memory) -> list[str]:
    """The runs that are not in the tables, and why."""
    lacking = [run.name for run in runs if found[run.name] != "done" or run.name in memory.failed]
    if not lacking:
        return []
    reasons = {
        name: f"failed {memory.failed[name]['reason']}" if name in memory.failed else "not finished" for name in lacking
    }
    return ["", "## Not finished", "", *(f"* `{name}`: {_plain(reason)}" for name, reason in reasons.items())]


def score_cells(rows: Sequence[Row], results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """The table of scores: titles, and a row for each variant and split."""
    found = {(row.subject, row.split, row.quantity.key): row for row in rows if row.kind == "score"}
    wanted = quantities(results)
    titles = ["variant", "split", "seeds", "images", *(quantity.title for quantity in wanted)]
    table = []
    for variant in dict.fromkeys(row.subject for row in rows if row.kind == "score"):
        for split in SPLITS:
            own = [
                found[variant, split, quantity.key] for quantity in wanted if (variant, split, quantity.key) in found
            ]
            if own:
                assert own[0].estimate is not None, "a score has seeds"
                seeds = str(len(own[0].estimate.values))
                table.append([variant, split, seeds, _images(results, variant, split), *map(_cell, own)])
    return titles, table


def _images(results: Sequence[Result], variant: str, split: str) -> str:
    numbers = {one.splits[split].n for one in results if one.run.variant.name == variant and split in one.splits}
    return " to ".join(f"{n:,}" for n in sorted({min(numbers), max(numbers)}))


def _gap_cells(rows: Sequence[Row], results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    gaps = [row for row in rows if row.kind == "gap"]
    scores = {(row.subject, row.split, row.quantity.key): row for row in rows if row.kind == "score"}
    unseen = unseen_of(results)
    titles = ["variant"]
    for quantity in dict.fromkeys(row.quantity for row in gaps):
        titles += [f"{quantity.title} seen (train)", f"unseen ({unseen})", "gap"]
    table = {row.subject: [row.subject] for row in gaps}
    for row in gaps:
        sides = [scores.get((row.subject, split, row.quantity.key)) for split in ("train", row.split)]
        table[row.subject] += ["" if side is None else _cell(side) for side in sides]
        table[row.subject].append(_cell(row, signed=True))
    return titles, list(table.values())


def _cost_cells(rows: Sequence[Row], results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    models = {one.run.variant.name: one.model for one in results}
    found = {(row.subject, row.quantity.key): row for row in rows if row.kind == "cost"}
    table = [
        [name, model, *(_cell(found[name, one.key]) if (name, one.key) in found else "" for one in COSTS)]
        for name, model in models.items()
    ]
    return ["variant", "network", *(quantity.title for quantity in COSTS)], table


def _measured(memory: Memory) -> list[str]:
    """How the times a batch were measured; where runs differ in it, that is said."""
    ways = {tuple(entry["inference"][key] for key in _OF_BATCH): None for entry in memory.measured.values()}
    lines = [
        f"Time a batch: {size} images of zeros, float32, median of {passes} passes after {warm_up}, on {machine}."
        for size, warm_up, passes, machine in ways
    ]
    return lines + ["Not all were measured in the same way, so these times cannot be compared."] * (len(ways) > 1)


def _differences(rows: Sequence[Row], results: Sequence[Result]) -> list[str]:
    own = [row for row in rows if row.kind == "difference"]
    if not own:
        return []
    many = count(len(own), "comparison")
    text = f"{many}: of twenty between equal things one is expected to look different."
    return ["", f"## Differences on {unseen_of(results)}", "", *_md(*_difference_cells(own)), "", text]


def _effects(rows: Sequence[Row], results: Sequence[Result]) -> list[str]:
    own = [row for row in rows if row.kind == "effect"]
    if not own:
        return []
    text = (
        "A main effect is averaged over the levels of the other factors. An interaction (×) is how much more the one "
        "changes the score where the other is there than where it is not; it is not halved."
    )
    return ["", f"## Effects on {unseen_of(results)}", "", *_md(*_difference_cells(own)), "", text]


def _difference_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    table = []
    for row in rows:
        what = f"{row.subject} − {row.against}" if row.against else row.subject
        if row.estimate is None:
            why = "not scored on the same images" if row.others else "no seed in common"
            table.append([what, row.quantity.title, "", "", why])
            continue
        ends = row.estimate.ends
        interval = "" if ends is None else " to ".join(_number(end, row.quantity, signed=True) for end in ends)
        mean = _number(row.estimate.mean, row.quantity, signed=True)
        table.append([what, row.quantity.title, mean, interval, verdict(row.estimate)])
    return ["difference", "of", "mean", "95 % interval", "so"], table


def footnotes(rows: Sequence[Row], results: Sequence[Result]) -> list[str]:
    """What a reader has to know about the numbers."""
    notes = []
    most = max((len(row.estimate.values) for row in rows if row.estimate is not None), default=0)
    if most > 1:
        notes.append(
            "± is half of Student's 95 % interval of the mean over seeds: how training varies on these images, not how "
            "other images would be scored. Differences are taken in pairs of one seed and the same images; those of "
            "percentages are points."
        )
    if any(row.estimate is not None and row.estimate.half is None for row in rows if row.kind == "score"):
        notes.append("A score without ± is of one seed, or of seeds that agree: it has no interval.")
    if unseen_of(results) == "val":
        notes.append("There is no test split: val chose the weights, so its scores flatter.")
    if others := sorted({seed for row in rows for seed in row.others}):
        notes.append(f"Seeds left out of comparisons, since their images differ: {', '.join(map(str, others))}.")
    if samples := sorted({one.sample for one in results if one.sample}):
        notes.append(f"Seen images: {'; '.join(samples)}.")
    formats: dict[str, list[str]] = {}
    for one in results:
        formats.setdefault(one.precision, []).append(one.run.name)
    if len(formats) > 1:
        told = "; ".join(f"{name} in {listed(runs)}" for name, runs in formats.items())
        notes.append(f"The number format is not the same in all runs: {told}. train.precision in [base] fixes it.")
    if results[0].task == "single" and results[0].k < 5:
        notes.append(f"There are only {results[0].k} classes, so top-{results[0].k} error is 0 always.")
    return notes


def _cell(row: Row, *, signed: bool = False) -> str:
    """`92.5 ± 0.4 %`."""
    assert row.estimate is not None, "only differences and effects lack one"
    return _with_half(row.estimate, row.quantity, signed=signed)


def _with_half(estimate: Estimate, quantity: Quantity, *, signed: bool) -> str:
    mean = _number(estimate.mean, quantity, signed=signed)
    if estimate.half is None:
        return mean
    number, _, unit = mean.partition(" ") if quantity.kind == "share" else (mean, "", "")
    half = _number(estimate.half, quantity).removesuffix(" %")
    return f"{number} ± {half} {unit}".rstrip()


def _number(value: float, quantity: Quantity, *, signed: bool = False) -> str:
    """A number in its unit; differences of shares are points of percent."""
    plus = "+" if signed else ""
    if quantity.kind == "share":
        return f"{100 * value:{plus}z.1f}" + ("" if signed else " %")
    if quantity.kind == "loss":
        return f"{value:{plus}z.3f}"
    if quantity.kind == "count":
        return f"{value:,.0f}"
    if quantity.kind == "bytes":
        return f"{value / 2**20:,.2f} MiB"
    return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.2f} s" if value < 60 else format_seconds(value)


def _md(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown; names hold nothing that Markdown reads but _, which is escaped."""
    lines = [titles, ["---"] * len(titles), *cells]
    return ["| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines]


def _plain(text: str) -> str:
    shown = printable(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join("\\" + char if char in "\\`*_[]|#" else char for char in shown)
