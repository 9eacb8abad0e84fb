"""Cross-validation: as many ordinary trainings as there are folds, each scored once on the fold that it did not see.

Fold k is the test split of training k, so it is scored once, by the weights that validation chose; validation, which
chooses the epoch, stops early and calibrates, is taken from the other folds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgkit.data.folds import check_trained
from imgkit.data.index import SPLITS, Index, Ints
from imgkit.data.rows import count, listed
from imgkit.data.split import TEST, TRAIN, VAL, assign_label_sets, assign_splits
from imgkit.data.split_file import FOLD, Found, SplitFile, find
from imgkit.errors import DataError, Interrupted, UsageError, printable
from imgkit.recipe.given import Flag
from imgkit.recipe.load import load_recipe
from imgkit.recipe.phases import FROM_RUN
from imgkit.recipe.schema import DataSettings
from imgkit.screen import Screen
from imgkit.signals import hear_signals
from imgkit.studies.plan import Asked, Planned, plan_runs
from imgkit.studies.schema import Inference, Study, Variant, Verb
from imgkit.studies.state import states, study_lock
from imgkit.studies.work import Worker, say_run, train_run

TABLE = "folds.csv"
_KEPT = ("data.classes", "data.task", "data.prepared")  # of [data]: what a training on the table still reads


@dataclass(frozen=True, eq=False)
class Folded:
    """Images in folds.

    Args:
        file: the table that the trainings read: `fold`, and the splits of training k in `split_k`.
        folds: of each image from 0 on, (n,); -1: in none.
        notes: how they were dealt, and what is left out.
    """

    file: SplitFile
    folds: Ints
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many folds there are."""
        return int(self.folds.max()) + 1

    def splits(self, fold: int) -> Mapping[str, int]:
        """Images of each split of the training that is scored on `fold`, from 0 on."""
        column = [self.file.own[f"split_{fold + 1}"][row] for row in self.file.rows.tolist()]
        return {split: column.count(split) for split in SPLITS}


@dataclass(frozen=True)
class Request:
    """A cross-validation as it was asked for.

    Args:
        verb: what each run does.
        model: the network.
        recipe: a shipped recipe's name or a TOML file.
        flags: recipe values by key.
        sets: "key.path=value" over them.
        plugin: Python files that names need.
        folds: how many.
        smoke: each run is a trial of a few steps.
    """

    verb: Verb
    model: str
    recipe: str
    flags: Mapping[str, Flag]
    sets: Sequence[str]
    plugin: Sequence[str]
    folds: int
    smoke: bool


def deal(asked: Request, progress: Callable[[int, int], None] | None = None) -> Folded:
    """Read the images and deal them to folds; those of a table with a column `fold` as that says.

    Raises:
        UsageError: if what was asked for contradicts folds.
        DataError: if the images cannot be dealt, see `assign_folds`.
    """
    settings = _check(asked)
    found = _found(settings, progress)
    pool = np.flatnonzero(found.index.splits != TEST)
    given = found.cells is not None and FOLD in found.cells.header
    folds = _of_column(found, pool, asked.folds) if given else found.folds(asked.folds, pool)
    how = "by groups and class" if found.index.groups is not None else "by class"
    dealt = f"as the column {FOLD!r} says" if given else f"{how}, split seed {settings.split_seed}"
    notes = [f"{count(len(pool), 'image')} in {asked.folds} folds ({dealt})."]
    if left := len(found.index) - len(pool):
        notes.append(
            f"{count(left, 'image')} of the test split that the data have are in no fold: no training sees them, and "
            "they are not scored. They are for the one network that is trained at the end."
        )
    if found.data.named.any() and np.any(found.index.splits[found.data.named] == VAL):
        notes.append("The validation split that the data have is dealt to the folds like train.")
    index, own = found.index, {FOLD: [str(fold + 1) for fold in folds.tolist()]}
    for fold in range(asked.folds):
        own[f"split_{fold + 1}"] = _splits_of(index, folds, fold, settings)
    file = SplitFile(found, np.full(len(index), TRAIN, dtype=np.int8), pool, own)
    return Folded(file, folds, tuple(notes))


