"""A recipe as a run has it."""

import pytest

from imgkit.errors import RecipeError
from imgkit.recipe.adapt import adapt
from imgkit.recipe.load import load_recipe


def test_a_deterministic_run_takes_one_thread_unless_told_otherwise() -> None:
    loaded, notes = adapt(load_recipe("scratch", sets=["run.deterministic=true"]))
    assert loaded.recipe.run.threads == 1
    assert loaded.origins["run.threads"] == "derived (run.deterministic)"
    assert "a deterministic run takes one thread" in notes[0]
    told, none = adapt(load_recipe("scratch", sets=["run.deterministic=true", "run.threads=3"]))
    assert (told.recipe.run.threads, none) == (3, [])


def test_the_loss_is_the_tasks() -> None:
    loaded, notes = adapt(load_recipe("scratch", sets=["data.task=multilabel"]))
    assert loaded.recipe.loss.name == "bce"
    assert notes[0].startswith("the loss is bce")
    same = load_recipe("scratch")
    assert adapt(same) == (same, [])


def test_what_nothing_reads_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"augment\.jitter_p"):
        adapt(load_recipe("scratch", sets=["augment.jitter_p=0.5"]))
