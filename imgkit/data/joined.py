"""Several data sets read as one: `--data a/ --data b/`."""

from collections.abc import Sequence

from imgkit.data.columns import Rows
from imgkit.data.rows import Source, common_folder, listed
from imgkit.errors import DataError, printable


def join(sources: Sequence[Source]) -> Source:
    """One data set of the rows of all: classes and groups by name, splits as given, paths from the root of all.

    Raises:
        DataError: if a file is in two of them; or if only some bring splits, or groups, or several labels an image:
            what that means for the others is not for imgkit to guess.
    """
    for what, has in (
        ("splits", [bool((source.rows.splits >= 0).any()) for source in sources]),
        ("groups", [source.rows.group_codes is not None for source in sources]),
        ("weights", [source.rows.weights is not None for source in sources]),
        ("several labels an image", [source.task == "multilabel" for source in sources]),
    ):
        if any(has) and not all(has):
            one, other = sources[has.index(True)].shown, sources[has.index(False)].shown
            raise DataError(
                f"{one} has {what}, and {other} has none, so they cannot be joined.",
                "Give data sets of one kind; a CSV of all images may have a column for it.",
            )
    root = common_folder([source.root for source in sources], [source.shown for source in sources])
    joined = Source(root, " and ".join(source.shown for source in sources), Rows(), task=sources[0].task)
    first: dict[str, int] = {}
    for number, source in enumerate(sources):
        prefix = "" if source.root == root else source.root.relative_to(root).as_posix() + "/"
        for row in source.rows:
            path = prefix + row.path
            if first.setdefault(path, number) != number:
                if sources[first[path]].shown == source.shown:
                    raise DataError(f"{source.shown} is given twice.", "Give it once.")
                raise DataError(
                    f"{printable(path)} is in {sources[first[path]].shown} and in {source.shown}.",
                    "Give data sets that share no file.",
                )
            joined.rows.append(row._replace(path=path))
        joined.beside.extend(map(prefix.__add__, source.beside))
        joined.unread.extend(map(prefix.__add__, source.unread))
        joined.notes.extend(source.notes)
        joined.warnings.extend(source.warnings)
    joined.notes.insert(0, f"{len(sources)} data sets are joined; paths start at {printable(str(root))}.")
    joined.notes.extend(_only_in_one(sources))
    joined.rows.sort()
    return joined


def _only_in_one(sources: Sequence[Source]) -> list[str]:
    """Classes that one data set alone has: perhaps another name for a class of the others."""
    notes = []
    for source in sources:
        others = set[str]().union(*(other.rows.held() for other in sources if other is not source))
        own = sorted(source.rows.held() - others)
        if own:
            notes.append(f"Only {source.shown} has {listed(own)}; classes are joined by name.")
    return notes