def plan(asked: Request, folded: Folded, out: Path, table: Path | None = None) -> tuple[Asked, list[Planned]]:
    """The runs, fold by fold, into `out`; they read `table`, or the one that is to be in `out`.

    Raises:
        RecipeError: all that is wrong with the recipe.
    """
    flags, sets = run_values(asked, folded.file, table or out / TABLE)
    loaded = load_recipe(asked.recipe, flags=flags, sets=sets)
    variants = tuple(
        Variant(f"fold{fold + 1}", {"data.split_col": Flag("--folds", f"split_{fold + 1}")})
        for fold in range(folded.count)
    )
    study = Study(
        source="",
        name=out.name,
        verb=asked.verb,
        recipe=asked.recipe,
        seeds=(loaded.recipe.seed,),
        base=flags,
        variants=variants,
        axes={},
        baseline=variants[0].name,
        compare="baseline",
        train_images=None,
        inference=Inference(),
        verb_place=f"imgkit {asked.verb}",
        text="",
    )
    whole = Asked(study, out, None, tuple(sets), tuple(asked.plugin), asked.smoke)
    return whole, plan_runs(whole)


def run_values(asked: Request, file: SplitFile, table: Path) -> tuple[dict[str, Flag], list[str]]:
    """The recipe values of every run: what was asked for, with the table in place of the data."""
    flags = {key: flag for key, flag in asked.flags.items() if not key.startswith("data.") or key in _KEPT}
    sets = [text for text in asked.sets if not text.strip().startswith("data.") or _key(text) in _KEPT]
    own = file.settings(table)
    for key, value in own.model_dump(exclude_unset=True).items():
        flags[f"data.{key}"] = Flag("--folds", list(value) if isinstance(value, tuple) else value)
    # What the recipe itself says of data that are not the table's.
    theirs = {f"data.{key}" for key in load_recipe(asked.recipe).recipe.data.model_fields_set}
    sets += [f"{key}=none" for key in sorted(theirs - flags.keys() - {*_KEPT, "data.split_col"})]
    return {"model.name": Flag("MODEL", asked.model), **flags}, sets


def check_out(folded: Folded, out: Path) -> None:
    """See that `out` is free, or holds the same folds.

    Raises:
        UsageError: if it does not.
    """
    table = out / TABLE
    if table.is_file() and table.read_bytes() != folded.file.text().encode():
        raise UsageError(
            f"{printable(str(table))} has other folds: the images, their labels, or how they are dealt changed since.",
            "Choose another --name for a cross-validation anew, or put the images back as they were.",
        )
    if out.exists() and not table.is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{printable(str(out))} is there already, and holds no folds.", "Choose another --name.")


def train(whole: Asked, runs: Sequence[Planned], screen: Screen, worker: Worker) -> None:
    """Train what is not done, one run after another, each in a process of its own; the table is there.

    Raises:
        ImgkitError: what stopped a run; the same command tries it again.
        Interrupted: if a signal came; the run under way is saved, and the same command goes on.
    """
    with study_lock(whole.out), hear_signals() as request:
        try:
            found = states(whole, runs)
        except UsageError as error:
            hint = "Choose another --name for a cross-validation anew, or remove these folders."
            raise UsageError(error.message, hint) from None
        for number, run in enumerate(runs, start=1):
            if found[run.name] == "done":
                continue
            say_run(screen, f"{number} of {len(runs)} · {run.name}", run, whole.out, found[run.name])
            outcome = train_run(whole, run, found[run.name], screen, worker, request)
            if request.stop is not None:
                raise Interrupted(
                    f"Stopped in run {run.name}; {number - 1} of {len(runs)} runs are behind it.",
                    "The same command goes on.",
                    signal=request.stop,
                )
            if outcome.code != 0:
                screen.note(f"{run.name} did not end well; the same command tries it again")
                raise outcome.error()


def _key(text: str) -> str:
    return text.partition("=")[0].strip()


