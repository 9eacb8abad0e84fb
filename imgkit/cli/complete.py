"""What TAB offers for values: networks, runs, recipes, studies and data.

A shell asks in a new process at every TAB, so nothing here may import torch, pydantic or numpy. Where nothing fits, the
shell offers files instead.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import typer

_BUILTIN = ("digits", "synthetic")  # of data/builtin.py, which imports numpy; a test compares them


def networks(incomplete: str) -> list[str]:
    """Names of networks; those with a tag once there is a dot."""
    from imgkit.model_names import begun

    with suppress(OSError):
        return begun(incomplete)
    return []


def runs(ctx: typer.Context) -> list[str]:
    """`latest`, and the runs below --runs, those of studies too; it is looked for where the command would look."""
    from imgkit.run_names import runs_below, runs_in

    out = Path(ctx.params.get("runs") or ctx.params.get("out") or "runs")
    with suppress(OSError):
        here = sorted(runs_in(out))
        return [*(["latest"] if here else []), *here, *runs_below(out)]
    return []


def recipes(incomplete: str) -> list[str]:
    """Names of shipped recipes, and files of one's own."""
    from imgkit.recipe.shipped import shipped_recipes

    return _or_files(shipped_recipes(), incomplete, ".toml")


def studies(incomplete: str) -> list[str]:
    """Names of shipped studies, and files of one's own."""
    from imgkit.recipe.shipped import shipped_studies

    return _or_files(shipped_studies(), incomplete, ".toml")


def sweeps(incomplete: str) -> list[str]:
    """Names of shipped sweeps, and files of one's own."""
    from imgkit.recipe.shipped import shipped_sweeps

    return _or_files(shipped_sweeps(), incomplete, ".toml")


def data(incomplete: str) -> list[str]:
    """Built-in data sets, and folders and tables here."""
    return _or_files(_BUILTIN, incomplete, ".csv", ".parquet")


def _or_files(names: Iterable[str], incomplete: str, *endings: str) -> list[str]:
    """Names that fit, with what lies here and fits too. Nothing where no name does: then the shell offers files."""
    fitting = [name for name in names if name.startswith(incomplete)]
    if not fitting:
        return []
    with suppress(OSError):
        for entry in sorted(Path().iterdir()):
            if entry.name.startswith(incomplete) and entry.name[0] != ".":
                if entry.is_dir():
                    fitting.append(f"{entry.name}/")
                elif entry.suffix.lower() in endings:
                    fitting.append(entry.name)
    return fitting


RUN = typer.Argument(metavar="NAME", help="A run under --runs, a path, or: latest", autocompletion=runs)
MODEL = typer.Argument(
    metavar="MODEL",
    help="A timm model, such as resnet50 (imgkit models lists them).",
    show_default=False,
    autocompletion=networks,
)
MODELS = typer.Argument(
    metavar="MODEL",
    help="timm models, such as resnet50 (imgkit models lists them).",
    autocompletion=networks,
)
PATHS = typer.Argument(metavar="PATH", help="Folder or CSV (else $IMGKIT_DATA, ./data).", autocompletion=data)
BY_FLAG: dict[str, Callable[..., list[str]]] = {
    "--data": data,
    "--from": runs,
    "--model": networks,
    "--recipe": recipes,
}
"""The options of the table in options.py whose values are offered."""
