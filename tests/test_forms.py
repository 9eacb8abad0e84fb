"""Lines of competitions: what they hold, in which order, and what is no line."""

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from imgkit.errors import DataError, UsageError
from imgkit.forms import read_class_order, words_of, write_guesses, write_multihot
from imgkit.predict import Prediction

CLASSES = ("cat", "dog", "eel")


def ranked(path: str, *names: str) -> Prediction:
    return Prediction(path, names[0], 0.5, tuple((name, 0.5) for name in names), labels=names[:1])


def labelled(path: str, *labels: str) -> Prediction:
    return Prediction(path, "cat", 0.5, (("cat", 0.5),), labels=labels)


def unread(path: str) -> Prediction:
    return Prediction(path, "", 0.0, (), "is cut short")


def written(write: Callable[..., Iterator[Prediction]], answers: Iterable[Prediction], **options: object) -> list[str]:
    """The lines; what was passed on is what came in."""
    file, given = io.StringIO(), list(answers)
    assert list(write(given, file, **options)) == given
    return file.getvalue().splitlines()


def test_guesses_are_words_of_the_most_likely_classes_in_the_order_given() -> None:
    answers = [ranked("10.jpg", "eel", "cat", "dog"), ranked("9.jpg", "dog", "eel", "cat")]
    from_1 = words_of(CLASSES, "index", 1)
    assert written(write_guesses, answers, words=from_1, k=2) == ["3 1", "2 3"]
    assert written(write_guesses, answers, words=words_of(CLASSES, "index"), k=3) == ["2 0 1", "1 2 0"]
    assert written(write_guesses, answers, words=words_of(CLASSES, "name"), k=1) == ["eel", "dog"]


def test_multihot_is_in_the_numeric_order_of_names() -> None:
    answers = [labelled("b/im10.jpg", "cat", "eel"), labelled("a/im9.png"), labelled("a/im100.jpg", "dog")]
    assert written(write_multihot, answers, labels=CLASSES) == ["0 0 0", "1 0 1", "0 1 0"]
    assert written(write_multihot, answers, labels=CLASSES[::-1]) == ["0 0 0", "1 0 1", "0 1 0"[::-1]]
    mixed = [labelled(name, *("cat",) * k) for k, name in enumerate(("x2y10", "x2y9", "x1", "2", "10", "x"))]
    order = ["2", "10", "x", "x1", "x2y9", "x2y10"]
    lines = written(write_multihot, [labelled(one.path, str(order.index(one.path))) for one in mixed], labels="012345")
    assert lines == [" ".join("01"[row == column] for column in range(6)) for row in range(6)]


def test_zeros_before_a_number_do_not_count() -> None:
    names = ("im0007.jpg", "im008.jpg", "im9.jpg", "im010.jpg", "im11.jpg", "im00100.jpg")
    answers = [labelled(name, str(row)) for row, name in enumerate(names)]
    wanted = [" ".join("01"[row == column] for column in range(6)) for row in range(6)]
    for mixed in (answers, sorted(answers, key=lambda one: one.path), answers[::-1]):
        assert written(write_multihot, mixed, labels="012345") == wanted


def test_an_image_that_cannot_be_read_is_an_error_or_gets_what_was_asked_for() -> None:
    answers = [ranked("1.jpg", "eel", "cat"), unread("2.jpg"), ranked("3.jpg", "cat", "dog"), unread("4.jpg")]
    words = words_of(CLASSES, "index")
    for write, options, lines in (
        (write_guesses, {"words": words, "k": 2}, ["2 0", "x x", "0 1", "x x"]),
        (write_multihot, {"labels": CLASSES}, ["0 0 1", "x x x", "1 0 0", "x x x"]),
    ):
        told = r"2 images cannot be read: 2\.jpg: is cut short, 4\.jpg: is cut short\.\n.*--fill VALUE"
        with pytest.raises(DataError, match=told):
            written(write, answers, **options)
        assert written(write, answers, fill="x", **options) == lines


def test_two_images_in_one_place_are_told() -> None:
    with pytest.raises(DataError, match=r"a/1\.jpg and b/01\.png have one place in the numeric order"):
        written(write_multihot, [labelled("a/1.jpg"), labelled("b/01.png")], labels=CLASSES)
    with pytest.raises(DataError, match="names no image"):
        written(write_multihot, [unread("")], labels=CLASSES, fill="0")


def test_names_with_spaces_are_no_words() -> None:
    with pytest.raises(UsageError, match=r"cannot be told apart .*: tabby cat\.\n.*--classes-as index"):
        words_of(("dog", "tabby cat"), "name")
    assert words_of(("dog", "tabby cat"), "index") == {"dog": "0", "tabby cat": "1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog\ncat\n", r"o\.txt lacks 1 class of the model: eel\."),
        ("dog\n\ncat\neel\n", r"o\.txt: line 2 is empty"),
        ("dog\ncat\neel\ndog\n", r"o\.txt names a class twice: dog\."),
        (None, r"o\.txt cannot be read: No such file"),
        (b"\xff\n", r"o\.txt cannot be read: it is not UTF-8"),
    ],
)
def test_a_list_of_classes_that_is_none(text: str | bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "o.txt"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        read_class_order(file, CLASSES)


def test_a_list_of_classes(tmp_path: Path) -> None:
    (tmp_path / "o.txt").write_bytes(b"\xef\xbb\xbfeel\r\nnewt\r\ncat \r\ndog")
    assert read_class_order(tmp_path / "o.txt", CLASSES) == ["eel", "newt", "cat", "dog"]
