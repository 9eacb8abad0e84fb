"""`imgkit data pack`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imgkit.cli.given import use_given_plugins
from imgkit.cli.options import OPTIONS, Option, recipe_flags, signature_of_paths
from imgkit.data.rows import count
from imgkit.errors import UsageError, printable
from imgkit.quantity import about_bytes, parse_bytes
from imgkit.screen import Screen

_SHARED = (
    *("--image-col", "--label-col", "--label-delimiter", "--task", "--split-col", "--group-col", "--root"),
    *("--on-bad", "--max-pixels", "--plugin"),
)
_OWN = (
    Option("--out", "", Path, "The folder to write; new, or empty.", "The shards", metavar="FOLDER"),
    Option("--shard-size", "", str, "Size of a shard at most.", "The shards", "256MiB", metavar="SIZE"),
)


def pack_command() -> Callable[..., None]:
    """The command: folders or tables, what describes them, and where the shards go."""

    def packing(**given: Any) -> None:  # noqa: ANN401
        use_given_plugins(given)
        from imgkit.data.pack import pack
        from imgkit.data.shard_index import arrow
        from imgkit.data.split_file import command
        from imgkit.recipe.load import Flag, load_recipe
        from imgkit.weight_packages import installed_networks

        out = given["out"]
        if out is None:
            raise UsageError("--out is missing.", "Say where the shards go:  imgkit data pack SOURCE --out shards")
        try:
            size = parse_bytes(given["shard_size"])
        except ValueError as error:
            raise UsageError(f"--shard-size: {error}.", "Type:  --shard-size 256MiB") from None
        arrow("imgkit data pack")  # before anything is read: the index is written at the end
        flags = {key: Flag(flag, value) for key, (flag, value) in recipe_flags(given).items()}
        none = {"data.val": Flag("pack", 0.0), "data.test": Flag("pack", 0.0)}  # nothing is held out
        settings = load_recipe("finetune", flags={**flags, **none}).recipe.data
        screen = Screen(file=sys.stdout)
        with Screen().progress("packing images") as progress:
            packed = pack(settings, out, size, progress)
        for text in packed.notes:
            screen.item("i", text)
        for text in packed.warnings:
            screen.item("!", text)
        written = f"{count(packed.pictures, 'image')} in {count(packed.shards, 'shard')}, {about_bytes(packed.size)}"
        screen.line(f"Wrote {printable(str(out))}/ · {written}")
        network = next(iter(installed_networks()), "resnet50")  # one whose weights are here, if there is one
        screen.line(f"Next:  {command(['finetune', network, '--data', str(out)])}")

    shared = [option for option in OPTIONS if option.flag in _SHARED]
    packing.__dict__["__signature__"] = signature_of_paths([*shared, *_OWN])
    return packing
