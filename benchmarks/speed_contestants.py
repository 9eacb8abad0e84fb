"""Who takes part in benchmarks/speed.py, and by which commands."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import speed_pictures

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).resolve().parent
DRIVERS = HERE / "drivers"
WHAT = {"train": 10, "frozen": 3, "predict": 5, "command": 10, "index": 5, "quality": 1, "checkpoint": 5}
"""Scenarios, and their repeats where none are asked for."""
_OWN = "as many as imgkit takes by itself"


@dataclass(frozen=True)
class Contestant:
    """One that takes part.

    Attributes:
        who: its name; a driver may add words to it, for several values.
        variants: commands by name, with {out} and {scratch}; the first repeat tries all, the others take the best.
        peer: takes part in `--peer-repeats` repeats only.
        whole: the seconds of the whole command are its value; else it leaves a JSON file.
        turns: stays, and does an epoch in each repeat; else it begins anew.
    """

    who: str
    variants: Mapping[str, Sequence[str]]
    peer: bool = False
    whole: bool = False
    turns: bool = False


@dataclass(frozen=True)
class Scenario:
    """What is measured.

    Attributes:
        name: of its file.
        unit: of its values.
        more: whether more of it is better.
        contestants: in the order of the first repeat.
        settings: what a reader has to know, and what must not change between repeats.
        left_out: who lacks something, with what to do.
    """

    name: str
    unit: str
    more: bool
    contestants: Sequence[Contestant]
    settings: Mapping[str, Any]
    left_out: Sequence[str] = field(default_factory=list)


def scenarios(given: argparse.Namespace) -> Iterator[Scenario]:
    """Those of `given.what`, for the contestants that are wanted and here."""
    if given.what == "index":
        yield from index(given)
        return
    make = {"train": train, "frozen": frozen, "predict": predict, "command": command}
    make |= {"quality": quality, "checkpoint": checkpoint}
    yield make[given.what](given)


def taking_part(given: argparse.Namespace, many: Sequence[Contestant]) -> tuple[list[Contestant], list[str]]:
    """Those of `many` that are wanted and here, and what is said of the others."""
    wanted = [one for one in many if given.only is None or one.who.startswith(tuple(given.only))]
    lacking = {}
    if given.timm_repo is None:
        lacking["timm"] = "needs a checkout of timm: --timm-repo TIMM"
    if not has_fastai(given):
        lacking["fastai"] = "needs fastai: pip install fastai 'fastprogress<1.1', or --fastai-path DIR"
    said = {one.who: why for one in wanted for name, why in lacking.items() if one.who.startswith(name)}
    return [one for one in wanted if one.who not in said], [f"{who}: {why}" for who, why in said.items()]


def has_fastai(given: argparse.Namespace) -> bool:
    """Whether the processes will find it."""
    path = [*([str(given.fastai_path)] if given.fastai_path else []), *sys.path]
    return PathFinder.find_spec("fastai", path) is not None


def peer_versions(given: argparse.Namespace) -> dict[str, str]:
    """Of fastai, and of the timm that a checkout names."""
    found = {}
    if has_fastai(given):
        path = [*([str(given.fastai_path)] if given.fastai_path else []), *sys.path]
        found["fastai"] = next(one.version for one in distributions(name="fastai", path=path))
    if given.timm_repo is not None:
        text = (given.timm_repo / "timm" / "version.py").read_text()
        found["timm checkout"] = text.split("=")[1].strip().strip("'\"")
    return found


def driver(given: argparse.Namespace, name: str, work: str, data: Path, *more: str) -> list[str]:
    """The command of a driver."""
    workers = given.workers_of_imgkit if name == "imgkit_steps" else given.workers
    return [
        *(sys.executable, str(DRIVERS / f"{name}.py"), work, "--out", "{out}", "--scratch", "{scratch}"),
        *("--data", str(data), "--model", given.model, "--size", str(given.size)),
        *("--batch-size", str(given.batch_size), "--epochs", str(given.epochs)),
        *(() if workers is None else ("--workers", str(workers))),
        *("--classes", str(speed_pictures.CLASSES), "--device", given.device, *more),
    ]


def timm(given: argparse.Namespace, work: str, data: Path, *flags: str) -> list[str]:
    """The command of one of timm's scripts, with flags of its own."""
    return [*driver(given, "timm_steps", work, data, "--timm-repo", str(given.timm_repo)), "--", *flags]


