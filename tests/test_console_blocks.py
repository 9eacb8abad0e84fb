"""Every console block of README.md and docs/ is run as it stands there, small, or the page says above it why not.

A console block is an indented block whose first word is a program (`PROGRAMS`), or one fenced as console, bash or sh,
where commands follow `$ ` and the lines below them are their output. Blocks of a page run in one folder, in order.

To add a block: write it. `stand_ins` makes the files that pages speak of; a new name gets a line there. `smaller` says
in one place how a command is made small, and `ENDS` which refusal is right here. A page under the comment
`<!-- typed as it stands -->` is not made smaller, and each line of output shown in it has to come again, its numbers
aside. What cannot run here gets a comment above its block, `<!-- not run: why -->` for all of it,
`<!-- not run (pip): why -->` for its lines that begin with a word.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import matplotlib.font_manager  # noqa: F401  (imported here so that no fork has to)
import pytest
import uvicorn
from pictures import square
from sittings import Client
from starlette.types import ASGIApp
from study_worker import PLUGIN, forking, plugins_forgotten
from tars import labelled, tar
from typer.main import get_command

from imgkit.cli import app
from imgkit.serving.server import address_of, server_of

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
PROGRAMS = ("imgkit", "pip", "make", "python", "ssh", "torchrun", "docker", "curl", "cd", "uv", "pipx")
TYPED = ("imgkit ", "python runs/")
WHOLE, TRAINING = "typed as it stands", ("finetune", "scratch")


@dataclass(frozen=True)
class Command:
    """A command of a block, with the lines of output that the page shows below it."""

    line: str
    shown: tuple[str, ...] = ()
    why_not: str = ""


def commands_of(text: str) -> Iterator[Command]:
    """The commands of the console blocks of a page, in order."""
    fenced = r"^```(?:console|bash|sh)\n(?P<fenced>.*?)^```$"
    indented = r"(?<=\n\n)(?P<indented>(?: {4}[^\n]*\n)+)"
    other = r"^```(?P<other>.*?)^```$"
    for found in re.finditer(f"{fenced}|{other}|{indented}", text, re.DOTALL | re.MULTILINE):
        block = found["fenced"] or found["indented"]
        if block is None:
            assert not re.search(r"^\$ ", found["other"], re.MULTILINE), "commands stand in blocks of console"
            continue
        if found["indented"] and not block.strip().removeprefix("$ ").startswith(tuple(f"{p} " for p in PROGRAMS)):
            continue
        reasons = dict(marks(text[: found.start()]))
        if block.startswith("#!"):  # a script is one command
            yield Command(block, (), reasons.get("", ""))
            continue
        lines = re.sub(r"^ {4}|\\\n *", "", block, flags=re.MULTILINE).splitlines()
        with_output = lines[0].startswith("$ ")
        at = [row for row, line in enumerate(lines) if line.strip() and (not with_output or line.startswith("$ "))]
        for row, end in zip(at, [*at[1:], len(lines)], strict=True):
            line = lines[row].removeprefix("$ ")
            word = line.split()[0]
            yield Command(line, tuple(lines[row + 1 : end]), reasons.get(word) or reasons.get("", ""))


def marks(before: str) -> Iterator[tuple[str, str]]:
    """The comments directly above a block: the word that lines begin with, "" for all, and why they are not run."""
    while found := re.search(r"<!-- not run(?: \((\S+)\))?: ([^>]+?) -->\s*\Z", before):
        yield found[1] or "", found[2]
        before = before[: found.start()]


# Networks whose weights are not here, or that take long, and small ones in their place.
SMALL = {
    "resnet50": "test_resnet",
    "resnet50.tv2_in1k": "test_resnet",
    "resnet18": "test_resnet",
    "tf_efficientnet_lite0": "test_efficientnet",
    "vit_small_patch16_224": "test_vit",
}
# What only a network of its own name has. Some have 140 M parameters, so such a command prints its recipe: all values
# are checked, and nothing is built. test_reference_systems.py and test_own_networks.py build them.
OWN = re.compile(r"model\.options\.|model\.drop_rate|^(vgg|cbam|multilabel_cnn|lsvrc)")
PLACES = {
    "NAME": "earlier",
    "runs/NAME": "runs/earlier",
    "runs/digits/exports/onnx/predict_onnx.py": "runs/earlier/exports/onnx/predict_onnx.py",
    "NAME@20": "latest",
    "cuda": "cpu",
    "/scratch/runs": "scratch",
}


def smaller(words: list[str]) -> list[str]:
    """The command with small networks and pictures and few updates: the one place where commands are changed."""
    known = [SMALL.get(PLACES.get(word, word), PLACES.get(word, word)) for word in words]
    verb = " ".join(known[:2]) if known[0] == "data" else known[0]
    own = any(OWN.search(word) for word in words) or ("--recipe" in words and known[1].startswith("-"))
    more: dict[str, str | None] = {}
    if verb in TRAINING and "--from" in words and "NAME@20" in words:
        more = {"--print-recipe": None}
        known = [PLACES.get(word, word) for word in words]
    elif verb in TRAINING and own and not any("my_plugin" in word for word in words):
        more = {"--print-recipe": None}
    elif verb in TRAINING:
        more = {"--smoke": None, "--workers": "0", "--image-size": "32"}
        more |= {} if verb == "scratch" else {"--weights": "none"}
    elif verb in ("probe", "data label-errors", "data learning-curve", "lr-find"):
        more = {"--weights": "none", "--workers": "0", "--image-size": "32"}
        more |= {"--model": "test_resnet"} if verb in ("data label-errors", "data learning-curve") else {}
        more |= {"--steps": "10"} if verb == "lr-find" else {}
        known = ["2" if before == "--seeds" else word for before, word in zip(["", *known], known, strict=False)]
    elif verb in ("data prepare", "data preview"):
        more = {"--image-size": "32"} if "test_resnet" in known else {}
    elif verb == "study" and len(known) > 1 and "--print" not in known:
        small = Path(known[1]).is_file() and "test_resnet" in Path(known[1]).read_text()
        more = {"--smoke" if small else "--dry-run": None}
    elif verb == "sweep" and len(known) > 1 and "--print" not in known:
        more = {"--smoke": None, "--trials": "2"}
        known += ["--set", "model.weights=none", "--set", "model.image_size=32", "--set", "run.workers=0"]
    elif verb == "export":
        known[1] = "earlier"
    elif verb == "serve":
        more = {"--port": "0"}
    elif verb == "demo":
        more = {"--smoke": None}
    return known + [part for flag, value in more.items() if flag not in known for part in (flag, value) if part]


# Commands that end otherwise on so few pictures, or without packages that CI does not install: the code, and why.
ENDS = {
    "--data label-errors/labels.csv": (3, "the command before it wrote paths that begin at another folder"),
    "--baseline NAME": (2, "a smoke run is no baseline"),
    "--format multihot": (2, "the run answers one label"),
    "--target-accuracy": (2, "twelve validation images cannot promise it"),
    "--unlike": (2, "nor can they say what is unlike them"),
    "imgkit serve": (130, "a person ends it, see `page_folder`"),
    "--track mlflow": (2, "not installed"),
    "run.track=wandb": (2, "not installed"),
}
ALTERNATIVES = {
    "data split": "split.csv",
    "data label-errors": "label-errors",
    "sweep head": "runs/head",
}  # written by each command of a block

STUDY = """schema = 1
name = "mine"
verb = "scratch"
recipe = "scratch"
model = "test_resnet"
seeds = [0]
[base]
"data.path" = "cells/"
"model.image_size" = 32
"run.workers" = 0
epochs = 1
[[variants]]
name = "fast"
set = { lr = 1e-2 }
[[variants]]
name = "slow"
set = { lr = 1e-4 }
"""
RECIPE = """schema = 1
name = "mine"
[[phases]]
name = "all"
train = "all"
epochs = 1
lr = 1e-3
"""


def stand_ins(place: Path) -> None:
    """The files that pages speak of: pictures, tables, a study, a recipe, plugins."""
    rows = ["path,label,module,patient,taken,camera,site,defective,type,tags"]
    for number in range(60):
        label = ("functional", "defective")[number % 2]
        for root in ("cells", "data", "imagenet", "pictures", "tiny-imagenet-200"):
            file = place / root / label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            square(number, code=number % 2, side_px=32 + 8 * (number // 2 % 2)).save(file)
        day = f"2026-01-{number % 28 + 1:02d}"
        both = f"{label}|{'mono' if number % 3 else 'poly'}"
        facts = f"m{number // 2},p{number // 2},{day},c{number % 3},s{number % 2}"
        rows.append(f"cells/{label}/{number}.png,{label},{facts},{number % 2},{both.partition('|')[2]},{both}")
        for root in ("photos", "test"):
            (place / root).mkdir(exist_ok=True)
            if number < 12:
                square(number, code=number % 2, side_px=32).save(place / root / f"{number}.png")
    for number in range(100):
        picture, _ = labelled(number, 1)
        tar(place / "many" / f"train-{number:05d}.tar", [picture, ("000.cls", b"%d" % (number % 2))])
    (place / "cells.csv").write_text("\n".join(rows) + "\n")
    (place / "mine.toml").write_text(STUDY)
    (place / "my.toml").write_text(RECIPE)
    (place / "second-stage.toml").write_text(RECIPE)
    (place / "log.csv").write_text("Ep,train_loss,test_acc\n1,0.9,0.5\n2,0.5,0.7\n")
    shutil.copy(PLUGIN, place / "my_plugin.py")
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tracking.md").read_text(), re.DOTALL)
    (place / "lines.py").write_text(lines)
    shutil.copytree(ROOT / "docs" / "examples", place / "docs" / "examples", ignore=shutil.ignore_patterns("report"))


def typed(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code, and what `imgkit WORDS` printed, of both streams."""
    with pytest.MonkeyPatch.context() as patch, plugins_forgotten():
        patch.setattr(sys, "argv", ["imgkit", *words])
        capsys.readouterr()
        code = 1
        try:
            app.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        said = capsys.readouterr()
        return code, said.out + said.err


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-ins, and the runs that pages name, made by one training; copied for each page."""
    from imgkit import finetune

    place = tmp_path_factory.mktemp("console") / "world"
    place.mkdir()
    stand_ins(place)
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(place):
        patch.setenv("IMGKIT_CACHE", str(place.parent / "cache"))
        sets = ["model.weights=none", "model.image_size=32", "run.workers=0"]
        finetune("test_resnet", data="cells.csv", sets=[*sets, "data.label_col=label"], smoke=True, name="earlier")
        for name in ("run1", "run2", "run3"):
            shutil.copytree("runs/earlier", f"runs/{name}")
    return place


@pytest.fixture
def page_folder(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the stand-ins to be in; studies fork, and a person labels once and ends what is served."""
    place = tmp_path / "page"
    shutil.copytree(world, place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("imgkit.studies.conduct.conduct.__kwdefaults__", {"dry_run": False, "worker": forking()})
    monkeypatch.setattr("imgkit.studies.work.in_a_process", forking())
    monkeypatch.setattr("imgkit.sweeps.conduct.conduct.__kwdefaults__", {"dry_run": False, "worker": forking()})
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)

    def sleep(seconds: float) -> None:
        if opened:
            person = Client(opened.pop())
            for image in range(12):
                person.answer(image, image % 2)
        raise KeyboardInterrupt

    def asked_once(app: ASGIApp) -> uvicorn.Server:
        """A server that a person sends a picture to, and then ends by Ctrl-C."""
        server = server_of(app)
        answer = server.run

        def person(url: str) -> None:
            try:
                with (place / "photos" / "0.png").open("rb") as picture:
                    print(f"asked: {httpx.post(f'{url}/predict', files={'image': picture}).status_code}")
            finally:
                os.kill(os.getpid(), signal.SIGINT)

        def run(sockets: list[socket.socket]) -> None:
            asking = threading.Thread(target=person, args=(address_of(sockets[0]),))
            asking.start()
            try:
                answer(sockets=sockets)
            finally:
                asking.join()

        monkeypatch.setattr(server, "run", run)
        return server

    monkeypatch.setattr("imgkit.serving.server.server_of", asked_once)
    monkeypatch.setattr("imgkit.cli.labelling.sleep", sleep)
    monkeypatch.setattr("imgkit.cli.report.sleep", sleep)
    monkeypatch.setattr("imgkit.report.watch.watch.__kwdefaults__", {"interval_s": 0.1, "sleep": sleep})
    return place


