"""A recipe as a run has it: what the task and determinism make of the one that was asked for."""

from dataclasses import replace

from imgkit.recipe.check import check_given
from imgkit.recipe.load import Loaded
from imgkit.recipe.task import for_task, task_of


def adapt(loaded: Loaded) -> tuple[Loaded, list[str]]:
    """The recipe that a run writes down, and notes on what was changed; no data are read.

    Raises:
        RecipeError: if a given value is not used, contradicts another one, or is of another task.
        UsageError: if the columns of the data contradict the task.
    """
    loaded, notes = for_task(loaded, task_of(loaded.recipe.data))
    check_given(loaded)
    loaded, fixed = _with_threads(loaded)
    return loaded, notes + fixed


def _with_threads(loaded: Loaded) -> tuple[Loaded, list[str]]:
    """The recipe with a number of threads where it is deterministic and has none, and a note that says so.

    One, since torch's own choice follows the machine and its environment, and sums over other shares of a tensor round
    otherwise.
    """
    recipe = loaded.recipe
    if not recipe.run.deterministic or recipe.run.threads is not None:
        return loaded, []
    run = recipe.run.model_copy(update={"threads": 1})
    origins = {**loaded.origins, "run.threads": "derived (run.deterministic)"}
    note = "a deterministic run takes one thread, the same number everywhere; for more of them:  --set run.threads=N"
    return replace(loaded, recipe=recipe.model_copy(update={"run": run}), origins=origins), [note]
