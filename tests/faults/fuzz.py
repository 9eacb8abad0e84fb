"""What imgkit reads, damaged or made up: each reader takes it, or refuses it with an error of imgkit's own."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from checkpoints import sample
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from page_reader import read_page
from payloads import PAYLOADS

from imgkit import checkpoint
from imgkit.data.index import Index
from imgkit.data.load import list_data
from imgkit.errors import ImgkitError
from imgkit.progress import Progress
from imgkit.recipe.load import load_recipe, shipped_recipes
from imgkit.recipe.schema import DataSettings
from imgkit.report.html import shell
from imgkit.report.html.axes import Axis
from imgkit.report.html.svg import Point, scatter
from imgkit.studies.file import read_study, shipped_studies
from imgkit.tensor_file import parts

ROUND = 500  # examples between two looks at the clock

Content = Any
"""What a subject's strategy draws: bytes of a file, or a text."""


class Subject(NamedTuple):
    """A reader, and what it is given.

    `read` takes a folder of its own and the content; it may raise an ImgkitError, and nothing else.
    """

    contents: st.SearchStrategy[Content]
    read: Callable[[Path, Content], None]


def fuzz(
    subject: Subject, place: Path, *, examples: int, minutes: float = 0.0, first: int = 0, shorten: bool = True
) -> dict[str, int]:
    """Have so many examples read, and then more until the time is up; returns what came of them.

    Args:
        subject: what reads.
        place: a folder for its files.
        examples: at least.
        minutes: at least.
        first: another number draws other examples.
        shorten: whether a content that makes the reader fall over is made as short as it may be, before it is told.

    Raises:
        Exception: that of a content which the reader neither takes nor refuses.
    """
    began, number, seen = time.monotonic(), first, {"examples": 0, "taken": 0, "refused": 0}
    while seen["examples"] < examples or time.monotonic() - began < 60 * minutes:

        @seed(number)
        @settings(
            max_examples=min(ROUND, examples - seen["examples"]) if seen["examples"] < examples else ROUND,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            phases=[Phase.generate, Phase.shrink] if shorten else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(content=subject.contents)
        def holds(content: Content) -> None:
            seen["examples"] += 1
            try:
                subject.read(place, content)
            except ImgkitError:
                seen["refused"] += 1
            else:
                seen["taken"] += 1

        holds()
        number += 1
    return {**seen, "fallen": seen["examples"] - seen["taken"] - seen["refused"]}


# Contents


def damaged(base: bytes, *fragments: bytes) -> st.SearchStrategy[bytes]:
    """`base` with up to six pieces of it replaced by fragments, or by anything; or nothing but fragments."""
    pieces = st.sampled_from(fragments) | st.binary(max_size=4)
    edit = st.tuples(st.integers(0, len(base)), st.integers(0, 12), pieces)

    def edited(edits: list[tuple[int, int, bytes]]) -> bytes:
        content = base
        for at, length, piece in edits:
            content = content[:at] + piece + content[at + length :]
        return content

    return st.lists(edit, min_size=1, max_size=6).map(edited) | st.lists(pieces, max_size=30).map(b"".join)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


# Readers


PROGRESS = {
    "step": 2,
    "history": [{"epoch": 1, "step": 2, "val/loss": 0.5, "best": True}],
    "best": {"step": 2, "metric": "val/loss", "value": 0.5},
    "plateau": {"factor": 0.1},
    "hits": [1, 2],
    "seconds": 1.5,
}


def state(**changes: object) -> bytes:
    """A state.json with other values of its progress."""
    return json.dumps({"progress": {**PROGRESS, **changes}, "optimizer": {}, "fingerprint": "aa" * 32}).encode()


FILES = {
    "model.safetensors": b"".join(parts(sample(2).model)),
    "train.safetensors": b"".join(parts(sample(2).train)),
    "state.json": state(),
}


def with_hashes(name: str, content: bytes) -> dict[str, bytes]:
    """The files of a checkpoint, one of them another one, with the right hash."""
    files = {**FILES, name: content}
    told = {name: {"size": len(one), "sha256": hashlib.sha256(one).hexdigest()} for name, one in files.items()}
    return {**files, "MANIFEST.json": checkpoint._manifest(2, told)}


MANIFEST = with_hashes("state.json", state())["MANIFEST.json"]


def read_checkpoint(place: Path, files: dict[str, bytes]) -> None:
    """As `resume` does."""
    folder = place / "step-00000002"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    found = checkpoint.read(place, 2)
    with checkpoint.fitting(place, 2):
        Progress(**found.state["progress"])


def sealed(body: bytes) -> bytes:
    """A manifest of any content, with the right hash of itself."""
    text = body.decode("utf-8", "replace")
    return json.dumps({"body": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}).encode()


def read_table(place: Path, content: bytes) -> None:
    """As `imgkit data check` does, short of opening pictures."""
    (place / "table.csv").write_bytes(content)
    for name in ("1.png", "2.png", "3.png"):
        (place / name).touch()
    list_data(DataSettings(path=str(place / "table.csv")))


def read_index(place: Path, content: bytes) -> None:
    (place / "index.csv").write_bytes(content)
    Index.read_csv(place / "index.csv", place, ("cat", "dog"), "single")


def read_recipe(place: Path, content: bytes) -> None:
    (place / "recipe.toml").write_bytes(content)
    load_recipe(place / "recipe.toml")


def read_a_study(place: Path, content: bytes) -> None:
    (place / "study.toml").write_bytes(content)
    read_study(place / "study.toml")


def page_of(name: str) -> list[tuple[str, str]]:
    """Elements and attributes of a page and a chart that show `name`."""
    chart = scatter(name, name, [Point(0.5, 0.5, name)], Axis(name), Axis(name), legend=[name])
    html = shell.render("try.html.j2", title=name, name=name, chart=chart)
    page = read_page(html)
    return [*((tag, str(count)) for tag, count in page.elements.items()), *(found[:2] for found in page.attributes)]


PAGE = (
    '{% extends "base.html.j2" %}{% block content %}<h1 title="{{ name }}" data-name=\'{{ name }}\'>{{ name }}</h1>'
    "{{ chart }}{{ data_block('all', [name, {name: name}]) }}{% endblock %}"
)


def read_text(place: Path, text: str) -> None:
    """A text that a page shows adds no element and no attribute to it."""
    assert page_of(text) == page_of("cat")


@pytest.fixture
def page_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pages are made from the template above."""
    for file in shell._HERE.glob("*.*"):
        if file.suffix in (".j2", ".css", ".js"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "try.html.j2").write_text(PAGE)
    monkeypatch.setattr(shell, "_HERE", tmp_path)
    shell._environment.cache_clear()
    yield
    shell._environment.cache_clear()


TABLE = b"path,label,split\n1.png,cat,train\n2.png,dog,val\n3.png,cat,test\n"
INDEX = b"path,label,split,group,size,sha256\r\n" + b"1.png,cat,train,1,5," + b"ab" * 32 + b"\r\n"
CELLS = (b",", b";", b"\t", b"|", b'"', b"\n", b"\r\n", b"\0", b" ", b"'=1", b"nan", b"1e999", b"-1", b"9" * 30)
CELLS += (
    b"../",
    b"/dev/zero",
    b"file://x",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xe2\x80\xae",
    b"image",
    b"label",
    b"train",
    b"1.png",
)
TOML = (
    b"[",
    b"]",
    b"[[phases]]\n",
    b"{",
    b"}",
    b"=",
    b'"',
    b'"""',
    b".",
    b",",
    b"\n",
    b"#",
    b"true",
    b"none",
    b"inf",
    b"nan",
)
TOML += (
    b"-1",
    b"0",
    b"1e999",
    b"9" * 30,
    b"0x1",
    b"2026-11-29",
    b"\xff",
    b"\0",
    b'""',
    b"[]",
    b"{}",
    b"lr",
    b"name",
    b"'",
)
RECIPE, STUDY = (next(iter(found().values())).read_bytes() for found in (shipped_recipes, shipped_studies))
JSONS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"9" * 30,
    b"\\u0000",
    b"\\ud800",
    b"{}",
)

