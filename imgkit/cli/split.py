"""`imgkit data split`."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from imgkit.cli.given import use_given_plugins
from imgkit.cli.options import recipe_flags, split_options, split_signature
from imgkit.data.rows import count
from imgkit.errors import UsageError, printable
from imgkit.screen import Screen

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from imgkit.data.index import Index
    from imgkit.data.split_file import Found
    from imgkit.recipe.schema import DataSettings

_CLASSES_SHOWN = 50


def split_command() -> Callable[..., None]:
    """The command: folders or tables, what describes them, and how they are to be split."""

    def command(**given: Any) -> None:  # noqa: ANN401
        _split(given)

    command.__dict__["__signature__"] = split_signature()
    return command


def _split(given: Mapping[str, Any]) -> None:
    use_given_plugins(given)
    import numpy as np

    from imgkit.data.index import SPLITS
    from imgkit.data.split_file import FOLD, SplitFile, command, find

    folds, column, out = given["folds"], given["time_col"], given["out"]
    screen = Screen(file=sys.stdout)
    with Screen().progress("reading images") as progress:
        found = find(_settings(given), progress)
    splits = found.index.splits if column is None else _in_time(found, column, given)
    dealt = None if folds is None else found.folds(folds, np.flatnonzero(splits != SPLITS.index("test")))
    own = {} if dealt is None else {FOLD: ["" if fold < 0 else str(fold + 1) for fold in dealt.tolist()]}
    file = SplitFile(found, splits, np.arange(len(splits)), own)
    digest = file.write(out)
    screen.line(f"Read {found.data.where}")
    for text in found.data.notes:
        screen.item("i", text)
    for text in found.data.warnings if column is None else ():  # which speak of splits that these are not
        screen.item("!", text)
    _print_counts(file.index, screen)
    if dealt is not None:
        sizes = " · ".join(f"{fold + 1}: {n:,}" for fold, n in enumerate(np.bincount(dealt[dealt >= 0]).tolist()))
        screen.line(f"Folds  {sizes}")
    screen.line(f"Wrote {printable(str(out))} · SHA-256 {digest}")
    more = [] if folds is None else ["--folds", str(folds)]
    screen.line(f"Next:  {command(['finetune', _network(), *file.words(out), *more])}")


def _settings(given: Mapping[str, Any]) -> "DataSettings":
    """What is to be read and how it is dealt.

    Raises:
        UsageError: if options contradict each other.
    """
    from imgkit.recipe.load import Flag, load_recipe

    flags = {key: Flag(flag, value) for key, (flag, value) in recipe_flags(given, split_options()).items()}
    if given["time_col"] is None:
        return load_recipe("finetune", flags=flags).recipe.data
    if given["folds"] is not None:
        raise UsageError(
            "--folds and --time-col contradict each other: all folds but the last would be scored by newer images.",
            "Leave out one of them.",
        )
    if "data.split_seed" in flags:
        raise UsageError("--split-seed is not used: a split in time draws nothing.", "Leave it out.")
    # Images are dealt below, by time; these keep `load_data` from doing it.
    none = {"data.val": Flag("--time-col", 0.0), "data.test": Flag("--time-col", 0.0)}
    return load_recipe("finetune", flags={**flags, **none}).recipe.data


def _in_time(found: "Found", column: str, given: Mapping[str, Any]) -> "npt.NDArray[np.int8]":
    from imgkit.data.timed import assign_in_time, check_known_in_train, moments
    from imgkit.recipe.load import Flag, load_recipe

    flags = {key: Flag(flag, value) for key, (flag, value) in recipe_flags(given, split_options()).items()}
    shares = load_recipe("finetune", flags=flags).recipe.data
    index = found.index
    if found.data.named.any():
        raise UsageError(
            f"--time-col is not used: {found.place.shown} has splits of its own.",
            "Leave it out, or take the column of splits out of a copy of the table.",
        )
    paths, cells = list(index.paths), found.column(column)
    times = moments(cells, column, paths)
    splits = assign_in_time(paths, times, cells, found.groups, val=shares.val, test=shares.test)
    check_known_in_train(splits, index.label_sets(), index.classes)
    return splits


def _network() -> str:
    """One whose weights are here, if there is one."""
    from imgkit.weight_packages import installed_networks

    return next(iter(installed_networks()), "resnet50")


def _print_counts(index: "Index", screen: Screen) -> None:
    from imgkit.data.index import SPLITS

    sizes = " · ".join(f"{split} {len(index.rows(split)):,}" for split in SPLITS if len(index.rows(split)))
    screen.line(f"{count(len(index), 'image')} · {sizes}")
    counts = [index.counts(split).tolist() for split in SPLITS]
    for code, name in enumerate(index.classes[:_CLASSES_SHOWN]):
        parts = ", ".join(f"{split} {of[code]:,}" for split, of in zip(SPLITS, counts, strict=True) if sum(of))
        screen.line(f"  {printable(name)}: {parts}")
    if len(index.classes) > _CLASSES_SHOWN:
        screen.line(f"  … and {count(len(index.classes) - _CLASSES_SHOWN, 'more class', 'more classes')}")
