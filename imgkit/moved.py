"""A run whose data lie elsewhere now."""

from pathlib import Path

from imgkit.errors import DataError, printable
from imgkit.evaluate import check_files, read_index
from imgkit.run import RunFolder
from imgkit.screen import Screen


def move_data(folder: RunFolder, root: str | Path, screen: Screen) -> None:
    """Have a run find its own data below another folder from now on; they have to be the same, file by file.

    Args:
        folder: of the run; its run.json is written anew.
        root: where the paths of its data/index.csv start now.
        screen: where that is said.

    Raises:
        DataError: if there is no such folder, or a file of the data is not in it or has changed.
    """
    about = folder.read_json("run.json")
    before, place = Path(about["data"]["root"]), Path(root).expanduser().resolve()
    if not place.is_dir():
        raise DataError(f"The root of the images does not exist: {printable(str(root))}", "Give an existing --root.")
    moved = about["data"] | {"root": str(place)}
    if Path(moved.get("path", "")).is_relative_to(before):  # a table among its images; another one was not moved
        moved["path"] = str(place / Path(moved["path"]).relative_to(before))
    if "tables" in moved:  # a run of an earlier imgkit has none
        moved["tables"] = [
            {**one, "path": str(place / Path(one["path"]).relative_to(before))}
            if Path(one["path"]).is_relative_to(before)
            else one
            for one in moved["tables"]
        ]
    with screen.progress("checking images") as progress:
        check_files(read_index(folder, about | {"data": moved}), progress)
    folder.write_json("run.json", about | {"data": moved})
    screen.note(f"the data of {folder.name} are read from {printable(str(place))} from now on")
