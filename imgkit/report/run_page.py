"""The page of one run, from text alone: what it says as plain values, and report.html made of them."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from imgkit.errors import DiskError
from imgkit.report.class_scores import ClassScore, class_scores
from imgkit.report.collect import RunSummary, damage_told, read_details, read_run
from imgkit.report.confusions import Confusions, confusions_of
from imgkit.report.coverage import Coverage, area_words, coverage_chart, coverage_of
from imgkit.report.headline import Figure, Headline, figures_of, headline_of, tried_of
from imgkit.report.leaks import Copies, Indexed, Leak, copies, leak_of, read_indexed
from imgkit.report.matrix import Matrix, matrix_of
from imgkit.report.pictures import Gallery, gallery_of
from imgkit.report.reliability import Reliability, reliability_of
from imgkit.report.run_curves import charts_of, epoch_table
from imgkit.report.slices import Slices, read_slices
from imgkit.report.stored import Stored, stored_of
from imgkit.report.told import (
    DataTold,
    Facts,
    RecipeTold,
    copies_words,
    cost_facts,
    data_told,
    environment_facts,
    model_facts,
    recipe_told,
)
from imgkit.report.words import scores
from imgkit.run import RunFolder, replace_text

NAME = "report.html"
_UNREADABLE = (OSError, ValueError, KeyError, IndexError, StopIteration, csv.Error)


@dataclass(frozen=True)
class Evidence:
    """What the page tells of single images and classes.

    Args:
        classes: a row a class.
        confusions: what is taken for what.
        matrix: the same as the page draws it.
        gallery: images to look at.
        reliability: how far probabilities can be believed.
        slices: parts of the images against the rest; None where they were not asked for.
        coverage: what leaving answers open would gain; None in a multi-label task.
    """

    classes: list[ClassScore]
    confusions: Confusions
    matrix: Matrix
    gallery: Gallery
    reliability: Reliability
    coverage: Coverage | None
    slices: Slices | None = None


@dataclass(frozen=True)
class RunPage:
    """What the page of a run says.

    Args:
        summary: the run as a row of a table.
        address: what means the run on a command line.
        headline: the score and all that belongs to it.
        validation: scores of validation, where the headline has those of test.
        others: names and scores of other stored evaluations, but for those of epochs.
        stored: the evaluation that is shown; None where there is none.
        evidence: what it holds; None where there is none, or it cannot be read.
        fault: why it cannot be read; "" where it can.
        model, recipe, data, cost, environment: what was trained on what, how, and at which cost.
        charts: curves.
        epochs: header and rows of the table of epochs.
    """

    summary: RunSummary
    address: str
    headline: Headline
    validation: tuple[Figure, ...]
    others: Facts
    stored: Stored | None
    evidence: Evidence | None
    fault: str
    model: Facts
    recipe: RecipeTold
    data: DataTold
    copies: str
    cost: Facts
    environment: Facts
    charts: list[Markup]
    epochs: tuple[list[str], list[list[str]]]


def page_of(folder: RunFolder) -> RunPage:
    """What the page of a run says.

    Raises:
        DiskError: if its run.json, status.json, history.jsonl or a metrics.json is missing or damaged.
    """
    summary, details = read_run(folder), read_details(folder)
    with damage_told(folder):
        about, stored = folder.read_json("run.json"), stored_of(folder)
        recipe = recipe_told(folder, max(1, details.images.get("train", 1)), details.monitor)
        evidence, fault = _evidence(stored)
        same, leak = _same(folder, stored if evidence is not None else None, details.seed)
        val = stored_of(folder, "val") if stored is not None and stored.split == "test" else None
        return RunPage(
            summary=summary,
            address=folder.address,
            headline=headline_of(stored, about, recipe.monitor, recipe.early_stop, tried_of(folder), leak),
            validation=() if val is None else figures_of(val.metrics),
            others=_others(details.evaluations, stored),
            stored=stored,
            evidence=evidence,
            fault=fault,
            model=model_facts(about),
            recipe=recipe,
            data=data_told(folder, about, same),
            copies=copies_words(same),
            cost=cost_facts(folder, about, list(details.history), _cost(folder, stored)),
            environment=environment_facts(about),
            charts=charts_of(folder),
            epochs=epoch_table(details.history),
        )


def write_run_page(folder: RunFolder) -> Path:
    """Write report.html into a run's folder; returns the file.

    Raises:
        DiskError: if the run is damaged, or the file cannot be written.
    """
    file = folder.path / NAME
    replace_text(file, html_of(page_of(folder)))
    return file


def html_of(page: RunPage) -> str:
    """The page as HTML."""
    from imgkit.report.html.shell import render  # the template engine is not needed to read a run
    from imgkit.report.html.svg import reliability_diagram

    diagram = Markup("")
    if page.evidence is not None and page.evidence.reliability.bins:
        diagram = reliability_diagram(
            "Reliability",
            "Each disc is a bin of answers, its area how many; on the dotted line they are right as often as they were "
            "said to be.",
            [(one.sure, one.right, one.n) for one in page.evidence.reliability.bins],
        )
    chart = Markup("")
    if page.evidence is not None and page.evidence.coverage is not None:
        chart = coverage_chart(page.evidence.coverage)
    multilabel = page.summary.task == "multilabel"
    return render(
        "run.html.j2",
        title=f"{page.summary.name} · imgkit report",
        page=page,
        diagram=diagram,
        coverage_chart=chart,
        area_words=area_words,
        multilabel=multilabel,
        kind="label" if multilabel else "class",
        kinds="labels" if multilabel else "classes",
    )


def _evidence(stored: Stored | None) -> tuple[Evidence | None, str]:
    """What an evaluation holds, or why that cannot be told."""
    if stored is None:
        return None, ""
    try:
        confusions, gallery = confusions_of(stored.answers, stored.classes), gallery_of(stored)
        evidence = Evidence(
            classes=class_scores(stored),
            confusions=confusions,
            matrix=matrix_of(confusions, stored.answers),
            gallery=gallery,
            reliability=reliability_of(stored.answers, stored.metrics),
            slices=read_slices(stored),
            coverage=coverage_of(stored.answers),
        )
    except _UNREADABLE as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        return None, f"The tables in {stored.file('')} cannot be read ({reason}). Score the images again."
    return evidence, ""


def _others(evaluations: Mapping[str, Mapping[str, Any]], stored: Stored | None) -> Facts:
    """Evaluations of other data and of train, in words."""
    named = {name for name in evaluations if name.split("@")[0] not in ("val", "test")}
    return tuple((name, scores(evaluations[name])) for name in sorted(named - {stored.name if stored else ""}))


def _same(folder: RunFolder, stored: Stored | None, seed: int) -> tuple[Copies | None, Leak | None]:
    """Files of the same bytes, and those that leak into what was scored; None where the index cannot be read."""
    try:
        index: Indexed = read_indexed(folder.path / "data" / "index.csv")
    except _UNREADABLE:
        return None, None
    leak = None if stored is None else leak_of(index, stored.answers, stored.split, stored.classes, seed)
    return copies(index), leak


def _cost(folder: RunFolder, stored: Stored | None) -> Mapping[str, Any] | None:
    """What scoring cost, where that was stored."""
    if stored is None or not (stored.folder / "cost.json").is_file():
        return None
    try:
        return folder.read_json(stored.file("cost.json"))
    except DiskError:
        return None
