"""What trackers are told of a run besides its rows: which run it is, its recipe, and how it ended."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imgkit.bounds import read_json
from imgkit.evaluations import weights_label
from imgkit.keys import key
from imgkit.recipe.monitors import MONITORS
from imgkit.run import RunFolder
from imgkit.screen import Screen
from imgkit.setup import Setup
from imgkit.tracking import Tracking

_FROM_RUN = ("verb", "model", "device", "machine")


def config_of(folder: RunFolder, setup: Setup) -> dict[str, Any]:
    """The id and name of a run, what run.json says of its machine, and its recipe's values by key.

    The id is the same in every life of the run.
    """
    about = folder.read_json("run.json")
    number = key(about["created"], about["name"], about["data"]["fingerprint"], about["seed"])
    values = dict(_flat("", setup.recipe.model_dump(mode="json")))
    told = {"id": f"{number:016x}", "name": folder.name, "recipe": values.pop("name")}
    return told | {name: about[name] for name in _FROM_RUN} | values


def tell_end(tracking: Tracking, folder: RunFolder, setup: Setup, best: Mapping[str, Any], screen: Screen) -> None:
    """The scores of the final weights as "final/SPLIT/…", pictures of their surest mistakes, and that it is over."""
    step = setup.plan.total_steps
    try:
        for split, metrics, place in _final(folder, best):
            names = (*MONITORS[metrics["task"]], "ece")
            tracking.row(f"final/{split}", {"step": step, **{name: metrics.get(name) for name in names}})
            for name in _mistakes(place):
                tracking.image(step, f"{split}/{Path(name).stem}", place / "images" / name)
    except Exception as error:  # all that the run made is on the disk: nothing here may call it failed
        screen.warn(f"Trackers were not told the final scores: {type(error).__name__}: {error}")
    tracking.finish("finished")


def _final(folder: RunFolder, best: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Path]]:
    """Split, metrics and folder of each evaluation of the final weights."""
    for name, metrics in folder.evaluations().items():
        if name.partition("@")[2] == weights_label(best):
            yield metrics["split"], metrics, folder.path / "evaluations" / name


def _mistakes(place: Path) -> list[str]:
    """The files of its surest mistakes: with a map, where there is one."""
    images = read_json(place / "images.json")["images"] if (place / "images.json").is_file() else []
    return [one["cam"] or one["file"] for one in images if "mistake" in one["why"]]


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each value of nested tables by key; phases by name; what is off is left out."""
    for name, value in values.items():
        if name == "phases":
            for phase in value:
                yield from _flat(f"phases.{phase['name']}.", {key: phase[key] for key in phase if key != "name"})
        elif isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.".replace(".overrides.", "."), value)
        elif value is not None:
            yield prefix + name, value
