"""A study's file: what it means, and every fault at once with its line."""

from pathlib import Path

import pytest

from imgkit.errors import RecipeError, UsageError
from imgkit.studies.file import read_study, shipped_studies, study_file
from imgkit.studies.schema import Inference, Study

HEAD = 'schema = 1\nname = "s"\nverb = "scratch"\nmodel = "resnet18"\nseeds = [0, 1]\n'
TWO = '[[variants]]\nname = "a"\n[[variants]]\nname = "b"\nset = { lr = 1e-3 }\n'


def read(folder: Path, text: str, name: str = "study.toml") -> Study:
    (folder / name).write_text(text)
    return read_study(folder / name)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(folder, text)
    return [line.removeprefix(f"{folder}/") for line in caught.value.message.splitlines()]


def given(study: Study, variant: int = 0) -> dict[str, object]:
    return {key: flag.value for key, flag in study.variants[variant].values.items()}


def test_listed_variants_have_their_values_with_the_line_where_they_stand(tmp_path: Path) -> None:
    text = HEAD + '[base]\n"train.ema" = 0.9\n[base.train]\nbatch_size = 8\n' + TWO
    text += '[[variants]]\nname = "c"\nmodel = "vgg_a"\n[variants.set]\n"loss.gamma" = 2\nloss.name = "focal"\n'
    study = read(tmp_path, text)
    assert (study.name, study.verb, study.recipe, study.seeds) == ("s", "scratch", "scratch", (0, 1))
    assert (study.baseline, study.compare, study.train_images) == ("a", "baseline", None)
    assert {key: flag.value for key, flag in study.base.items()} == {"train.ema": 0.9, "train.batch_size": 8}
    assert [one.name for one in study.variants] == ["a", "b", "c"]
    assert [given(study, number) for number in range(3)] == [
        {"model.name": "resnet18"},
        {"model.name": "resnet18", "lr": 1e-3},
        {"model.name": "vgg_a", "loss.gamma": 2, "loss.name": "focal"},
    ]
    assert study.variants[2].values["loss.gamma"].spelling == f"{tmp_path}/study.toml:19"
    assert study.inference == Inference(32, 3, 9)
    assert study.text == text


def test_a_grid_is_the_product_of_its_factors(tmp_path: Path) -> None:
    text = HEAD + '[grid]\n"train.batch_size" = [16, 32]\n[grid.loss]\nplain = {}\n'
    text += 'focal = { loss = { name = "focal", gamma = 2.0 } }\n'
    study = read(tmp_path, text)
    assert study.axes == {"train.batch_size": ("16", "32"), "loss": ("plain", "focal")}
    assert [one.name for one in study.variants] == ["16+plain", "16+focal", "32+plain", "32+focal"]
    assert study.variants[3].levels == {"train.batch_size": "32", "loss": "focal"}
    assert given(study, 3) == {
        "model.name": "resnet18",
        "train.batch_size": 32,
        "loss.name": "focal",
        "loss.gamma": 2.0,
    }


