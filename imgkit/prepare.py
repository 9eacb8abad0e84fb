"""From a request to everything that training needs: data, plan, network, device; and back from a run's folder."""

import csv
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from imgkit.branch import start_of
from imgkit.budget import about_limits, check, measure
from imgkit.cells import guarded
from imgkit.class_weights import check_weights, loss_weights
from imgkit.compiled import check_compile
from imgkit.data.byte_range import resolved
from imgkit.data.index import SPLITS
from imgkit.data.load import LoadedData, list_data, load_data, no_validation
from imgkit.data.preprocessing import Preprocessing
from imgkit.data.sources import find_data, tables_of
from imgkit.decode_once import decided
from imgkit.device import check_memory, choose_device, choose_workers, describe, memory_format, use_settings, versions
from imgkit.errors import BadImage, DataError, DiskError, WeightsError, disk_told, printable
from imgkit.evaluate import check_files, read_index
from imgkit.features import check_solvable, left_by_a_solve
from imgkit.files import check_space
from imgkit.freed_memory import keep_freed_memory
from imgkit.models.create import create_model, find_source
from imgkit.models.freeze import learns_statistics, set_trainable
from imgkit.models.recompute import set_grad_checkpointing
from imgkit.models.weights import WeightSource
from imgkit.optimizers import check_optimizer, make_optimizer
from imgkit.pace import images_at_once, with_loaders
from imgkit.plugin_files import keep, plugin_words
from imgkit.precision import FORMATS, choose_format, format_name
from imgkit.recipe.adapt import adapt
from imgkit.recipe.check import check_classes
from imgkit.recipe.load import Loaded, load_recipe
from imgkit.recipe.phases import resolve
from imgkit.recipe.plan import make_plan
from imgkit.recipe.schema import Recipe
from imgkit.recipe.shrink import shrink
from imgkit.recipe.write import render
from imgkit.run import SCHEMA, RunFolder, check_place
from imgkit.screen import Screen
from imgkit.setup import Setup, say_data, say_setup
from imgkit.shares import check_shares
from imgkit.tracking import check_trackers
from imgkit.trunk import whole_network
from imgkit.world import check_device, ranks, ranks_here

_SMOKE_IMAGES = 16  # of a split, or one of each class


