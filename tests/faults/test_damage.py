"""T-C1: a damaged checkpoint is noticed before a tensor of it is read, named, and the one before it is used."""

import itertools
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import same, sample
from tally import Tally

from imgkit import checkpoint
from imgkit.errors import DiskError

FILES = ("model.safetensors", "train.safetensors", "state.json", "MANIFEST.json")
FLIPS, CUTS = 1000, 256
FAMILY = "T-C1"

Damage = Callable[[Path], None]


def two(place: Path) -> Path:
    """Checkpoints of steps 1 and 2; returns the folder of the newer one."""
    checkpoint.save(place, sample(1), keep=2, best=1)
    return checkpoint.save(place, sample(2), keep=2, best=1)


def noticed(newest: Path, damages: Iterable[Damage]) -> Counter[str]:
    """Do each damage to the newest checkpoint, load, and undo it.

    "missed": it was used, or read before it was known to be damaged; "untold": not in exactly one warning that names
    it.
    """
    seen = Counter(damages=0, missed=0, untold=0)
    whole = {file: file.read_bytes() for file in newest.iterdir()}
    contents = {whole[newest / name] for name in FILES[:2]}
    read, opened = checkpoint.read_tensors, list[bytes]()

    def spy(data: bytes) -> dict[str, Any]:
        opened.append(data)
        return read(data)

    for damage in damages:
        damage(newest)
        opened.clear()
        said: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "read_tensors", spy)
            found = checkpoint.load(newest.parent, said.append)
        # The files of the first checkpoint are read, nothing of the second.
        missed = found is None or not same(found, sample(1)) or len(opened) != 2 or bool(contents & set(opened))
        told = len(said) == 1 and newest.name in said[0] and said[0].endswith("Using the one before.")
        seen += Counter(damages=1, missed=missed, untold=not told or "\n" in said[0])
        shutil.rmtree(newest)
        newest.mkdir()
        for file, content in whole.items():
            file.write_bytes(content)
    return Counter({"damages": 0, "missed": 0, "untold": 0, **seen})  # a sum of counters drops what is zero


def write(name: str, content: bytes) -> Damage:
    return lambda place: void((place / name).write_bytes(content))


def void(_: object) -> None:
    """So that a lambda may write."""


def flips(place: Path, number: int, seed: int) -> Iterator[Damage]:
    """Single bits: half of them in files by their length, half in each file alike."""
    draw = random.Random(seed)
    contents = {name: (place / name).read_bytes() for name in FILES}
    for n in range(number):
        weights = [len(content) if n % 2 else 1 for content in contents.values()]
        (name,) = draw.choices(FILES, weights)
        at, bit = draw.randrange(len(contents[name])), 1 << draw.randrange(8)
        yield write(name, flipped(contents[name], at, bit))


def flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]