def skeleton(line: str) -> str:
    """A line without its numbers, bars, boxes and widths."""
    return re.sub(r"[\s─━│╭╮╰╯]+", " ", re.sub(r"\d[\d,.:]*", "#", line)).strip()


def missing(shown: tuple[str, ...], said: str) -> list[str]:
    """The lines of a page that a command did not print; … stands for any, alone or within a line."""
    printed = {skeleton(line) for line in said.splitlines()}
    patterns = {line: ".*".join(map(re.escape, skeleton(line).split("…"))) for line in shown if line.strip()}
    return [line for line, pattern in patterns.items() if not any(re.fullmatch(pattern, one) for one in printed)]


def run(command: Command, capsys: pytest.CaptureFixture[str], *, whole: bool) -> str:
    """What went wrong with it; "" for nothing."""
    line, _, target = command.line.partition(" > ")
    words = shlex.split(line, comments=True)[1:]
    script = line.startswith("python ")  # that a command before wrote
    if script:
        words = [PLACES.get(word, word) for word in words]
    elif not whole:
        words = smaller(words)
    for verb, written in ALTERNATIVES.items():
        if command.line.startswith(f"imgkit {verb}"):
            shutil.rmtree(written, ignore_errors=True)
            Path(written).unlink(missing_ok=True)
    if script:
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        code, said = done.returncode, done.stdout + done.stderr
    else:
        code, said = typed(words, capsys)
    if target:
        Path(target.split()[0]).write_text(said)
    due = 0 if whole else next((code for part, (code, _) in ENDS.items() if part in command.line), 0)
    answered = "imgkit serve" not in command.line or "asked: 200" in said
    if code != due or not answered:
        return f"{command.line}\n  as imgkit {shlex.join(words)}\n  ended with {code}: {said[-900:]}"
    lost = missing(command.shown, said) if whole else []
    return f"{command.line} did not print {lost}, but {said}" if lost else ""