SUBJECTS = {
    "manifest": Subject(
        (damaged(MANIFEST, *JSONS) | damaged(json.loads(MANIFEST)["body"].encode(), *JSONS).map(sealed)).map(
            lambda content: {**FILES, "MANIFEST.json": content}
        ),
        read_checkpoint,
    ),
    "state": Subject(
        (
            st.dictionaries(st.sampled_from([*PROGRESS, "more"]), JSON, min_size=1).map(lambda new: state(**new))
            | damaged(FILES["state.json"], *JSONS)
        ).map(lambda content: with_hashes("state.json", content)),
        read_checkpoint,
    ),
    "tensors": Subject(
        damaged(FILES["model.safetensors"], *JSONS, b"F32", b"BF16", b"shape").map(
            lambda content: with_hashes("model.safetensors", content)
        ),
        read_checkpoint,
    ),
    "table": Subject(damaged(TABLE, *CELLS), read_table),
    "index": Subject(damaged(INDEX, *CELLS), read_index),
    "recipe": Subject(damaged(RECIPE, *TOML), read_recipe),
    "study": Subject(damaged(STUDY, *TOML), read_a_study),
    "page": Subject(
        st.lists(st.sampled_from(PAYLOADS) | st.text(max_size=6), min_size=1, max_size=4).map("".join), read_text
    ),
}
