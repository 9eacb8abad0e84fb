from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from timm.loss import compute_class_weights

from imgkit.class_weights import check_weights, class_weights, log_shares, positive_weights, read_weights, weights_lines
from imgkit.errors import RecipeError
from imgkit.recipe.losses import Bce, CrossEntropy, Zlpr

some_counts = st.lists(st.integers(0, 5000), min_size=2, max_size=9).filter(any)
BETA = st.sampled_from([1e-6, 0.5, 0.9, 0.999, 1 - 1e-9])


@settings(max_examples=60, deadline=None)
@given(counts=some_counts, rule=st.sampled_from(["none", "inverse", "sqrt", "effective"]), beta=BETA)
def test_class_weights_average_to_1_over_the_images_and_rarer_ones_weigh_no_less(
    counts: list[int], rule: str, beta: float
) -> None:
    found = class_weights(counts, rule, beta=beta)
    assert found.dtype == np.float64
    assert found.shape == (len(counts),)
    assert np.average(found, weights=counts) == pytest.approx(1.0)
    assert (found > 0).all()
    by_count = found[np.argsort(counts, kind="stable")]
    assert (np.diff(by_count) <= 1e-12 * by_count[:-1]).all()


@settings(max_examples=60, deadline=None)
@given(counts=some_counts, beta=st.sampled_from([0.5, 0.9, 0.999]))
def test_class_weights_are_timms_but_for_their_scale(counts: list[int], beta: float) -> None:
    for rule, method, power in (
        ("inverse", "inv_freq", 1.0),
        ("sqrt", "inv_freq", 0.5),
        ("effective", "effective_num", 1.0),
    ):
        _, theirs = compute_class_weights(torch.tensor(counts), sum(counts), method, power=power, beta=beta)
        ratio = class_weights(counts, rule, beta=beta) / theirs.double().numpy()
        assert ratio == pytest.approx(ratio[0], rel=1e-5)


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 300), min_size=2, max_size=6))
def test_inverse_is_what_scikit_learn_calls_balanced(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    theirs = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    assert class_weights(counts, "inverse") == pytest.approx(theirs)


def test_effective_lies_between_none_and_inverse() -> None:
    counts = [10, 1000]
    assert class_weights(counts, "effective", beta=1e-9) == pytest.approx(class_weights(counts, "none"))
    assert class_weights(counts, "effective", beta=1 - 1e-12) == pytest.approx(
        class_weights(counts, "inverse"), rel=1e-6
    )
    low, middle, high = (class_weights(counts, rule)[0] for rule in ("none", "effective", "inverse"))
    assert low < middle < high


@settings(max_examples=60, deadline=None)
@given(counts=some_counts, more=st.integers(1, 900))
def test_positive_weights_are_timms(counts: list[int], more: int) -> None:
    images = max(counts) + more
    for rule, power in (("neg_pos", 1.0), ("sqrt", 0.5)):
        _, theirs = compute_class_weights(torch.tensor(counts), images, "neg_pos", power=power)
        assert positive_weights(counts, images, rule) == pytest.approx(theirs.double().numpy(), rel=1e-6)
    assert (positive_weights(counts, images, "none") == 1.0).all()


def test_a_label_that_every_image_has_still_counts() -> None:
    assert positive_weights([8, 0, 4], 8, "neg_pos") == pytest.approx([1 / 8, 7.0, 1.0])


FORMS = {
    "w.json": '{"dog": 2, "a, b": 0.5, "cat": "1e-1"}',
    "w.csv": 'class,weight\r\n"a, b",0.5\r\ndog,2\r\n\r\ncat,0.1\r\n',
    "bom.csv": '\ufeffclass,weight\ncat,0.1\n"a, b",0.5\ndog,2.0\n',
}


@pytest.mark.parametrize("name", FORMS)
def test_weights_of_a_file_go_by_name(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(FORMS[name])
    assert read_weights(file, ("a, b", "cat", "dog"), "loss.class_weights").tolist() == [0.5, 0.1, 2.0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("w.json", '{"cat": 1, "dog": 1, "cow": 2}', "the data have no class cow."),
        ("w.json", '{"cat": 1, "dgo": 2}', "the data have no class dgo (did you mean 'dog'?)."),
        ("w.json", '{"cat": 1}', "there is no weight for dog."),
        ("w.json", '{"cat": 1, "cat": 2, "dog": 1}', "'cat' is written twice."),
        ("w.json", '{"cat": 0, "dog": 1}', "the weight of 'cat' is '0'."),
        ("w.json", '{"cat": NaN, "dog": 1}', "the weight of 'cat' is 'nan'."),
        ("w.json", '{"cat": true, "dog": 1}', "the weight of 'cat' is 'True'."),
        ("w.json", '{"cat": 1' + "0" * 400 + ', "dog": 1}', "the weight of 'cat' is '1000"),
        ("w.json", '{"cat": {"x": 1}, "dog": 1}', "the weight of 'cat' is "),
        ("w.json", "[1, 2]", "the file holds no JSON object."),
        ("w.json", "{", "Expecting property name"),
        ("w.csv", "class,weight\ncat,one\ndog,1\n", "the weight of 'cat' is 'one'."),
        ("w.csv", "class,weight\ncat,1,2\ndog,1\n", "the line 'cat,1,2' has not two columns."),
        ("w.csv", "cat,1\ndog,1\n", "the first line is not class,weight."),
        ("w.csv", "", "the first line is not class,weight."),
        ("w.csv", 'class,weight\n"cat,1\n', "the file is no CSV (unexpected end of data)."),
        ("w.csv", None, "the file cannot be read: No such file or directory."),
    ],
)
def test_what_is_wrong_with_a_file_of_weights(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read_weights(file, ("cat", "dog"), "loss.class_weights")
    assert caught.value.message.startswith(f"loss.class_weights = '{file}': {message}")
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_a_file_that_holds_no_weights_is_found_without_the_data(tmp_path: Path) -> None:
    file = tmp_path / "weights.csv"
    for loss in (CrossEntropy(class_weights=str(file)), Bce(name="bce", pos_weight=str(file))):
        with pytest.raises(RecipeError, match=r"weight.* = '.*weights.csv': the file cannot be read: No such file"):
            check_weights(loss)
    file.write_text("class,weight\ncat,2\n")
    check_weights(CrossEntropy(class_weights=str(file)))
    check_weights(CrossEntropy(class_weights="sqrt"))
    check_weights(Zlpr(name="zlpr"))


def test_the_line_of_a_plan_shows_a_few_classes_or_the_ends() -> None:
    assert weights_lines(None) == []
    assert weights_lines({"cat": 2 / 3, "dog": 2.0}) == ["  weights: cat 0.667, dog 2"]
    many = {f"c{number:02d}": number + 1.0 for number in range(20)}
    assert weights_lines(many) == ["  weights: from 1 (c00) to 20 (c19), 20 classes"]


def test_log_shares_raise_no_class_without_images() -> None:
    found = log_shares([90, 9, 1, 0])
    assert np.exp(found[:3]) == pytest.approx([0.9, 0.09, 0.01])
    assert found[3] == 0.0
