import io
from pathlib import Path

import pytest
from pictures import square
from PIL import Image
from sittings import session_of

from imgkit.errors import BadImage, UsageError
from imgkit.labelling.answers import Answer, Answers
from imgkit.labelling.session import SIDE_PX, Candidate, Session


def test_answers_lead_on_and_are_kept(tmp_path: Path) -> None:
    session = session_of(tmp_path, 3)
    shown = {"image": 0, "name": "0.png", "class": None, "top": [[1, 0.5], [0, 0.25]], "error": None}
    assert session.item(0) == shown | {"answered": 0, "left": 3}
    assert session.answer(1, 2, None) == {"next": 2, "replaced": None, "answered": 1, "left": 2}
    assert session.after(0)["next"] == 2
    assert session.answer(2, 0, None)["next"] == 0, "from the start again"
    assert session.answer(0, 0, None) == {"next": None, "replaced": None, "answered": 3, "left": 0}
    assert session.item(1)["class"] == 2
    given = {"1.png": Answer("eel", "dog", 0.5, "one"), "2.png": Answer("cat", "dog", 0.5, "one")}
    assert dict(Answers(tmp_path / "labels.csv").rows) == given | {"0.png": Answer("cat", "dog", 0.5, "one")}


def test_without_a_model_there_is_nothing_suggested(tmp_path: Path) -> None:
    session = session_of(tmp_path, 1, top=False)
    assert session.item(0)["top"] == []
    session.answer(0, 1, None)
    assert Answers(tmp_path / "labels.csv").rows["0.png"] == Answer("dog")


def test_the_last_answer_wins_and_what_it_replaced_is_told(tmp_path: Path) -> None:
    session = session_of(tmp_path)
    assert session.answer(0, 0, None)["replaced"] is None
    assert session.answer(0, 1, None)["replaced"] == 0, "another tab, which had not seen the first answer"
    assert session.answer(0, 2, 1)["replaced"] is None, "a change of mind"
    assert session.answer(0, 2, None)["replaced"] is None, "both say the same"
    assert Answers(tmp_path / "labels.csv").rows["0.png"].label == "eel"
    assert session.item(0)["answered"] == 1


def test_undo_takes_back_one_after_another(tmp_path: Path) -> None:
    session = session_of(tmp_path)
    for image, code in ((0, 0), (1, 1), (0, 2)):
        session.answer(image, code, None)
    assert session.undo()["image"] == 0
    assert (session.item(0)["class"], session.item(0)["answered"]) == (0, 2)
    assert [session.undo()["image"], session.undo()["image"], session.undo()["image"]] == [1, 0, None]
    assert session.left == 4
    assert not Answers(tmp_path / "labels.csv").rows


@pytest.mark.parametrize(("image", "code"), [(4, 0), (-1, 0), (0, 3), (0, -1)])
def test_there_are_no_other_images_and_classes(tmp_path: Path, image: int, code: int) -> None:
    session = session_of(tmp_path)
    with pytest.raises(IndexError):
        session.answer(image, code, None)
    assert not (tmp_path / "labels.csv").exists()


def test_pictures_are_drawn_anew(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "secret"  # turned, and a description
    Image.new("RGB", (2000, 1000), (9, 99, 199)).save(root / "large.jpg", exif=exif, comment=b"secret")
    square(1, side_px=20).save(root / "small.png")
    (root / "cut.png").write_bytes((root / "small.png").read_bytes()[:200])
    names = ["large.jpg", "small.png", "cut.png"]
    answers = Answers(tmp_path / "labels.csv")
    session = Session(root, [Candidate(name) for name in names], ("cat", "dog"), answers)
    large, small = session.picture(0), session.picture(1)
    assert (large.kind, small.kind) == ("image/jpeg", "image/png")
    assert b"secret" not in large.content
    assert Image.open(io.BytesIO(large.content)).size == (SIDE_PX // 2, SIDE_PX)
    assert Image.open(io.BytesIO(small.content)).tobytes() == square(1, side_px=20).tobytes()
    with pytest.raises(BadImage):
        session.picture(2)
    assert session.item(2)["error"]
    with pytest.raises(UsageError, match=r"cut\.png cannot be read, so it gets no label"):
        session.answer(2, 0, None)
    assert not answers.rows
    limited = Session(root, [Candidate("large.jpg")], ("cat", "dog"), answers, max_pixels=1000)
    assert "over the limit" in limited.item(0)["error"]


def test_few_pictures_are_kept_in_memory(tmp_path: Path) -> None:
    session = session_of(tmp_path, 40)
    for number in range(40):
        session.item(number)
    assert len(session._sent) == 16
    (tmp_path / "photos" / "39.png").unlink()
    (tmp_path / "photos" / "0.png").unlink()
    assert session.item(39)["error"] is None
    assert session.item(0)["error"] is not None