def _check(asked: Request) -> DataSettings:
    """The settings of the data.

    Raises:
        UsageError: if something contradicts folds.
    """
    recipe = load_recipe(asked.recipe, flags=dict(asked.flags), sets=list(asked.sets)).recipe
    settings = recipe.data
    if settings.test > 0:
        raise UsageError(
            f"data.test = {settings.test:g} is not used: with --folds each fold is the test split of one training.",
            "Leave it out. A part that no training sees:  imgkit data split PATH --test 0.1 --folds 5",
        )
    if settings.val == 0:
        raise UsageError(
            "data.val = 0 leaves no validation, which chooses the weights of each training.", "Give a share:  --val 0.2"
        )
    if recipe.model.weights.startswith(FROM_RUN):
        raise UsageError(
            f"--from {recipe.model.weights.removeprefix(FROM_RUN)} is not for --folds: that run was trained on images "
            "of every fold, which are to be unseen.",
            "Start from weights that saw none of them, or leave out --folds.",
        )
    return settings


def _found(settings: DataSettings, progress: Callable[[int, int], None] | None) -> Found:
    """The images with the splits that the data themselves have; shares are for the trainings."""
    asked = settings.model_dump(exclude_unset=True, exclude={"val", "test", "split_seed", "prepared"})
    return replace(find(DataSettings(**asked), progress), settings=settings)


def _of_column(found: Found, pool: Ints, folds: int) -> Ints:
    """The folds that the column `fold` of the table says, in the order of their numbers or names; -1 outside `pool`.

    Raises:
        UsageError: if it has another number of folds.
        DataError: if an image has none, a group lies in several, or a class in one alone.
    """
    shown, cells = found.place.shown, [cell.strip() for cell in found.column(FOLD)]
    index, rows = found.index, pool.tolist()
    empty = next((row for row in rows if not cells[row]), None)
    if empty is not None:
        raise DataError(
            f"{shown}: {printable(index.paths[empty])} has no fold and is not of a test split.",
            f"Fill in its cell of the column {FOLD!r}, or rename the column, and images are dealt anew.",
        )
    names = sorted({cells[row] for row in rows}, key=lambda name: (not name.isdecimal(), len(name), name))
    if len(names) != folds:
        raise UsageError(
            f"{shown} has {count(len(names), 'fold')} in its column {FOLD!r} ({listed(names)}), not {folds}.",
            f"Take them:  --folds {len(names)}   or rename the column, and images are dealt anew.",
        )
    dealt = np.full(len(index), -1, dtype=np.int64)
    dealt[pool] = [names.index(cells[row]) for row in rows]
    torn = _torn(found.groups, dealt, rows)
    if torn is not None:
        raise DataError(
            f"{shown}: group {printable(torn)!r} is in several folds of the column {FOLD!r}.",
            "Mend the column, or rename it, and images are dealt anew; or leave out --group-col.",
        )
    sets = index.select(pool).label_sets()
    check_trained(dealt[pool], sets, index.classes, f"Mend the column {FOLD!r}, or rename it: then imgkit deals.")
    return dealt


def _torn(groups: Sequence[str | None], folds: Ints, rows: Sequence[int]) -> str | None:
    """The first group that lies in several folds."""
    where: dict[str, int] = {}
    for row in rows:
        group = groups[row]
        if group is not None and where.setdefault(group, int(folds[row])) != folds[row]:
            return group
    return None


def _splits_of(index: Index, folds: Ints, fold: int, settings: DataSettings) -> list[str]:
    """The split of each image in the training that is scored on `fold`; "" where it is in no fold."""
    found = np.full(len(index), "", dtype=object)
    found[folds == fold] = "test"
    rows = np.flatnonzero((folds >= 0) & (folds != fold))
    part, seed = index.select(rows), settings.split_seed
    if index.task == "multilabel":
        dealt = assign_label_sets(part.paths, part.label_sets(), part.groups, val=settings.val, test=0.0, seed=seed)
    else:
        dealt = assign_splits(part.paths, part.labels(), part.groups, val=settings.val, test=0.0, seed=seed)
    found[rows] = np.array(SPLITS, dtype=object)[dealt]
    return found.tolist()