def cuts(place: Path, number: int, seed: int) -> Iterator[Damage]:
    """Truncations, the empty file and a lacking last byte among them."""
    draw = random.Random(seed)
    for n in range(number):
        name = FILES[n % len(FILES)]
        content = (place / name).read_bytes()
        length = {0: 0, 1: len(content) - 1}.get(n // len(FILES), draw.randrange(len(content)))
        yield write(name, content[:length])


def mixtures(place: Path, other: Path) -> Iterator[Damage]:
    """Files that are whole, in the wrong place: swapped, of the step before, of another run, lacking, too long."""

    def swap(left: str, right: str) -> Damage:
        contents = {left: (place / right).read_bytes(), right: (place / left).read_bytes()}
        return lambda at: [write(name, content)(at) for name, content in contents.items()] and None

    def take(names: Iterable[str], source: Path) -> Damage:
        contents = {name: (source / name).read_bytes() for name in names}
        return lambda at: [write(name, content)(at) for name, content in contents.items()] and None

    for left, right in itertools.combinations(FILES, 2):
        yield swap(left, right)
    before = place.with_name("step-00000001")
    for count in range(1, len(FILES)):
        for names in itertools.combinations(FILES, count):
            yield take(names, other)
            yield take(names, before)
    yield take(FILES, before)
    for name in FILES:
        yield lambda at, name=name: (at / name).unlink()
        yield write(name, (place / name).read_bytes() + b"\0")
        yield lambda at, name=name: replaced_by_folder(at / name)


def replaced_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def other_forms(place: Path) -> Iterator[Damage]:
    """Manifests of another format, whose own hash is right; and of ours, that tell nonsense."""
    told = json.loads(json.loads((place / "MANIFEST.json").read_bytes())["body"])
    model = {"model.safetensors": {"size": 1 << 60, "sha256": "0" * 64}}
    strange: list[dict[str, object]] = [
        {**told, "format": checkpoint.FORMAT + 1},
        {**told, "format": 0},
        {**told, "format": None},
        {"format": checkpoint.FORMAT + 1},
        {**told, "step": 3},
        {**told, "step": "2"},
        {**told, "step": None},
        {**told, "files": {}},
        {**told, "files": []},
        {**told, "files": {**told["files"], **model}},
        {**told, "files": {**told["files"], "../step-00000001/model.safetensors": {}}},
        {**told, "files": {**told["files"], "model.safetensors": "whole"}},
        {**told, "files": {name: {**file, "more": 1} for name, file in told["files"].items()}},
    ]
    for manifest in strange:
        yield write("MANIFEST.json", sealed(manifest))
    for content in (b"[]", b"{}", b"null", b'"body"', b'{"body": 3}', b"\xff\xfe", b"[" * 60_000, b'{"a":' * 10_000):
        yield write("MANIFEST.json", content)


def sealed(manifest: dict[str, object]) -> bytes:
    """A manifest with the right hash of itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.json, "dumps", json.dumps)
        body = json.dumps(manifest, indent=1)
    return json.dumps({"body": body, "sha256": checkpoint.hashlib.sha256(body.encode()).hexdigest()}).encode()


def fine(seen: Counter[str], damages: int) -> bool:
    return seen["damages"] >= damages and not seen["missed"] and not seen["untold"]


def test_every_flipped_bit_is_noticed(tmp_path: Path, tally: Tally, whole: bool) -> None:
    newest, number = two(tmp_path / "run"), FLIPS if whole else FLIPS // 10
    seen = noticed(newest, flips(newest, number, seed=0))
    assert fine(seen, number)
    tally.count(FAMILY, **seen, flips=number)


@pytest.mark.campaign
def test_every_bit_of_a_manifest_counts(tmp_path: Path, tally: Tally) -> None:
    """The manifest itself is covered by its own hash and by its spelling: all of its bits, one by one."""
    newest = two(tmp_path / "run")
    content = (newest / "MANIFEST.json").read_bytes()
    seen = Counter(damages=0, missed=0)
    for at, bit in itertools.product(range(len(content)), (1 << n for n in range(8))):
        (newest / "MANIFEST.json").write_bytes(flipped(content, at, bit))
        seen += Counter(damages=1)
        try:
            checkpoint._verified(newest)
        except DiskError:
            continue
        seen += Counter(missed=1)
    assert seen["damages"] == 8 * len(content)
    assert seen["missed"] == 0
    tally.count(FAMILY, damages=seen["damages"], flips=seen["damages"])


def test_every_cut_is_noticed(tmp_path: Path, tally: Tally, whole: bool) -> None:
    newest, number = two(tmp_path / "run"), CUTS if whole else CUTS // 8
    seen = noticed(newest, cuts(newest, number, seed=1))
    assert fine(seen, number)
    tally.count(FAMILY, **seen, cuts=number)


def test_files_of_elsewhere_are_noticed(tmp_path: Path, tally: Tally) -> None:
    newest = two(tmp_path / "run")
    other = checkpoint.save(tmp_path / "other", sample(2, draw=1), keep=2, best=None)
    seen = noticed(newest, mixtures(newest, other))
    assert fine(seen, 47)
    tally.count(FAMILY, **seen)


def test_other_formats_are_noticed_and_told(tmp_path: Path, tally: Tally) -> None:
    newest = two(tmp_path / "run")
    seen = noticed(newest, other_forms(newest))
    assert fine(seen, 21)
    tally.count(FAMILY, **seen)
    next(other_forms(newest))(newest)
    with pytest.raises(DiskError, match=r"step-00000002: written in format 2; this imgkit reads format 1\.") as caught:
        checkpoint.read(newest.parent, 2)
    assert caught.value.hint == "Read it with the imgkit that wrote it, or with a newer one."


# What protects, taken away: the check above must notice.


@pytest.mark.parametrize("what", ["hash of files", "hash of the manifest", "size", "fallback"])
def test_the_check_notices_what_is_missing(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    newest = two(tmp_path / "run")
    damages = flips(newest, 100, seed=2)
    if what == "hash of files":
        monkeypatch.setattr(checkpoint, "_checked", lambda file, size, sha256: file.read_bytes()[:size])
    elif what == "hash of the manifest":
        told = (newest / "MANIFEST.json").read_bytes()
        damages = (write("MANIFEST.json", told.replace(b'\\"size\\"', b'\\"size\\" ')) for _ in range(1))
        monkeypatch.setattr(checkpoint, "_manifest", lambda step, files: (newest / "MANIFEST.json").read_bytes())
    elif what == "size":
        damages = (write(name, (newest / name).read_bytes() + b"\0") for name in FILES[:3])

        def trailing(file: Path, size: int, sha256: str) -> bytes:
            data = file.read_bytes()[:size]
            if checkpoint.hashlib.sha256(data).hexdigest() != sha256:
                raise DiskError(f"{file} is damaged.")
            return data

        monkeypatch.setattr(checkpoint, "_checked", trailing)
    else:
        monkeypatch.setattr(checkpoint, "load", lambda place, warn: checkpoint.read(place, checkpoint.steps(place)[0]))
    try:
        seen = noticed(newest, damages)
    except Exception:  # damaged bytes reached a reader, which fell over them
        seen = Counter(missed=1)
    assert seen["missed"] + seen["untold"] > 0
    tally.count("mutants", caught=1, escaped=0)
