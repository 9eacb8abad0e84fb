"""Training pictures decoded once: whether that pays, at which size, and the pass that does it.

That pictures are prepared is a definition of their pixels (`data.prepared`), which the recipe of a run keeps. The store
is a cache of these pixels: a run has the same bits with it, without it, and where it goes in the middle.
"""

from dataclasses import replace

from imgkit import machine
from imgkit.data.augment import TrainTransform
from imgkit.data.index import Ints
from imgkit.data.keep import Kept, bytes_of, keep_pictures, missing_rows
from imgkit.data.load import load_data
from imgkit.data.picture_store import PictureStore
from imgkit.data.prepared import Rule, about
from imgkit.data.preprocessing import Preprocessing
from imgkit.duration import format_seconds
from imgkit.models.create import create_model
from imgkit.pace import LEAST_USES, picture_times, uses_of
from imgkit.quantity import about_bytes
from imgkit.recipe.adapt import adapt
from imgkit.recipe.load import Loaded
from imgkit.recipe.plan import PhasePlan, Plan, make_plan
from imgkit.recipe.schema import Recipe
from imgkit.screen import Screen
from imgkit.setup import Setup
from imgkit.signals import Watched

KEY = "data.prepared"
_LEAST_S = 30.0  # saved: below that nothing is chosen, and no disk is filled
_THERE = 0.99  # share of the pictures from which a store counts as made
_OFF = f"to turn it off:  --set {KEY}=none"


def decided(setup: Setup, screen: Screen) -> Setup:
    """The setup of a new run with `data.prepared` decided where it is "auto", and what was found said.

    Prepared pictures are chosen where a store has them already, or where a measurement says that they save 30 s or more
    and there is room for them. A deterministic run chooses nothing by a measurement.
    """
    recipe, index, plan = setup.recipe, setup.index, setup.plan
    if recipe.data.prepared != "auto" or recipe.run.deterministic:
        return setup
    used = sum(uses_of(recipe, phase, phase.first_step) for phase in plan.phases)
    if not used:
        return setup
    rows, side = index.rows("train"), needed_side(recipe, plan, setup.preprocessing)
    store = PictureStore(about(side))
    missing = missing_rows(store, index, rows)
    if len(missing) <= (1 - _THERE) * len(rows):
        screen.note(f"training pictures are decoded already (shorter side ≤ {side} px, {store.folder}); {_OFF}")
        return _with(setup, side, "decoded earlier")
    if used < max(LEAST_USES, 2 * len(missing)):
        return setup
    saved = picture_times(setup, rows, side).saved(setup, used, len(missing))
    if saved < _LEAST_S:
        return _with(setup, None, f"saves less than {_LEAST_S:.0f} s")
    size, time_ = bytes_of(index, missing, side, recipe.data.max_pixels), format_seconds(saved)
    if not store.has_room(size):
        screen.note(f"pictures are decoded in each epoch; to do it once would save about {time_}, but {store.unkept}")
        return _with(setup, None, "no room")
    screen.note(
        f"training pictures are decoded once (shorter side ≤ {side} px, {about_bytes(size)} in {store.folder}), which "
        f"saves about {time_}; {_OFF}"
    )
    return _with(setup, side, f"saves about {time_}")


def needed_side(recipe: Recipe, plan: Plan, preprocessing: Preprocessing) -> int:
    """The shorter side, in pixels, that a recipe needs: as large as any phase has JPEGs decoded at least."""
    phases = [phase for phase in plan.phases if uses_of(recipe, phase, phase.first_step)] or plan.phases
    return max(TrainTransform(preprocessing, phase.augment).min_side for phase in phases)


def keep_phase(setup: Setup, phase: PhasePlan, start: int, screen: Screen, watched: Watched) -> None:
    """Before updates `start`.. of a phase: prepare what the store lacks, if the run still uses pictures twice at least.

    Those of validation are kept as evaluated. It is said what is kept.
    """
    side, index = setup.prepared, setup.index
    rows, later = index.rows("train"), [other for other in setup.plan.phases if other.first_step >= phase.first_step]
    used = sum(uses_of(setup.recipe, other, max(start, other.first_step)) for other in later)
    if side is None or used < 2 * len(rows):
        return
    kept = _kept(setup, rows, side, watched, "train")
    _kept(setup, index.rows("val"), setup.preprocessing, watched, "val")
    screen.note(f"phase {phase.name!r} trains on {_told(kept, len(rows), side)}")


def _kept(setup: Setup, rows: Ints, rule: Rule, watched: Watched, split: str) -> Kept:
    with watched(f"decoding {split}") as progress:
        return keep_pictures(
            setup.index,
            rows,
            rule,
            workers=setup.workers and machine.cores(),  # the network waits meanwhile
            max_pixels=setup.recipe.data.max_pixels,
            progress=progress,
            warn=setup.warn,
        )


def prepare_pictures(loaded: Loaded, screen: Screen) -> None:
    """Prepare the training pictures of a recipe and the evaluated ones of its validation, for later trainings.

    Raises:
        ImgkitError: as `imgkit finetune` would before it trains.
    """
    loaded, _ = adapt(loaded)
    recipe = loaded.recipe
    with screen.progress("reading images") as progress:
        index = load_data(recipe.data, progress=progress).index
    plan = make_plan(loaded, len(index.rows("train")))
    settings = recipe.model.model_copy(update={"weights": "none"})
    preprocessing = create_model(settings, len(index.classes), recipe.seed).preprocessing
    side, cores = recipe.data.prepared, machine.cores()
    workers = recipe.run.workers if recipe.run.workers is not None else cores if cores > 1 else 0
    rule = side if isinstance(side, int) else needed_side(recipe, plan, preprocessing)
    for split, wanted in (("train", rule), ("val", preprocessing)):
        rows = index.rows(split)
        with screen.progress(f"decoding {split}") as progress:
            kept = keep_pictures(
                index, rows, wanted, workers=workers, max_pixels=recipe.data.max_pixels, progress=progress
            )
        folder = PictureStore(about(wanted)).folder
        screen.note(f"{split}: {_told(kept, len(rows), wanted)}, in {folder}")


def _told(kept: Kept, total: int, rule: Rule) -> str:
    size = f"shorter side ≤ {rule} px" if isinstance(rule, int) else "as evaluated"
    words = f"{kept.pictures:,} of {total:,} pictures decoded once ({size})"
    return words + (f"; the others are not kept: {kept.unkept}" if kept.unkept else "")


def _with(setup: Setup, side: int | None, why: str) -> Setup:
    """The setup whose recipe and run.json say what was decided."""
    about = {**setup.about, "prepared": {"shorter_side": side, "why": why}}
    return replace(setup.with_chosen("data", "prepared", side, why), about=about)
