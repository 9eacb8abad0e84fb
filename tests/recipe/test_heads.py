import pytest

from imgkit.errors import RecipeError
from imgkit.recipe.heads import HeadShape, check_head
from imgkit.recipe.load import Flag, load_recipe, shipped_recipes
from imgkit.recipe.plan import make_plan

HEADS = {
    "linear": HeadShape(),
    "mlp:1000": HeadShape((1000,), "none"),
    "mlp:1000:relu": HeadShape((1000,), "relu"),
    "mlp:512,256:gelu": HeadShape((512, 256), "gelu"),
    "mlp:7:none": HeadShape((7,), "none"),
    "pool5-mlp:4096,2048": HeadShape((4096, 2048), "relu", 5),
    "pool1-mlp:8:none": HeadShape((8,), "none", 1),
}


@pytest.mark.parametrize("text", HEADS)
def test_each_form_is_read(text: str) -> None:
    assert HeadShape.parse(text) == HEADS[text]
    assert check_head(text) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lienar", "must be 'linear', 'mlp:WIDTHS', .*, got 'lienar' \\(did you mean 'linear'\\?\\)"),
        ("mpl:1000", "got 'mpl:1000' \\(did you mean 'mlp'\\?\\)"),
        ("pool5mlp:8", "got 'pool5mlp:8' \\(did you mean 'pool5-mlp'\\?\\)"),
        ("pool-mlp:8", "did you mean 'pool5-mlp'"),
        ("pool2", "got 'pool2' \\(did you mean 'pool2-mlp'\\?\\)"),
        ("", "must be 'linear'"),
        ("linear:1000", "'linear' is one layer and has no widths, got 'linear:1000'; write 'mlp:1000'"),
        ("mlp", "'mlp' needs the width of each hidden layer, as 'mlp:1000' or 'mlp:4096,2048'"),
        ("pool5-mlp:", "'pool5-mlp' needs the width of each hidden layer"),
        ("mlp:relu", "a whole number from 1 to 100000, got 'relu'; write 'mlp:1000'"),
        ("mlp:0", "got '0'"),
        ("mlp:-5", "got '-5'"),
        ("mlp:100001", "got '100001'"),
        ("mlp:10,,5", "got ''"),
        ("mlp:1e3", "got '1e3'"),
        ("mlp:²", "got '²'"),
        ("mlp:8:rleu", "no activation 'rleu' \\(did you mean 'relu'\\?\\), got 'mlp:8:rleu'; write none, relu, gelu"),
        ("mlp:8:relu:2", "must be 'linear'"),
        ("pool0-mlp:8", "averaged to 1 to 32 pixels a side, got 'pool0-mlp'"),
        ("pool33-mlp:8", "averaged to 1 to 32 pixels a side"),
    ],
)
def test_faults_are_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_head(text)


@pytest.mark.parametrize(
    "name", [name for name in shipped_recipes() if "solver" in shipped_recipes()[name].read_text()]
)
def test_what_is_said_of_a_solved_phase_can_be_typed(name: str) -> None:
    flags = {"model.head": Flag("--head", "mlp:8:relu")}
    with pytest.raises(RecipeError, match=r"--head: model.head: 'mlp:8:relu' has several layers, and phase") as caught:
        load_recipe(name, flags=flags)
    told = caught.value.message.partition("train it by gradients: ")[2]
    sets = [word for word in told.split() if word != "--set"]
    plan = make_plan(load_recipe(name, flags=flags, sets=sets), 64)
    assert all(phase.solver == "sgd" for phase in plan.phases)
    assert plan.phases[0].train == "head"