def timm_variants(given: argparse.Namespace, work: str, data: Path, *flags: str) -> dict[str, list[str]]:
    """The flags among which the first repeat looks for the best."""
    half = ("--amp", "--amp-dtype", "bfloat16")
    told = {"channels_last": ("--channels-last",), "channels_last, bfloat16": ("--channels-last", *half)}
    if given.compile:
        told["channels_last, bfloat16, compiled"] = ("--channels-last", *half, "--torchcompile")
    gpu, cores = given.device.startswith("cuda"), str(os.cpu_count())
    if not gpu and given.workers_of_imgkit is None:
        told[f"channels_last, bfloat16, {cores} workers"] = ("--channels-last", *half, "--workers", cores)
    more = ("--workers", str(given.workers), *flags, *(("--pin-mem",) if gpu else ()))
    return {name: timm(given, work, data, *more, *words) for name, words in told.items()}


def format_variants(
    given: argparse.Namespace, name: str, work: str, data: Path, *more: str, half: bool = True
) -> dict[str, list[str]]:
    """The same for a driver with flags of ours."""
    told = {"channels_last": ["--channels-last"]}
    if half:
        told["channels_last, bfloat16"] = ["--channels-last", "--precision", "bfloat16"]
    return {words: driver(given, name, work, data, *more, *flags) for words, flags in told.items()}


def fastai(given: argparse.Namespace, work: str, data: Path) -> Contestant:
    """fastai; on a CPU it loads in its own process, since workers cost more than they gain, and has no bfloat16."""
    gpu = given.device.startswith("cuda")
    more = () if gpu else ("--workers", "0")
    variants = {"as it is": driver(given, "fastai_steps", work, data, *more)}
    return Contestant(
        "fastai", variants | format_variants(given, "fastai_steps", work, data, *more, half=gpu), peer=True
    )


def pictures(given: argparse.Namespace, count: int) -> Path:
    """JPEGs of that number, made where they are not there."""
    return speed_pictures.write_jpegs(given.cache / f"jpegs-{count}", count)


def common(given: argparse.Namespace, data: Path) -> dict[str, Any]:
    """What every scenario with a network tells."""
    return {
        "model": given.model,
        "image_size": given.size,
        "batch_size": given.batch_size,
        "workers": given.workers if given.workers_of_imgkit is not None else f"{given.workers} of peers, {_OWN}",
        "weights": "random",
        "data": speed_pictures.about(data),
    }


def suffix(given: argparse.Namespace) -> str:
    """Of a file's name: the network, and the device where it is no CPU."""
    return given.model + ("-cuda" if given.device.startswith("cuda") else "")


def train(given: argparse.Namespace) -> Scenario:
    """All layers, from JPEGs on a disk."""
    data = pictures(given, given.images or 480)
    same = ("--scale", "0.08", "1.0", "--color-jitter", "0", "--smoothing", "0")  # as the others augment
    many_epochs = ("--epochs", str(given.repeats + 2))  # of which a turn is one; the flag before it is overruled
    many = [
        Contestant("imgkit", {"as it is": driver(given, "imgkit_steps", "train", data, *many_epochs)}, turns=True),
        Contestant("no data", {"best format": limit(given, data)}, turns=True),
        Contestant(
            "imgkit, prepared data",
            {"as it is": driver(given, "imgkit_steps", "train", data, *many_epochs, "--prepared")},
            turns=True,
        ),
        Contestant("timm train.py, defaults", {"as it is": timm(given, "train", data)}, peer=True),
        Contestant("timm train.py, best flags", timm_variants(given, "train", data, *same), peer=True),
        fastai(given, "train", data),
        Contestant("torchvision and a loop", format_variants(given, "torchvision_steps", "train", data), peer=True),
    ]
    there, left_out = taking_part(given, many)
    settings = {**common(given, data), "epochs": given.epochs}
    return Scenario(f"train-{suffix(given)}", "images/s", True, there, settings, left_out)


