"""The recipes, studies and sweeps that come with imgkit, as files. Nothing heavy is imported: asked at each TAB."""

from pathlib import Path


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with imgkit: name to file."""
    return _tables(_folder())


def shipped_studies() -> dict[str, Path]:
    """The studies that come with imgkit: name to file."""
    return _tables(_folder() / "studies")


def shipped_sweeps() -> dict[str, Path]:
    """The sweeps that come with imgkit: name to file."""
    return _tables(_folder() / "sweeps")


def _folder() -> Path:
    package = Path(__file__).parents[1]
    installed = package / "_recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def _tables(folder: Path) -> dict[str, Path]:
    return {file.stem: file for file in sorted(folder.glob("*.toml"), key=lambda file: file.stem)}
