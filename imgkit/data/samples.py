"""Pictures and what is said of them, from the members of a shard in WebDataset's convention.

Members whose names are the same up to the first dot of their last part, and which follow one another, are one sample:
`cat/0001.jpg`, `cat/0001.cls`, `cat/0001.json`. `.cls` is a class: its number, or its name. Of `.json` the keys `label`
or `labels`, `split` and `group` are read. Other members are left alone.
"""

import json
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

from imgkit.data.folders import FOLDER_SPLITS
from imgkit.data.rows import EXTENSIONS
from imgkit.data.tar_headers import Member
from imgkit.errors import DataError, printable

Label = int | str
"""A number of classes.txt, or a name."""
_MOST_BYTES = {"cls": 4096, "json": 1 << 20}


class Sample(NamedTuple):
    """A picture in a shard."""

    picture: Member
    labels: tuple[Label, ...]  # none: unlabelled
    several: bool = False  # `labels` is a list, of a task with any number of labels
    split: str | None = None
    group: str | None = None


def samples(members: Iterable[Member], stream: IO[bytes], shown: str) -> Iterator[Sample]:
    """The pictures of a shard.

    Args:
        members: of it, in their order.
        stream: the shard.
        shown: what it is called in messages.

    Raises:
        DataError: if a sample has two pictures, or its parts do not follow one another, or say nothing that can be
            used; and whatever `members` raises.
    """
    key, parts = "", dict[str, Member]()
    for member in members:
        folder, slash, name = member.name.rpartition("/")
        stem, _, kind = name.partition(".")
        own, kind = folder + slash + stem, kind.lower()
        kind = "picture" if f".{kind}" in EXTENSIONS else kind
        if own != key:
            yield from _sample(parts, stream, shown)
            key, parts = own, {}
        if kind not in {"picture", *_MOST_BYTES}:
            continue
        if kind in parts:
            what = "pictures" if kind == "picture" else f"members .{kind}"
            raise _fault(shown, member, f"the sample {printable(key)} has two {what}")
        parts[kind] = member
    yield from _sample(parts, stream, shown)


def _sample(parts: dict[str, Member], stream: IO[bytes], shown: str) -> Iterator[Sample]:
    if "picture" not in parts:
        if parts:
            raise _fault(shown, next(iter(parts.values())), "it does not stand beside its picture")
        return
    labels, said, several = tuple[Label, ...](), dict[str, object](), False
    if "cls" in parts:
        labels = (_label_of(_content(parts["cls"], stream, shown, "cls").strip()),)
        labels = () if labels[0] in (-1, "") else labels
    if "json" in parts:
        said = _object(parts["json"], stream, shown)
        several = isinstance(said.get("labels", said.get("label")), list)
        given = said.get("labels", said.get("label"))
        if given is not None:
            values: list[Any] = given if isinstance(given, list) else [given]
            if any(isinstance(value, bool) or not isinstance(value, int | str) for value in values):
                raise _fault(shown, parts["json"], "`label` is a number of a class, its name, or a list of these")
            labels = tuple(value for value in values if value not in (-1, ""))
    split, group = said.get("split"), said.get("group")
    if not (group is None or is_text(group) or isinstance(group, int | float)):
        raise _fault(shown, parts["json"], "`group` is a text or a number")
    if split is not None and not (isinstance(split, str) and split in FOLDER_SPLITS):
        raise _fault(shown, parts["json"], f"`split` is {printable(repr(split))}, and not one of train, val, test")
    yield Sample(
        parts["picture"],
        labels,
        several,
        None if split is None else FOLDER_SPLITS[str(split)],
        None if group is None else str(group),
    )


def is_text(value: object) -> bool:
    """Whether a value of JSON is a text that can be written: it may hold half a character, which no file takes."""
    return isinstance(value, str) and not any(0xD800 <= ord(char) <= 0xDFFF for char in value)


def _label_of(text: str) -> Label:
    """A number where it is one as it would be written, so that 007 stays a name."""
    return int(text) if len(text) < 10 and text.removeprefix("-").isdecimal() and str(int(text)) == text else text


def _object(member: Member, stream: IO[bytes], shown: str) -> dict[str, object]:
    try:
        said = json.loads(_content(member, stream, shown, "json"))
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise _fault(shown, member, "it is no JSON object")
    return said


def _content(member: Member, stream: IO[bytes], shown: str, kind: str) -> str:
    if member.size > _MOST_BYTES[kind]:
        raise _fault(shown, member, f"it has {member.size:,} bytes, and {_MOST_BYTES[kind]:,} are the most")
    stream.seek(member.offset)
    try:
        return stream.read(member.size).decode("utf-8")
    except UnicodeDecodeError:
        raise _fault(shown, member, "it is no text in UTF-8") from None


def _fault(shown: str, member: Member, what: str) -> DataError:
    return DataError(
        f"{shown}, byte {member.offset:,}: {printable(member.name)}: {what}.",
        "A sample is NAME.jpg beside NAME.cls or NAME.json, one after the other (tar --sort=name).",
    )
