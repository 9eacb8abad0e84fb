"""What was trained on what, by which recipe, on which machine: in plain words, from a run's text files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imgkit.cells import bare
from imgkit.data.rows import count
from imgkit.duration import format_seconds
from imgkit.errors import ImgkitError
from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import PhasePlan, make_plan
from imgkit.report.leaks import Copies
from imgkit.report.stored import table
from imgkit.report.words import parent_words
from imgkit.run import RunFolder

_PARTS = {"head": "the head alone", "all": "all layers"}
Facts = tuple[tuple[str, str], ...]
"""Names and what there is to say of each."""


@dataclass(frozen=True)
class RecipeTold:
    """A recipe.

    Args:
        phases: a sentence each.
        text: of recipe.toml.
        early_stop: epochs without a gain after which training would have ended.
        monitor: the score that chose the weights.
        fault: why it could not be read; "" where it could.
    """

    phases: tuple[str, ...]
    text: str
    early_stop: int | None
    monitor: str
    fault: str


@dataclass(frozen=True)
class DataTold:
    """The data.

    Args:
        facts: names and numbers.
        notes: what the run was told of them before its first step.
        copies: files of the same bytes; None where the index cannot be read.
        bad: files that were left out, and why.
    """

    facts: Facts
    notes: tuple[str, ...]
    copies: Copies | None
    bad: tuple[tuple[str, str], ...]


def recipe_told(folder: RunFolder, n_train: int, monitor: str) -> RecipeTold:
    """What the recipe of a run says; `monitor` is what its status names, in case the recipe cannot be read."""
    file, text = folder.path / "recipe.toml", ""
    try:
        text = file.read_text(encoding="utf-8", errors="backslashreplace")
        loaded = load_recipe(str(file))
        phases = tuple(phase_words(phase) for phase in make_plan(loaded, n_train).phases)
    except (OSError, ImgkitError) as error:
        reason = error.message if isinstance(error, ImgkitError) else error.strerror
        return RecipeTold((), text, None, monitor, f"What recipe.toml means cannot be told: {reason}")
    return RecipeTold(phases, text, loaded.recipe.early_stop, loaded.recipe.monitor, "")


def phase_words(phase: PhasePlan) -> str:
    """A phase in a sentence."""
    part = _PARTS.get(phase.train, f"the last {phase.train.removeprefix('last:')} groups of layers")
    if phase.solver == "logistic":
        views = f", and on {count(phase.views, 'augmented view')} of each image" if phase.views else ""
        return f"Phase {phase.name} solves the head by logistic regression, on features computed once{views}."
    schedule = phase.schedule.name.replace("_", " ")
    settings = phase.settings
    return (
        f"Phase {phase.name} trains {part} for {count(phase.epochs, 'epoch')} ({count(phase.steps, 'update')} of "
        f"{settings.batch_size} images) with {settings.optimizer} at a rate of {phase.lr:g} by the schedule "
        f"{schedule}; augmentation: {phase.augmentation}."
    )


def model_facts(about: Mapping[str, Any]) -> Facts:
    """The network, its weights and their licence, and where it started."""
    weights = about["weights"]
    size = (about.get("preprocessing") or {}).get("size")
    found = {
        "Network": f"{about['model']}, {int(about['parameters'] or 0):,} parameters"
        + (f", pictures of {size[0]} × {size[1]} px" if size else ""),
        "Weights": "random, from the seed"
        if weights.get("kind") == "none"
        else str(weights.get("detail") or "not told"),
        "Licence of the weights": str(weights.get("licence") or ("" if weights.get("kind") == "none" else "not known")),
        "Content of the weights": f"SHA-256 {weights['sha256']}" if weights.get("sha256") else "",
        "Parent": "" if about.get("parent") is None else parent_words(about["parent"]),
    }
    return tuple((name, text) for name, text in found.items() if text)


def data_told(folder: RunFolder, about: Mapping[str, Any], copies: Copies | None) -> DataTold:
    """The data, and what is known to be wrong with them."""
    data = about["data"]
    classes = count(
        len(about["classes"]), *(("label", "labels") if about["task"] == "multilabel" else ("class", "classes"))
    )
    counts = " · ".join(f"{split} {int(n):,}" for split, n in data["n"].items() if n)
    facts = (
        ("Where", str(data["where"])),
        ("Root", str(data.get("root") or "")),
        ("Images", f"{counts} · {classes}"),
        ("Fingerprint", str(data["fingerprint"])),
    )
    return DataTold(
        facts=tuple((name, text) for name, text in facts if text),
        notes=tuple(map(str, data.get("notes", ()))),
        copies=copies,
        bad=_bad(folder),
    )


def copies_words(copies: Copies | None) -> str:
    """What is said of files with the same bytes."""
    if copies is None:
        return "data/index.csv cannot be read, so copies and leaks are not known."
    if not copies.files:
        return "No two files have the same bytes."
    words = f"{copies.files:,} files are copies: they show {count(copies.contents, 'picture')}"
    if copies.contradicting:
        words += f", {copies.contradicting:,} of which have copies with different labels"
    return words + "."


def cost_facts(
    folder: RunFolder, about: Mapping[str, Any], history: list[Mapping[str, Any]], cost: Mapping[str, Any] | None
) -> Facts:
    """Time, throughput, memory, and size against the budget."""
    found = dict[str, str]()
    if history:
        found["Time of training"] = format_seconds(float(history[-1]["seconds"]))
        rates = [float(row["images_per_second"]) for row in history if row.get("images_per_second")]
        if rates:
            found["Training"] = f"{rates[-1]:,.0f} images/s in the last epoch"
    if cost:
        found["Scoring"] = f"{float(cost['images_per_second']):,.0f} images/s on {cost['device']}"
        memory = {"process": cost.get("peak_memory"), "device": cost.get("device_peak_memory")}
        if cost.get("processor_joules") is not None and int(cost["images"]):
            each = 1000 * float(cost["processor_joules"]) / int(cost["images"])
            found["Energy of scoring"] = f"{each:,.3g} J a thousand images, of the processor, whatever else ran on it"
        most = [f"{int(size) / 2**20:,.0f} MiB ({name})" for name, size in memory.items() if size]
        if most:
            found["Most memory"] = " · ".join(most)
    found["Parameters"] = f"{int(about['parameters'] or 0):,}"
    file = folder.path / "model" / "model.safetensors"
    if file.is_file():
        found["File of the weights"] = f"{file.stat().st_size / 1e6:,.1f} MB"
    for what, limit in (about.get("budget") or {}).items():
        found[f"Budget: {what}"] = f"{limit['words']}, at most {limit['limit']} ({limit['origin']})"
    return tuple(found.items())


def environment_facts(about: Mapping[str, Any]) -> Facts:
    """The machine and the versions."""
    form = about.get("format") or {}
    found = {
        "Command": str(about.get("command") or ""),
        "Begun": str(about.get("created") or ""),
        "Machine": str(about.get("machine") or ""),
        "Device": str(about.get("device") or ""),
        "Threads": str(about.get("threads") or ""),
        "Number format": str(form.get("why") or form.get("precision") or ""),
        "Seed": str(about.get("seed", "")),
        "Versions": " · ".join(f"{name} {version}" for name, version in (about.get("versions") or {}).items()),
        "Plugins": " · ".join(
            str(one.get("file", one)) if isinstance(one, dict) else str(one) for one in about.get("plugins") or ()
        ),
    }
    return tuple((name, text) for name, text in found.items() if text)


def _bad(folder: RunFolder) -> tuple[tuple[str, str], ...]:
    file = folder.path / "data" / "bad.csv"
    if not file.is_file():
        return ()
    rows = list(table(file))[1:]
    return tuple((bare(row[0]), bare(row[1])) for row in rows if len(row) > 1)
