"""Cross-validation as a function: what `imgkit finetune --folds K` does, and what `folds=K` gives."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgkit.api_options import Options, flags_of
from imgkit.api_run import Run
from imgkit.notebook import usual_screen
from imgkit.run import RunFolder
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.studies.folds import Folded, Request
    from imgkit.studies.plan import Asked, Planned
    from imgkit.studies.pooled import Compared, Pooled
    from imgkit.studies.schema import Verb


@dataclass(frozen=True)
class Folds:
    """A cross-validation whose runs are finished.

    Attributes:
        folder: of its runs, folds.csv, oof.csv, folds.md and folds.json.
        runs: one a fold, in order; each was scored once on the fold that it did not see.
        metrics: of all images together, each answered by the run that did not see it, as in metrics.json.
        scores: of each fold, by name: "top1", "f1_macro", …
    """

    folder: Path
    runs: tuple[Run, ...]
    metrics: Mapping[str, Any]
    scores: tuple[Mapping[str, float], ...]


@dataclass(frozen=True, eq=False)
class Dealt:
    """Images in folds, and the runs that are to be.

    Args:
        folded: the images.
        whole: what all runs share.
        runs: one a fold.
    """

    folded: "Folded"
    whole: "Asked"
    runs: "Sequence[Planned]"


def cross_validate(verb: "Verb", model: str, recipe: str, folds: int, options: Options, runs: Path) -> Folds:
    """Deal the images to folds, train once for each, and pool what they answer; the same call again goes on.

    Args:
        verb: what each run does.
        model: timm's name.
        recipe: a shipped recipe's name or a TOML file.
        folds: how many.
        options: of `finetune` or `scratch`.
        runs: the folder of run folders where `options` has none.

    Raises:
        ImgkitError: what is wrong, before anything is trained; or what stopped a training.
    """
    from imgkit.studies.folds import Request

    given = options.get("plugin", ())
    plugin = [str(file) for file in ([given] if isinstance(given, str | Path) else given)]
    flags = {key: flag for key, flag in flags_of(verb, model, options).items() if key != "model.name"}
    if verb == "scratch":
        flags.pop("model.weights")  # the verb says it in each run
    sets, screen = [*options.get("sets", ())], options.get("screen") or usual_screen()
    asked = Request(verb, model, recipe, flags, sets, plugin, folds, options.get("smoke", False))
    dealt = deal(asked, Path(options.get("out", runs)), options.get("name"), screen)
    pooled, _, _ = train(dealt, screen)
    made = tuple(Run(RunFolder(dealt.whole.out / run.name)) for run in dealt.runs)
    return Folds(dealt.whole.out, made, pooled.metrics, tuple(fold.scores for fold in pooled.folds))


def deal(asked: "Request", out: Path, name: str | None, screen: Screen) -> Dealt:
    """Deal the images, and say how; nothing is written.

    Args:
        asked: the cross-validation.
        out: where its folder is to be.
        name: of its folder; None: one that follows from what is asked.
        screen: where to say it.

    Raises:
        ImgkitError: what is wrong.
    """
    from imgkit.data.sources import find_data, refuse_inside
    from imgkit.model_names import resolve_name
    from imgkit.plugin_files import use_plugins
    from imgkit.recipe.load import load_recipe
    from imgkit.run import check_place
    from imgkit.studies import folds

    use_plugins(asked.plugin)
    settings = load_recipe(asked.recipe, flags=asked.flags, sets=asked.sets).recipe.data
    data = find_data(settings)
    resolve_name(asked.model)
    name = name or _name(asked, data.path.stem)
    place = out / name
    if not place.exists():  # else the same command goes on, see `check_out`
        check_place(out, name)
    refuse_inside(data, settings.root, place)
    with screen.progress("reading images") as progress:
        folded = folds.deal(asked, progress)
    folds.check_out(folded, place)
    whole, runs = folds.plan(asked, folded, place)
    _say(folded, runs, screen)
    return Dealt(folded, whole, runs)


def train(dealt: Dealt, screen: Screen) -> "tuple[Pooled, list[Compared], list[Path]]":
    """Train what is not done; what all folds come to, how cross-validations beside it differ, and the files of both.

    Raises:
        ImgkitError: what stopped a training.
    """
    from imgkit.studies import folds
    from imgkit.studies.pooled import compare_with_others, pool, write
    from imgkit.studies.work import in_a_process

    out, file = dealt.whole.out, dealt.folded.file
    digest = file.write(out / folds.TABLE)
    screen.fact("Writes", f"{out}/", f"{folds.TABLE}: SHA-256 {digest}")
    folds.train(dealt.whole, dealt.runs, screen, in_a_process)
    pooled = pool(out, dealt.runs, digest, seed=dealt.runs[0].seed, grouped=file.found.index.groups is not None)
    compared = compare_with_others(pooled, out)
    return pooled, compared, write(pooled, compared, out)


def _name(asked: "Request", data: str) -> str:
    """What the folder is called where no name is given: the same for the same command, which so goes on."""
    words = [re.sub(r"[^A-Za-z0-9_.-]+", "-", word).strip("-.")[:40] or "x" for word in (asked.model, data)]
    return "-".join([f"{asked.folds}fold", asked.verb, *words])


def _say(folded: "Folded", runs: "Sequence[Planned]", screen: Screen) -> None:
    lines = []
    for fold, run in enumerate(runs):
        n = folded.splits(fold)
        lines.append(
            f"{run.name}: train {n['train']:,} · val {n['val']:,}, of the other folds · scored on {n['test']:,}"
        )
    screen.fact("Folds", *lines)
    for text in (*folded.notes, *(folded.file.found.data.warnings)):
        screen.note(text)
