import pytest

from imgkit.errors import RecipeError
from imgkit.recipe.check import check_classes
from imgkit.recipe.load import load_recipe


def test_topk_chooses_where_there_are_classes_enough_for_it() -> None:
    loaded = load_recipe("finetune", sets=["monitor=val/topk"])
    check_classes(loaded, 6)
    with pytest.raises(RecipeError, match="is always 1 with 5 classes"):
        check_classes(loaded, 5)
