"""T-D5: whatever is typed, the user's own files stay as they are: bytes, names, dates."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import matplotlib.font_manager  # noqa: F401  (imported here so that no fork has to)
import pytest
import typer
from forked import forked
from oracle import short_run
from pictures import TreeHash, square
from PIL import Image
from safetensors.torch import save_file
from sittings import Client
from study_worker import LISTED, PLUGIN, forking, write_study
from tally import Tally, share
from watched_files import Touched, touched_by, typed

from imgkit import checkpoint, demo
from imgkit.cli.app import app
from imgkit.data import decode
from imgkit.data.decode import Decoded

FAMILY = "T-D5"
SMALL = ("--set", "model.image_size=32", "--set", "run.workers=0", "--set", "train.batch_size=8", "--smoke")
DATA = ("--data", "../mine/pictures")
TABLE = ("--data", "../mine/table.csv")
NETWORK = ("test_resnet", "--weights", "../mine/weights.safetensors")
FILL = ("predict", "ready", "../mine/pictures", "--fill", "?", "--template", "../mine/template.csv")

PROBED = (*DATA, "--model", "test_resnet", "--weights", "none", "--image-size", "32", "--workers", "0")

# Each command as it is typed in a folder beside the user's own, `mine`.
TYPED: dict[str, list[tuple[str, ...]]] = {
    "demo": [("demo", "--smoke")],
    "data check": [("data", "check", "../mine/pictures"), ("data", "check", "../mine/table.csv")],
    "data preview": [
        ("data", "preview", "test_resnet", *DATA, "--image-size", "32"),
        ("data", "preview", "--by-class", *TABLE),
    ],
    "data prepare": [("data", "prepare", "test_resnet", *DATA, "--image-size", "16", "--workers", "0")],
    "data pack": [("data", "pack", "../mine/pictures", "--out", "shards")],
    "data split": [("data", "split", "../mine/pictures", "--out", "splits.csv")],
    "data label-errors": [("data", "label-errors", *PROBED)],
    "data learning-curve": [("data", "learning-curve", *PROBED, "--seeds", "2")],
    "label": [("label", "../mine/pictures", "--classes", "cat,dog")],
    "finetune": [
        ("finetune", *NETWORK, *DATA, *SMALL, "--recipe", "../mine/short.toml"),
        ("finetune", *NETWORK, *TABLE, *SMALL, "--on-bad", "skip"),
        ("finetune", "test_resnet", *DATA, *SMALL, "--from", "ready"),
    ],
    "scratch": [("scratch", "my_tiny_net", "--plugin", "../mine/my_plugin.py", *DATA, *SMALL)],
    "resume": [("resume", "stopped")],
    "lr-find": [("lr-find", *NETWORK, *DATA, *SMALL[:-1], "--steps", "10", "--out", "rates")],
    "probe": [("probe", "test_resnet", *DATA, "--weights", "none", "--workers", "0", "--image-size", "32")],
    "study": [("study", "../mine/small.toml", *DATA, "--plugin", "../mine/my_plugin.py", "--smoke")],
    "sweep": [("sweep", "../mine/sweep.toml", *DATA, "--smoke", "--out", "sweep")],
    "evaluate": [("evaluate", "ready"), ("evaluate", "ready", *DATA, "--split", "val"), ("evaluate", "ready", *TABLE)],
    "predict": [
        ("predict", "ready", "../mine/pictures", "--out", "answers.csv", "--grid", "grid.png"),
        ("predict", "ready", "../mine/table.csv", "--out", "answers.jsonl"),
        (*FILL, "--out", "filled.csv"),
        ("predict", "ready", "../mine/pictures", "--format", "competition", "--class-order", "../mine/order.txt"),
    ],
    "report": [("report",), ("report", "ready")],
    "plot": [("plot", "ready"), ("plot", "../mine/epochs.csv", "--out", "plots")],
    "serve": [("serve", "ready", "--port", "0")],
    "export": [("export", "ready", "--to", "timm"), ("export", "ready", "--to", "torch-export")],
    "push": [("push", "ready", "me/cats")],
    "models": [("models", "resnet"), ("models", "my_tiny", "--plugin", "../mine/my_plugin.py")],
    "recipes": [("recipes",)],
    "doctor": [("doctor",)],
}

SWEEP = """
schema = 1
name = "small"
verb = "scratch"
model = "test_resnet"
trials = 2

[base]
"model.image_size" = 32
"run.workers" = 0
"train.batch_size" = 8
"train.precision" = "float32"

