from pathlib import Path

import pytest
from page_runs import make_run

from imgkit.recipe.load import load_recipe
from imgkit.recipe.plan import make_plan
from imgkit.report.leaks import Copies
from imgkit.report.told import (
    copies_words,
    cost_facts,
    data_told,
    environment_facts,
    model_facts,
    phase_words,
    recipe_told,
)


def test_phases_are_told_in_sentences() -> None:
    phases = make_plan(load_recipe("finetune", sets=["model.name=resnet18"]), 960).phases
    head, tuned = map(phase_words, phases)
    assert head.startswith("Phase head solves the head by logistic regression, on features computed once")
    assert tuned.startswith(
        "Phase all trains all layers for 4 epochs (120 updates of 32 images) with adamw at a rate of "
    )
    sets = ["model.name=resnet18", "phases.all.train=last:2"]
    assert "trains the last 2 groups of layers for" in phase_words(
        make_plan(load_recipe("finetune", sets=sets), 96).phases[1]
    )


def test_the_recipe_of_a_run_is_told_with_its_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path, sets_of_recipe=["early_stop=2", "monitor=val/loss"])
    told = recipe_told(folder, 120, "val/f1_macro")
    assert (len(told.phases), told.early_stop, told.monitor, told.fault) == (2, 2, "val/loss", "")
    assert "# recipe finetune" in told.text
    (folder.path / "recipe.toml").write_text("schema = 1\nnam = 3\n")
    told = recipe_told(folder, 120, "val/f1_macro")
    assert told.text == "schema = 1\nnam = 3\n"
    assert told.fault.startswith("What recipe.toml means cannot be told: ")
    (folder.path / "recipe.toml").unlink()
    assert recipe_told(folder, 120, "val/f1_macro").fault.endswith("No such file or directory")


def test_weights_licence_and_parent_are_told(tmp_path: Path) -> None:
    about = make_run(tmp_path).read_json("run.json")
    facts = dict(model_facts(about))
    assert facts["Network"] == "resnet18.a1_in1k, 11,689,512 parameters, pictures of 224 × 224 px"
    assert (facts["Weights"], facts["Licence of the weights"]) == ("timm/resnet18.a1_in1k", "apache-2.0")
    assert facts["Content of the weights"] == f"SHA-256 {'ab' * 32}"
    unknown = dict(model_facts({**about, "weights": {**about["weights"], "licence": None}}))
    assert unknown["Licence of the weights"] == "not known"
    none = {"kind": "none", "detail": "random weights", "licence": None, "sha256": None}
    parent = {"run": "older", "step": 20, "epoch": 2, "sha256": "cd" * 32}
    facts = dict(model_facts({**about, "weights": none, "parent": parent}))
    assert set(facts) == {"Network", "Weights", "Parent"}
    assert facts["Parent"] == "older · epoch 2 (step 20) · weights with SHA-256 cdcdcdcdcdcd…"


def test_data_and_what_is_wrong_with_them_are_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder.path / "data" / "bad.csv").write_text("path,reason\n'=x.png,is no image\n")
    told = data_told(folder, folder.read_json("run.json"), None)
    assert dict(told.facts)["Images"] == "train 120 · val 120 · test 120 · 3 classes"
    assert told.bad == (("=x.png", "is no image"),)
    assert told.notes == ("2 images are grayscale among colour ones, converted to RGB.",)


@pytest.mark.parametrize(
    ("copies", "words"),
    [
        (None, "data/index.csv cannot be read, so copies and leaks are not known."),
        (Copies(0, 0, 0), "No two files have the same bytes."),
        (Copies(4, 2, 0), "4 files are copies: they show 2 pictures."),
        (
            Copies(1200, 1, 1),
            "1,200 files are copies: they show 1 picture, 1 of which have copies with different labels.",
        ),
    ],
)
def test_copies_in_words(copies: Copies | None, words: str) -> None:
    assert copies_words(copies) == words


def test_cost_and_environment_are_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder.path / "model" / "model.safetensors").write_bytes(bytes(2_500_000))
    about, history = folder.read_json("run.json"), folder.history()
    cost = {"images_per_second": 1234.5, "device": "CPU", "peak_memory": 3 * 2**20, "device_peak_memory": None}
    facts = dict(cost_facts(folder, about, history, cost))
    assert facts == {
        "Time of training": "50 s",
        "Training": "321 images/s in the last epoch",
        "Scoring": "1,234 images/s on CPU",
        "Most memory": "3 MiB (process)",
        "Parameters": "11,689,512",
        "File of the weights": "2.5 MB",
        "Budget: size": "40.0 MB, at most 50MB (--max-size)",
    }
    assert "Energy of scoring" not in facts
    more = dict(cost_facts(folder, about, history, {**cost, "images": 400, "processor_joules": 12.3}))
    assert more["Energy of scoring"] == "30.8 J a thousand images, of the processor, whatever else ran on it"
    assert "Scoring" not in dict(cost_facts(folder, about, [], None))
    found = dict(environment_facts({**about, "plugins": [{"file": "mine.py", "sha256": "ab"}]}))
    assert found["Command"] == "imgkit finetune resnet18 --data animals/"
    assert found["Versions"] == "python 3.11.7 · imgkit-timm 0.1.0 · torch 2.14.1"
    assert found["Number format"] == "float32: the only one here"
    assert found["Plugins"] == "mine.py"
    assert dict(environment_facts({"seed": 0})) == {"Seed": "0"}