def prepare(
    loaded: Loaded, *, verb: str, command: str, smoke: bool, dry_run: bool, screen: Screen
) -> tuple[Setup, LoadedData]:
    """Look at the data, make the plan and the network, and say what was found and chosen.

    For a dry run, pretrained weights that cannot be had are a warning.

    Raises:
        ImgkitError: of the kind that fits, before anything is written.
    """
    if smoke:
        loaded = shrink(loaded)
        screen.note("smoke run: a few images, two steps a phase; the result means nothing")
    loaded, start = start_of(loaded, screen)
    loaded, adapted = adapt(loaded)  # before data, weights and minutes are spent on what is refused
    recipe = loaded.recipe
    check_trackers(recipe.run.track)
    _set_up_machine(recipe)
    device = choose_device(recipe.run.device)
    check_device(device)
    for phase in recipe.phases:
        if phase.solver == "sgd":
            check_optimizer(resolve(recipe, phase).train)
        check_weights(resolve(recipe, phase).loss)
    listed = list_data(recipe.data)  # what is wrong there is told before weights are fetched
    tables = tables_of(listed.place)
    check_classes(loaded, len(listed.classes))
    weights = (
        _source(recipe, dry_run, screen) if start is None else start.source
    )  # missing ones are told before many images are read
    with screen.progress("reading images") as progress:
        data = load_data(recipe.data, listed=listed, progress=progress)
    index = data.index.few(_SMOKE_IMAGES) if smoke else data.index
    say_data(data, index, screen)
    for text in adapted:
        screen.note(text)
    if not len(index.rows("val")):
        raise no_validation(index)
    if start is not None:
        start.check(index, screen)
    check_classes(loaded, len(index.classes))  # fewer than listed, where those of one are all left out
    plan = make_plan(loaded, len(index.rows("train")))
    check_shares(plan, ranks())
    check_compile(plan.phases, device, ranks(), dry_run=dry_run)
    created = create_model(recipe.model, len(index.classes), recipe.seed, weights)
    for text in created.notes:
        screen.note(text)
    model = created.model.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
    limits = measure(model, loaded, size=created.preprocessing.size, device=device, machine=describe(device))
    check(limits, name=created.name, loaded=loaded, classes=len(index.classes))
    workers = choose_workers(recipe.run.workers, device, ranks_here())
    about = {
        "schema": SCHEMA,
        "verb": verb,
        "command": command,
        "model": created.name,
        "recipe": recipe.name,
        "seed": recipe.seed,
        "smoke": smoke,
        "device": str(device),
        "machine": describe(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "data": {
            "where": data.name,
            **({} if recipe.data.more else {"path": find_data(recipe.data).origin}),
            "root": resolved(index.root),
            "tables": tables,
            "fingerprint": index.fingerprint,
            "n": {split: len(index.rows(split)) for split in SPLITS},
            "notes": [*data.notes, *data.warnings],
        },
        "task": index.task,
        "classes": list(index.classes),
        "loss_weights": loss_weights(plan, index),
        "weights": {
            "kind": created.weights.kind,
            "detail": created.weights.detail,
            "licence": created.weights.licence,
            "sha256": created.weights.digest(),
            "additions": created.additions,
        },
        **({} if start is None else {"parent": start.told()}),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "budget": about_limits(limits),
        "preprocessing": created.preprocessing.to_dict(),
    }
    setup = _with_format(
        Setup(loaded, index, plan, model, created.preprocessing, device, None, workers, about, start, screen.warn),
        smoke,
    )
    say_setup(setup, data, screen)
    if verb in {"finetune", "scratch"} and not (smoke or dry_run):
        setup = with_loaders(decided(setup, screen), screen)
    if start is not None:
        start.say(plan, screen)
    _check_phases(setup, screen)
    return setup, data


def _with_format(setup: Setup, smoke: bool) -> Setup:
    """The setup of a new run with the number format of the updates that go through its network."""
    gradients = [phase for phase in setup.plan.phases if phase.lr is not None]
    through = [phase for phase in gradients if whole_network(setup, phase) is not None]
    most = max(map(images_at_once, through), default=0)
    found = choose_format(most, setup.recipe, setup.model, setup.device, setup.preprocessing.size, smoke=smoke)
    name = format_name(found.autocast)
    if found.measured:  # so that repeating the run repeats it
        setup = setup.with_chosen("train", "precision", name, found.why.removeprefix(f"{name}: "))
    memory = str(memory_format(setup.device)).removeprefix("torch.")
    about = {"precision": name, "why": found.why, "memory": memory, "measured": found.measured}
    return replace(setup, autocast=found.autocast, about={**setup.about, "format": about})


def _source(recipe: Recipe, dry_run: bool, screen: Screen) -> WeightSource:
    try:
        return find_source(recipe.model)
    except WeightsError as error:
        if not dry_run:
            raise
        told = f"{error.message} The plan is made without them; a training would stop here."
        screen.warn("\n".join([told, *([error.hint] if error.hint else [])]))
        return find_source(recipe.model.model_copy(update={"weights": "none"}))


def _check_phases(setup: Setup, screen: Screen) -> None:
    """See that the network can do what each phase asks of it, before the first one costs time."""
    random, unnormalised = setup.about["weights"]["kind"] in {"none", "part"}, []
    for phase in setup.plan.phases:
        model, size, settings = setup.model, setup.preprocessing.size, phase.settings
        channels = setup.preprocessing.channels
        set_trainable(model, phase.train)
        set_grad_checkpointing(model, settings.grad_checkpointing)
        if phase.lr is not None:
            make_optimizer(model, settings, phase.lr)
            if random and settings.batch_norm == "frozen" and learns_statistics(model):
                unnormalised.append(phase.name)
            if whole_network(setup, phase) is not None:
                at_once = settings.batch_size, images_at_once(phase)
                check_memory(model, setup.device, size, *at_once, setup.autocast, channels)
        else:
            check_solvable(model, torch.randn(2, channels, *size).to(setup.device))
            if left := left_by_a_solve(model):
                screen.note(
                    f"phase {phase.name!r}: only the last layer is solved, on what {' and '.join(left)} make of the "
                    f"features, which are new too. To train all of the head:  --set phases.{phase.name}.solver=sgd "
                    f"--set phases.{phase.name}.lr=1e-3 --set phases.{phase.name}.epochs=2"
                )
    if unnormalised:
        own, origins = [f"phases.{name}.batch_norm" for name in unnormalised], setup.loaded.origins
        keys = dict.fromkeys(f"--set {key if key in origins else 'train.batch_norm'}=train" for key in own)
        screen.warn(
            f"Batch norm is frozen (phase {', '.join(unnormalised)}) and the weights are random: its statistics stay 0 "
            f"and 1, so it never normalises. Let it learn them:  {' '.join(keys)}"
        )


def begin(setup: Setup, data: LoadedData, *, out: Path, name: str | None) -> RunFolder:
    """Make the run folder with what was asked; it is there as a whole or not at all.

    Raises:
        UsageError: if `name` is taken.
        DiskError: if it cannot be written, or the disk has no room for what the run will save.
    """
    check_place(out, name)
    _check_room(out, setup.least_room())
    model = setup.about["model"].split(".")[0]
    source = (setup.recipe.data.path or setup.index.root.name).rstrip("/").rsplit("/", 1)[-1]
    with RunFolder.create(out, verb=setup.about["verb"], model=model, data=source, name=name) as folder:
        folder.write_text("recipe.toml", render(setup.loaded))
        keep(folder.path, setup.about)
        setup.index.write_csv(folder.path / "data" / "index.csv")
        folder.write_text("data/classes.txt", "".join(f"{label}\n" for label in setup.index.classes))
        if setup.start is not None:
            setup.start.copy_to(folder.path / "checkpoints", setup.index.fingerprint)
        if data.bad:
            _list_bad(folder, data.bad)
        folder.set_status("running", step=0, total_steps=setup.plan.total_steps)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        folder.write_json("run.json", {"created": created, "name": folder.name, **setup.about})
    folder.announce()
    return folder


def _check_room(out: Path, least: int) -> None:
    """See that the disk of `out`, which need not exist, has room for what a run saves at least."""
    above = next(place for place in (out, *out.absolute().parents) if place.is_dir())
    try:
        check_space(above, least)
    except OSError as error:
        raise DiskError(
            f"The run does not fit on the disk of {printable(str(out))}: {error}.",
            "These are two checkpoints and the model. Free some space, or write elsewhere:  --out FOLDER",
        ) from error


def reopen(folder: RunFolder, *, fresh: bool, workers: int | None, screen: Screen) -> Setup:
    """The setup of a run that began earlier: its recipe, index, format and threads; nothing is chosen anew.

    Args:
        folder: the run.
        fresh: whether the run has no checkpoint yet, so that the starting weights are needed again.
        workers: loader processes; None: as the recipe says, or as a measurement on this machine said.
        screen: told what differs from the machine that the run began on.

    Raises:
        DataError: if an image or the list of them changed.
        WeightsError: if the starting weights are needed and are others now.
    """
    about = folder.read_json("run.json")
    loaded = load_recipe(str(folder.path / "recipe.toml"))
    recipe = loaded.recipe
    if fresh and "parent" in about:
        raise DiskError(
            f"{folder.name} has no checkpoint any more, and {about['parent']['run']}, where it started, may have "
            "changed since.",
            f"Put {folder.path / 'checkpoints'} back, or start a new run.",
        )
    _set_up_machine(recipe)
    torch.set_num_threads(about["threads"])
    new = f"imgkit {about['verb']} --recipe {shlex.quote(str(folder.path / 'recipe.toml'))} --device cpu"
    new += " --set train.precision=auto" * bool(about["format"].get("measured"))
    new += plugin_words(folder)
    device = choose_device(about["device"], f"Resume it where there is such a device, or start a new run:  {new}")
    check_device(device)
    _say_changes(about, device, screen)
    index = read_index(folder, about)
    if fresh and index.fingerprint != about["data"]["fingerprint"]:  # later, that of the checkpoint is looked at
        raise DataError(
            f"{folder.path / 'data' / 'index.csv'} is not the data that the run began with.",
            "Put the file back as it was, or start a new run.",
        )
    with screen.progress("checking images") as progress:
        check_files(index, progress)
    settings = recipe.model.model_copy(update={"name": about["model"]} | ({} if fresh else {"weights": "none"}))
    weights = find_source(settings)
    if fresh:
        _check_weights(weights, about["weights"]["sha256"])
    plan = make_plan(loaded, len(index.rows("train")))
    check_shares(plan, ranks())
    check_compile(plan.phases, device, ranks())
    created = create_model(settings, len(index.classes), recipe.seed, weights)
    asked = recipe.run.workers if workers is None else workers
    if asked is None and (about["machine"], about.get("loaders", {}).get("ranks")) == (describe(device), ranks_here()):
        asked = about["loaders"]["workers"]
    return Setup(
        loaded=loaded,
        index=index,
        plan=plan,
        model=created.model.to(device, memory_format=memory_format(device)),  # type: ignore[call-overload]
        preprocessing=Preprocessing.from_dict(about["preprocessing"]),
        device=device,
        autocast=FORMATS[about["format"]["precision"]],
        workers=choose_workers(asked, device, ranks_here()),
        about=about,
        warn=screen.warn,
    )


def _check_weights(weights: WeightSource, before: str | None) -> None:
    """See that the weights to start from are those that the run began with, by their SHA-256."""
    now = weights.digest()
    if now != before:
        was, is_ = (digest[:12] if digest else "none" for digest in (before, now))
        raise WeightsError(
            f"{weights.file or weights.detail} is not what the run began with: SHA-256 {is_}, not {was}.",
            "Put the file back as it was, or start a new run.",
        )


def _say_changes(about: Mapping[str, Any], device: torch.device, screen: Screen) -> None:
    before = {"machine": about["machine"], **about["versions"]}
    now = {"machine": describe(device), **versions()}
    changed = [f"{name} {before.get(name)} is now {now[name]}" for name in now if now[name] != before.get(name)]
    if changed:
        screen.warn(f"from here on the run is not bit-identical to one without a stop: {', '.join(changed)}")


def _list_bad(folder: RunFolder, bad: Sequence[BadImage]) -> None:
    file = folder.path / "data" / "bad.csv"
    with disk_told(file), file.open("w", newline="", errors="backslashreplace") as stream:
        csv.writer(stream).writerows([["path", "reason"], *([guarded(one.path), guarded(one.reason)] for one in bad)])


def _set_up_machine(recipe: Recipe) -> None:
    keep_freed_memory()
    use_settings(recipe.run.threads, deterministic=recipe.run.deterministic)