[space]
lr = { low = 1e-4, high = 1e-2, log = true }
"""

# Places for what a command writes that lie among the pictures: each is refused.
AMONG_THEM: list[tuple[str, ...]] = [
    ("finetune", *NETWORK, *DATA, *SMALL, "--out", "../mine/pictures/runs"),
    ("finetune", *NETWORK, *TABLE, *SMALL, "--root", "../mine/pictures", "--out", "../mine/pictures/train"),
    ("scratch", "test_resnet", *DATA, *SMALL, "--out", "../mine/pictures"),
    ("lr-find", *NETWORK, *DATA, *SMALL[:-1], "--out", "../mine/pictures/rates"),
    ("study", "../mine/small.toml", *DATA, "--plugin", "../mine/my_plugin.py", "--out", "../mine/pictures/study"),
    ("data", "preview", "test_resnet", *DATA, "--out", "../mine/pictures/train/cat/0.png"),
    ("data", "preview", "--by-class", *DATA, "--out", "../mine/pictures/train/cat/0.png"),
    ("data", "preview", "test_resnet", *TABLE, "--out", "../mine/pictures/train/cat/0.png"),
    ("data", "preview", "--by-class", *TABLE, "--out", "../mine/pictures/train/cat/0.png"),
    ("predict", "ready", "../mine/pictures", "--out", "../mine/pictures/answers.csv"),
    ("predict", "ready", "../mine/pictures", "--out", "answers.csv", "--grid", "../mine/pictures/train/cat/0.png"),
    ("predict", "ready", "../mine/table.csv", "--out", "../mine/table.csv"),
    ("predict", "ready", "../mine/table.csv", "--out", "answers.csv", "--grid", "../mine/pictures/train/cat/0.png"),
    (*FILL, "--out", "../mine/template.csv"),
    (*FILL, "--out", "../mine/elsewhere/train/cat/0.png"),
    (*FILL[:2], "../mine/table.csv", *FILL[3:], "--out", "../mine/elsewhere/train/cat/0.png"),
    ("sweep", "../mine/sweep.toml", *DATA, "--out", "../mine/pictures/sweep"),
]


def belongings(mine: Path) -> None:
    """What a user may have: pictures of several kinds, tables, a template, recipes, weights, a plugin."""
    rows = ["path,label,split"]
    for number in range(36):
        split, label = ("train", "val", "test")[number // 12], ("cat", "dog")[number % 2]
        file = mine / "pictures" / split / label / f"{number}.{'jpg' if number % 3 else 'png'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture, exif = square(number, code=number % 2, side_px=40), Image.Exif()
        exif[0x0112] = number % 8 + 1  # how the camera was held
        picture.save(file, exif=exif) if file.suffix == ".jpg" else picture.save(file)
        rows.append(f"{file.relative_to(mine)},{label},{split}")
    (mine / "pictures" / "train" / "cat" / "link.png").symlink_to("0.png")
    (mine / "elsewhere").symlink_to("pictures")
    cut = (mine / "pictures" / "train" / "cat" / "4.jpg").read_bytes() + b"trailing"
    (mine / "pictures" / "train" / "cat" / "4.jpg").write_bytes(cut)  # what others mend in place
    for name in ("train/cat/.hidden.png", "notes.txt", "Thumbs.db"):
        (mine / "pictures" / name).write_bytes(b"my own")
    (mine / "table.csv").write_text("\n".join(rows) + "\n")
    names = [row.partition(",")[0] for row in rows[1:]]
    (mine / "template.csv").write_text("id,label\n" + "".join(f"{Path(name).name},\n" for name in names))
    (mine / "order.txt").write_text("dog\ncat\n")
    (mine / "epochs.csv").write_text("epoch,train_loss,val_loss,val_acc\n1,0.9,0.9,50\n2,0.5,0.6,70\n")
    shutil.copy(PLUGIN, mine / "my_plugin.py")
    study = write_study(mine, LISTED, "[0]")
    study.write_text(study.read_text().replace('"data.test" = 0.25\n', ""))  # the pictures have splits
    (mine / "sweep.toml").write_text(SWEEP)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mine` beside `work`, where a finished run and one that was stopped lie in runs/."""
    place = tmp_path_factory.mktemp("home")
    (place / "mine").mkdir()
    belongings(place / "mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(place / "cache"))
        data = str(place / "mine" / "pictures")
        ready = short_run(place / "work", "phases.top.steps=1", "phases.all.epochs=1", data=data, name="ready")
        ready.export("timm", images=2)
        shutil.copy(place / "work" / "short.toml", place / "mine" / "short.toml")
        weights = checkpoint.load(ready.folder.path / "checkpoints", lambda text: None)
        assert weights is not None
        body = {name: tensor for name, tensor in weights.model.items() if not name.startswith("fc.")}
        save_file(body, place / "mine" / "weights.safetensors")
        forked(lambda: stopped_run(place / "work", data))
    return place


def stopped_run(folder: Path, data: str) -> int:
    """A run that ends as by a kill, for a process of its own."""

    def reached(point: str) -> None:
        if point == "before prune":
            raise KeyboardInterrupt

    checkpoint.reached = reached
    try:
        short_run(folder, data=data, name="stopped")
    except KeyboardInterrupt:
        return 0
    return 1


async def ask_all(app: Any, home: Path) -> None:  # noqa: ANN401
    """What a client asks of `imgkit serve`."""
    pictures = [file for file in (home / "mine" / "pictures").rglob("*.png") if file.is_file()]
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        sent = [("images", (file.name, file.read_bytes())) for file in pictures]
        answer = await client.post("/predict/batch", files=sent)
    assert len(answer.json()["answers"]) == len(pictures)


@pytest.fixture
def at_work(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands are typed; studies fork, a demonstration needs no package, and a person labels once.

    A server is asked about all pictures.
    """
    monkeypatch.setattr("imgkit.studies.conduct.conduct.__kwdefaults__", {"dry_run": False, "worker": forking()})
    worker = forking()
    sweeping = {"dry_run": False, "worker": lambda job, request, meanwhile: worker(job, request)}
    monkeypatch.setattr("imgkit.sweeps.conduct.conduct.__kwdefaults__", sweeping)
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    opened: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open", opened.append)

    def sleep(seconds: float) -> None:
        Client(opened.pop()).answer(0, 1)
        raise KeyboardInterrupt

    monkeypatch.setattr("imgkit.cli.labelling.sleep", sleep)
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: asyncio.run(ask_all(self.config.app, home)))
    monkeypatch.chdir(home / "work")
    return home


def harm(home: Path, words: tuple[str, ...], tree_hash: TreeHash) -> tuple[Touched, list[str]]:
    """What a command did, and what of the user's files it changed, tried to change, or left changed."""
    before = tree_hash(home / "mine")
    found = touched_by(typed(*words))
    changed = found.below(home / "mine", found.changed)
    return found, changed + ["the hash of all"] * (tree_hash(home / "mine") != before)


def test_every_command_has_a_case() -> None:
    def names(group: typer.core.TyperGroup, before: tuple[str, ...] = ()) -> set[str]:
        found = set()
        for name, command in group.commands.items():
            inner = isinstance(command, typer.core.TyperGroup)
            found |= names(command, (*before, name)) if inner else {" ".join((*before, name))}
        return found

    assert set(TYPED) == names(typer.main.get_command(app))
    assert all(words[: name.count(" ") + 1] == tuple(name.split()) for name, all_ in TYPED.items() for words in all_)


QUICK = ["data check", "evaluate", "predict", "report", "data preview", "data prepare"]


@pytest.mark.parametrize("command", share(TYPED, QUICK))
def test_the_users_files_stay_as_they_are(at_work: Path, tree_hash: TreeHash, tally: Tally, command: str) -> None:
    files = sum(file.is_file() for file in (at_work / "mine").rglob("*"))
    for words in TYPED[command]:
        found, changed = harm(at_work, words, tree_hash)
        assert (found.code, changed) == (0, []), f"{words} {found.text.decode()}"
        tally.count(FAMILY, commands=1, files=files, changed=0)


@pytest.mark.parametrize("words", AMONG_THEM, ids=" ".join)
def test_nothing_is_put_among_the_pictures(
    at_work: Path, tree_hash: TreeHash, tally: Tally, words: tuple[str, ...]
) -> None:
    found, changed = harm(at_work, words, tree_hash)
    assert (found.code, changed) == (2, []), found.text.decode()
    tally.count(FAMILY, commands=1, refused=1, changed=0)


# What protects, taken away: the check above must notice.


def mending(path: Path, **options: Any) -> Decoded:  # noqa: ANN401
    """Saves a JPEG again, as some tools do of one with bytes behind its end."""
    picture = decode.read_image(path, **options)
    if path.read_bytes().endswith(b"trailing"):
        picture.image.save(path)
    return picture


def touching(path: Path, **options: Any) -> Decoded:  # noqa: ANN401
    """Leaves the content and changes the date."""
    os.utime(path, ns=(1, 1))
    return decode.read_image(path, **options)


def unlooked(*_: object, **__: object) -> None:
    """No refusal."""


MUTANTS: dict[str, tuple[str, Callable[..., object], tuple[str, ...]]] = {
    "a decoder that mends": ("imgkit.data.scan.read_image", mending, ("data", "check", "../mine/pictures")),
    "a decoder that touches": ("imgkit.data.scan.read_image", touching, ("data", "check", "../mine/pictures")),
    "runs beside pictures": ("imgkit.data.sources.refuse_inside", unlooked, AMONG_THEM[0]),
    "a sheet over a picture": ("imgkit.class_sheet.refuse_picture", unlooked, AMONG_THEM[8]),
}


@pytest.mark.parametrize("name", share(MUTANTS, list(MUTANTS)[:1]))
def test_the_check_notices_what_is_missing(
    home: Path, tmp_path: Path, tree_hash: TreeHash, tally: Tally, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for part in ("mine", "work"):
        shutil.copytree(home / part, tmp_path / part, symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    target, replacement, words = MUTANTS[name]
    monkeypatch.setattr(target, replacement)
    assert harm(tmp_path, words, tree_hash)[1] != []
    tally.count("mutants", caught=1, escaped=0)