def limit(given: argparse.Namespace, data: Path) -> list[str]:
    """The command of the no-data rate."""
    steps = max(4, 192 // given.batch_size) if not given.device.startswith("cuda") else 50
    more = ("--steps", str(steps), *(("--compile",) if given.compile else ()))
    return driver(given, "no_data", "train", data, *more)


def frozen(given: argparse.Namespace) -> Scenario:
    """A head, ten epochs, on a trunk that does not change: what is timed begins with the first picture's decoding."""
    data = pictures(given, given.images or 480)
    same = ("--scale", "0.08", "1.0", "--color-jitter", "0", "--smoothing", "0")
    many = [
        Contestant("imgkit", {"as it is": driver(given, "imgkit_steps", "frozen", data)}),
        Contestant("timm, frozen by hand, best flags", timm_variants(given, "frozen", data, *same), peer=True),
        fastai(given, "frozen", data),
    ]
    there, left_out = taking_part(given, many)
    settings = {**common(given, data), "epochs": given.epochs}
    return Scenario(f"frozen-{suffix(given)}", "s", False, there, settings, left_out)


def predict(given: argparse.Namespace) -> Scenario:
    """Labels for pictures, from a folder to a table of answers."""
    data, small = pictures(given, given.images or 5000), pictures(given, 40)
    batch = ("--batch-size", str(given.batch_size))
    own = driver(given, "imgkit_steps", "predict", data / "train", "--small", str(small))
    many = [
        Contestant("imgkit", {"as it is": own}),
        Contestant("timm inference.py, defaults", {"as it is": timm(given, "inference", data / "train")}, peer=True),
    ]
    many += [
        Contestant(f"timm {script}.py, best flags", timm_variants(given, script, data / "train", *batch), peer=True)
        for script in ("inference", "validate")
    ]
    there, left_out = taking_part(given, many)
    return Scenario(f"predict-{suffix(given)}", "images/s", True, there, common(given, data / "train"), left_out)


def command(given: argparse.Namespace) -> Scenario:
    """How long the command itself takes to answer."""
    words = {"imgkit --help": ["-m", "imgkit", "--help"], "import torch": ["-c", "import torch"]}
    many = [Contestant(who, {"as it is": [sys.executable, *line]}, whole=True) for who, line in words.items()]
    return Scenario("command", "s", False, taking_part(given, many)[0], {})


def other(work: str, **more: object) -> list[str]:
    """The command of one turn of a benchmark that has a script of its own."""
    words = [word for name, value in more.items() for word in (f"--{name}", str(value))]
    return [sys.executable, str(DRIVERS / "others.py"), work, "--out", "{out}", "--scratch", "{scratch}", *words]


def index(given: argparse.Namespace) -> Iterator[Scenario]:
    """Seconds, and bytes of memory a file, of finding all files of a folder of classes."""
    classes, count = 200, given.images or 1_000_000
    root = given.cache / f"tree-{count}"
    if not root.exists():
        from listing import make_tree

        making = given.cache / f"making-{count}"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        make_tree(making / "tree", classes, max(1, count // classes))
        (making / "tree").rename(root)
    for kind, unit in (("s", "s"), ("bytes", "bytes a file")):
        ways = {who: other("listing", way=who, root=root, kind=kind) for who in ("imgkit", "ImageFolder")}
        there, _ = taking_part(given, [Contestant(who, {"as it is": words}) for who, words in ways.items()])
        yield Scenario(f"index-{kind}", unit, False, there, {"files": count, "classes": classes})


def quality(given: argparse.Namespace) -> Scenario:
    """One command on solar cells with cold caches, beside fastai's fine_tune; both are scored on test."""
    table = given.data / "solar2-0.csv"
    if not table.exists():
        raise SystemExit(f"There is no {table}: python benchmarks/datasets.py --tasks solar2")
    peer = "stored" if given.stored_peers else "fastai"
    many = [
        Contestant("imgkit", {"recipe probe": other("solar", way="probe", csv=table)}),
        Contestant("fastai", {peer: other("solar", way=peer, csv=table)}, peer=True),
    ]
    there, left_out = taking_part(given, many)
    return Scenario("quality-solar2", "s", False, there, {"task": "solar2", "split": 0, "peer": peer}, left_out)


def checkpoint(given: argparse.Namespace) -> Scenario:
    """How long the next update waits for a checkpoint of ResNet-50 with AdamW and averages."""
    there, _ = taking_part(given, [Contestant("imgkit", {"as it is": other("saving")})])
    return Scenario("checkpoint", "s", False, there, {"model": "resnet50", "optimizer": "adamw", "averages": True})
