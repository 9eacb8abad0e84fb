from pathlib import Path

import pytest
from scored_runs import index_of, write_scored_run

from imgkit.errors import DiskError
from imgkit.recipe.load import load_recipe
from imgkit.recipe.write import render
from imgkit.report.recipe_diff import ABSENT, Differing, asked_of, differing
from imgkit.run import RunFolder


def write(out: Path, name: str, *sets: str, **about: object) -> RunFolder:
    return write_scored_run(out, name, index_of(90), {"test": 0.9}, sets=sets, **about)


def test_values_that_differ_are_told_defaults_included(tmp_path: Path) -> None:
    base = asked_of(write(tmp_path, "base"))
    sets = (
        "phases.all.lr=0.003",
        "train.ema=0.999",
        "loss.name=focal",
        "early_stop=3",
    )
    found = differing(base, asked_of(write(tmp_path, "other", *sets)))
    assert {(one.key, one.base, one.other) for one in found} >= {
        ("phases.all.lr", "0.0001", "0.003"),
        ("train.ema", "0.0", "0.999"),
        ("loss.name", '"cross_entropy"', '"focal"'),
        ("loss.gamma", ABSENT, "2.0"),
        ("early_stop", "none", "3"),
    }
    assert not [one for one in found if one.key.startswith(("augment", "data", "model", "save", "version"))]


def test_what_a_run_has_from_elsewhere_is_no_difference(tmp_path: Path) -> None:
    base = write(tmp_path, "base")
    given = write(tmp_path, "given", "train.ema=0.0", "early_stop=none")  # the defaults, given
    text = (given.path / "recipe.toml").read_text()
    assert "\nema = 0.0" in text
    assert text != (base.path / "recipe.toml").read_text()
    assert differing(asked_of(base), asked_of(given)) == []


def test_where_the_pictures_lie_is_no_difference(tmp_path: Path) -> None:
    base, other = write(tmp_path, "base", "data.path=/here"), write(tmp_path, "other", "data.path=/there")
    assert differing(asked_of(base), asked_of(other)) == []
    other = write(tmp_path, "smaller", "data.val=0.3")
    assert differing(asked_of(base), asked_of(other)) == [Differing("data.val", "0.2", "0.3")]


def test_network_weights_data_and_machine_come_first(tmp_path: Path) -> None:
    base = asked_of(write(tmp_path, "base"))
    more = {"model": "vgg16", "weights": {"sha256": "ab" * 32}, "machine": "CPU", "versions": {"torch": "2.14"}}
    other = asked_of(write(tmp_path, "other", "seed=3", **more, seed=3, format={"precision": "bfloat16"}))
    assert [(one.key, one.base, one.other) for one in differing(base, other)] == [
        ("network", "resnet50", "vgg16"),
        ("its weights", "random", "SHA-256 abababababab…"),
        ("precision", "None", "bfloat16"),
        ("machine", "None", "CPU"),
        ("version of torch", ABSENT, "2.14"),
        ("seed", "0", "3"),
    ]


def test_a_recipe_that_cannot_be_resolved_is_compared_by_what_it_gives(tmp_path: Path) -> None:
    base, other = write(tmp_path, "base", "train.ema=0.5"), write(tmp_path, "other")
    text = render(load_recipe("finetune")).replace('class_weights = "sqrt"', 'name = "loss_of_a_plugin"')
    assert "loss_of_a_plugin" in text
    other.write_text("recipe.toml", text)
    assert asked_of(other).resolved is None
    found = {one.key: (one.base, one.other) for one in differing(asked_of(base), asked_of(other))}
    assert found["loss.name"] == (ABSENT, '"loss_of_a_plugin"')
    assert found["train.ema"] == ("0.5", ABSENT)
    assert "phases.all.lr" not in found


@pytest.mark.parametrize("text", [None, "seed = = 1"])
def test_a_damaged_recipe_is_told(tmp_path: Path, text: str | None) -> None:
    folder = write(tmp_path, "one")
    (folder.path / "recipe.toml").unlink()
    if text is not None:
        folder.write_text("recipe.toml", text)
    with pytest.raises(DiskError, match=r"one/recipe\.toml cannot be read"):
        asked_of(folder)