WITH_BLOCKS = [page for page in PAGES if any(commands_of(page.read_text()))]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.name)
def test_the_console_blocks_of_the_page_run(
    page: Path, page_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page.read_text()
    if page.name == "plugins.md":  # whose source reads names of files
        for number in range(12):
            square(number, code=number % 2).save(page_folder / "pictures" / f"class{number % 2}_{number}.png")
    whole = f"<!-- {WHOLE} -->" in text
    found = list(commands_of(text))
    faults = [run(one, capsys, whole=whole) for one in found if not one.why_not and one.line.startswith(TYPED)]
    print(f"{page.name}: {len(faults)} commands run, {len(found) - len(faults)} not")
    assert not any(faults), "\n\n".join(filter(None, faults))


def test_every_block_is_run_or_says_why_not() -> None:
    found = {page.name: list(commands_of(page.read_text())) for page in PAGES}
    silent = [
        f"{page}: {one.line}"
        for page, commands in found.items()
        for one in commands
        if not one.why_not and not one.line.startswith(TYPED)
    ]
    assert silent == []
    told = [one for commands in found.values() for one in commands]
    left_out = [one for one in told if one.why_not]
    print(f"{len(told)} commands in {len(WITH_BLOCKS)} pages; {len(left_out)} not run, for a reason on the page")
    assert len(told) > 100
    assert len(left_out) < len(told) / 8


def test_blocks_are_found_as_pages_write_them() -> None:
    text = (
        "Text\n\n    imgkit demo   # so\n    pip install x\n\n"
        "<!-- not run (pip): the network -->\n\n    pip a\n    imgkit b\n\n"
        "```toml\n    imgkit no\n```\n\n    no program\n\n```console\n$ imgkit c\nsays 3\n$ imgkit d\n```\n"
    )
    assert list(commands_of(text)) == [
        Command("imgkit demo   # so"),
        Command("pip install x"),
        Command("pip a", (), "the network"),
        Command("imgkit b"),
        Command("imgkit c", ("says 3",)),
        Command("imgkit d"),
    ]
    assert missing(("a 3 b", "c … d", "e"), "a 4.5   b\nc 1 2 d\n") == ["e"]


def test_no_command_is_missing_from_the_pages() -> None:
    told = {tuple(shlex.split(one.line, comments=True)) for page in PAGES for one in commands_of(page.read_text())}
    verbs = set(get_command(app.app).commands) - {"data"}
    assert verbs - {words[1] for words in told if words[:1] == ("imgkit",)} <= {"resume", "models", "recipes", "demo"}