def test_all_faults_come_at_once_with_file_line_and_key(tmp_path: Path) -> None:
    text = 'schema = 1\nname = "a/b"\nverb = "scratsh"\nseeds = [0, 0, -1]\nsedes = 3\nbaseline = "d"\n'
    text += '[base]\n"train.ema" = {}\nseed = 3\n"a b" = 1\n[inference]\nbatch = 3\npasses = 0\n'
    text += '[[variants]]\nname = "c"\nsets = {}\n[[variants]]\nname = "c"\nset = 3\n'
    assert faults(tmp_path, text) == [
        "study.toml:2: name: is part of a folder's name: letters, digits and _ . = -, got 'a/b'",
        "study.toml:3: verb: got 'scratsh' (did you mean 'scratch'?); there are finetune, scratch",
        "study.toml:4: seeds: expected a whole number of 0 or more, got -1",
        "study.toml:4: seeds: names a seed twice: [0, 0, -1]",
        "study.toml:5: sedes: unknown key (did you mean 'seeds'?)",
        "study.toml:6: baseline: there is no variant 'd'; there are c, c",
        "study.toml:8: base.train.ema: expected text, a number, true or false, or a list of these, got a table",
        "study.toml:9: base.seed: seeds stand at the top of the study: seeds = [0, 1, 2]",
        "study.toml:10: base.a b: has not the form of a recipe key, as train.ema",
        "study.toml:12: inference.batch: unknown key (did you mean 'batch_size'?)",
        "study.toml:13: inference.passes: expected a whole number of 1 or more, got 0",
        "study.toml:16: variants[0].sets: unknown key (did you mean 'set'?)",
        "study.toml:18: variants[1].name: there are two variants called 'c'",
        "study.toml:19: variants[1].set: expected a table of recipe keys",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD, "variants: are missing; write one [[variants]] for each way to train, or a [grid]"),
        (HEAD + "grid = 3\n", "grid: expected factors: [grid.NAME] with a level a line, or KEY = [value, value]"),
        (HEAD + TWO + "[grid.a]\nx = {}\ny = {}\n", "grid: a study has [[variants]] or a [grid], not both"),
        (HEAD + "[grid.a]\nx = {}\n", "grid.a: needs two levels at least, each once"),
        (HEAD + "[grid]\nlr = [1e-3, 1e-3]\n", "grid.lr: needs two levels at least, each once"),
        (HEAD + '[grid]\nlr = [1e-3, "a b"]\n', "got 'a b'"),
        (HEAD + "[grid]\nlr = [[1], [2]]\n", "grid.lr: a level in a list is text, a number, true or false, got [1]"),
        (
            HEAD + "[grid]\ntrain.batch_size = [16, 32]\n",
            'a key with dots stands in quotes: "train.batch_size" = [value, value]',
        ),
        (
            HEAD + "[grid.a]\nx = {}\ny = { lr = 1 }\n[grid.b]\nx = {}\ny = { lr = 2 }\n",
            "grid.b: sets lr, and so does the factor 'a'",
        ),
        (HEAD + '[base]\nloss.gamma = 1\n"loss.gamma" = 2\n' + TWO, "base.loss.gamma: is given twice"),
        (HEAD + '[base]\n"model.name" = "x"\n' + TWO, "model: the base has model.name, too; give it once"),
        (HEAD + '[[variants]]\nname = "a"\nmodel = "x"\n', "model: is not used: every variant has a network"),
        (HEAD + TWO + '"model.name" = "x"\n', "variants[1].model.name: unknown key"),
        (
            HEAD + '[[variants]]\nname = "a"\nset = { "model.weights" = "w.pt" }\n',
            'study.toml:8: model.weights: scratch starts from random weights: leave it out, or write verb = "finetune"',
        ),
        (HEAD.replace("1", "2", 1) + TWO, "schema: the file has schema 2, this imgkit reads schema 1"),
        (HEAD.replace("schema = 1\n", "") + TWO, "schema: is missing; write schema = 1 at the top"),
        (
            HEAD.replace("[0, 1]", "[]") + TWO,
            "seeds: expected a list of whole numbers, got []; write seeds = [0, 1, 2]",
        ),
        (HEAD + 'compare = "al"\n' + TWO, "compare: got 'al' (did you mean 'all'?); there are baseline, all"),
    ],
)
def test_each_fault_is_told(tmp_path: Path, text: str, words: str) -> None:
    assert any(words in line for line in faults(tmp_path, text)), faults(tmp_path, text)


def test_the_name_of_a_file_is_never_taken_for_an_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default.toml").write_text(HEAD + TWO)
    assert read_study("default.toml").variants[1].values["lr"].spelling == "./default.toml:10"


def test_a_study_is_found_by_name_or_as_a_file(tmp_path: Path) -> None:
    assert study_file("r1-depth") == shipped_studies()["r1-depth"]
    with pytest.raises(UsageError) as caught:
        study_file("r1-dept")
    assert caught.value.message == "There is no study 'r1-dept' (did you mean 'r1-depth'?)."
    assert "r3-loss-attention" in caught.value.hint
