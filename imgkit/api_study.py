"""`imgkit.study`: what `imgkit study` does, as a function."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgkit.notebook import usual_screen
from imgkit.plugin_files import Given
from imgkit.screen import Screen


@dataclass(frozen=True)
class StudyResult:
    """A study whose runs have been gone through.

    Attributes:
        folder: of its runs, study.md and study.csv.
        failed: run -> why it failed; empty where every run is finished.
        rows: the numbers of study.csv: "kind", "subject", "against", "split", "quantity", "mean", "half" (of Student's
            95 % interval over seeds, or None) and "values" by seed.
    """

    folder: Path
    failed: dict[str, str]
    rows: list[dict[str, Any]]


def study(
    file: str | Path,
    *,
    out: str | Path | None = None,
    data: str | Path | None = None,
    sets: Sequence[str] = (),
    plugin: Given = (),
    smoke: bool = False,
    screen: Screen | None = None,
) -> StudyResult:
    """Train what a study's file asks for and is not trained yet, each run in a process of its own, and compare.

    Args:
        file: a TOML file, or the name of a study that comes with imgkit.
        out: folder of its runs; None: runs/ and the study's name.
        data: a folder or CSV, over the file's.
        sets: "key.path=value" over the file's base.
        plugin: Python files that its names need.
        smoke: a few steps a run.
        screen: where to say what is going on; None: in the cell of a notebook, else nowhere; runs speak on stderr.

    Raises:
        RecipeError: all that is wrong with the file and its variants' recipes.
        ImgkitError: of the kind that fits, what else stands against a variant, before the first run; not what made a
            run fail: that is in `failed`.
    """
    from imgkit.studies.conduct import ask, conduct
    from imgkit.studies.rows import rows_of

    files = [plugin] if isinstance(plugin, str | Path) else plugin
    asked = ask(
        file,
        out=None if out is None else Path(out),
        data=None if data is None else str(data),
        sets=sets,
        plugin=[str(one) for one in files],
        smoke=smoke,
    )
    done = conduct(asked, screen or usual_screen())
    rows = [
        {
            "kind": row.kind,
            "subject": row.subject,
            "against": row.against,
            "split": row.split,
            "quantity": row.quantity.key,
            "mean": None if row.estimate is None else row.estimate.mean,
            "half": None if row.estimate is None else row.estimate.half,
            "values": {} if row.estimate is None else dict(row.estimate.values),
        }
        for row in rows_of(asked.study, done.results)
    ]
    return StudyResult(asked.out, {name: entry["reason"] for name, entry in done.memory.failed.items()}, rows)
