import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from page_reader import text_of
from page_runs import make_run

from imgkit.evidence_rows import MISTAKES, UNSURE
from imgkit.report import pictures
from imgkit.report.pictures import Gallery, gallery_of
from imgkit.report.run_page import html_of, page_of
from imgkit.report.stored import Answers, AnswersOfSets, Stored, stored_of
from imgkit.run import RunFolder


def opened(folder: RunFolder) -> Stored:
    stored = stored_of(folder)
    assert stored is not None
    return stored


def changed(folder: RunFolder, **more: object) -> Gallery:
    """The gallery after the first entry of images.json has been changed."""
    file = folder.path / "evaluations" / "test@40" / "images.json"
    content = json.loads(file.read_text())
    content["images"][0] |= more
    file.write_text(json.dumps(content))
    return gallery_of(opened(folder))


def test_the_surest_mistakes_and_the_least_sure_right_answers_come_first(tmp_path: Path) -> None:
    stored = opened(make_run(tmp_path, n=200, sure=1.0))
    answers = stored.answers
    assert isinstance(answers, Answers)
    gallery = gallery_of(stored)
    order = sorted(range(200), key=lambda row: (-answers.prob[row], row))
    wrong = [row for row in order if not answers.right[row]]
    right = [row for row in reversed(order) if answers.right[row]]
    assert [one.row for one in gallery.mistakes] == wrong[:MISTAKES]
    assert [one.row for one in gallery.unsure] == right[:UNSURE]
    assert gallery.wrong == len(wrong)
    assert not gallery.stored
    first = gallery.mistakes[0]
    assert (first.true, first.answered) == (
        stored.classes[answers.targets[wrong[0]]],
        stored.classes[answers.predicted[wrong[0]]],
    )
    assert (first.path, first.sure, first.picture) == (answers.paths[wrong[0]], answers.prob[wrong[0]], "")


def test_of_sets_the_surest_wrong_label_counts(tmp_path: Path) -> None:
    stored = opened(make_run(tmp_path, n=100, sets=True, sure=1.0))
    answers = stored.answers
    assert isinstance(answers, AnswersOfSets)
    assert answers.probs is not None
    gallery = gallery_of(stored)
    for one in gallery.mistakes:
        true, answered, probs = answers.targets[one.row], answers.predicted[one.row], answers.probs[one.row]
        wrong = [p if a else 1 - p for t, a, p in zip(true, answered, probs, strict=True) if t != a]
        assert one.sure == max(wrong)
        names = [name for name, has in zip(stored.classes, true, strict=True) if has]
        assert one.true == (" + ".join(names) or "no label")
    sure = [one.sure for one in gallery.mistakes]
    assert sure == sorted(sure, reverse=True)
    assert all(answers.right[one.row] for one in gallery.unsure)


def test_stored_pictures_are_put_to_their_rows(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=60, sure=1.0, pictures=20)
    gallery = gallery_of(opened(folder))
    assert gallery.stored
    every = (*gallery.mistakes, *gallery.unsure, *gallery.others)
    shown = {one.row: one for one in every if one.picture}
    assert set(shown) == set(range(20))
    place = folder.path / "evaluations" / "test@40" / "images"
    for row, one in shown.items():
        for data, name in ((one.picture, f"{row:04d}.webp"), (one.overlay, f"{row:04d}-cam.webp")):
            head, _, content = data.partition(",")
            assert head == "data:image/webp;base64"
            assert base64.b64decode(content) == (place / name).read_bytes()
        assert one.overlay_of == "cat"


@pytest.mark.parametrize("name", ["../../run.json", "/etc/hostname", "a.png", "x.webp\n", "", None, 7, "gone.webp"])
def test_only_webp_files_of_the_evaluation_are_read(tmp_path: Path, name: object) -> None:
    folder = make_run(tmp_path, n=60, sure=1.0, pictures=3)
    gallery = changed(folder, file=name)
    assert not any(one.picture for one in (*gallery.mistakes, *gallery.unsure, *gallery.others) if one.row == 0)
    assert gallery.notes == ("1 stored picture did not fit into this page, or cannot be read.",)


def test_a_file_that_is_no_webp_is_not_shown(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=60, sure=1.0, pictures=3)
    (folder.path / "evaluations" / "test@40" / "images" / "0000.webp").write_bytes(b"<svg onload=alert(1)>")
    gallery = gallery_of(opened(folder))
    assert sum(bool(one.picture) for one in (*gallery.mistakes, *gallery.unsure, *gallery.others)) == 2


@pytest.mark.parametrize("more", [{"row": 1}, {"row": -1}, {"row": 10**6}, {"row": "0"}, {"path": "other.png"}])
def test_pictures_of_other_predictions_are_left_out(tmp_path: Path, more: dict[str, object]) -> None:
    gallery = changed(make_run(tmp_path, n=60, sure=1.0, pictures=3), **more)
    assert not gallery.stored
    assert gallery.notes == ("Pictures that do not belong to these predictions are left out.",)


def test_notes_and_unread_files_of_the_evaluation_are_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=60, pictures=3)
    file = folder.path / "evaluations" / "test@40" / "images.json"
    more = {"note": "this network gives no maps: why", "left_out": [{"row": 9, "path": "a\x1b.png", "reason": "gone"}]}
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    assert gallery_of(opened(folder)).notes == (
        "this network gives no maps: why",
        "1 picture could not be read when this was scored: a\\x1b.png",
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: [], "AttributeError"),
        (lambda content: {}, "KeyError"),
        (lambda content: content | {"images": ["0000.webp"]}, "TypeError"),
        (lambda content: content | {"images": [{"row": 0}]}, "KeyError"),
        (lambda content: content | {"images": 3}, "TypeError"),
        (lambda content: content | {"left_out": ["a.png"]}, "TypeError"),
    ],
)
def test_a_damaged_list_of_pictures_costs_the_pictures_alone(
    tmp_path: Path, change: Callable[[dict[str, object]], object], reason: str
) -> None:
    folder = make_run(tmp_path, n=60, sure=1.0, pictures=3)
    file = folder.path / "evaluations" / "test@40" / "images.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    gallery = gallery_of(opened(folder))
    assert gallery.notes == (f"images.json cannot be read ({reason}), so pictures are left out.",)
    assert not gallery.stored
    assert gallery.mistakes


def test_of_more_labels_than_are_told_the_evaluation_knows_the_surest(tmp_path: Path) -> None:
    folder = make_run(tmp_path, classes=[f"label {n}" for n in range(101)], n=60, sets=True, sure=1.0, pictures=9)
    gallery = gallery_of(opened(folder))
    assert gallery.ordered
    assert [one.row for one in gallery.mistakes] == [1, 3, 5, 7], "as images.json has them"
    assert [one.row for one in gallery.others] == [0, 2, 4, 6, 8]
    assert {one.sure for one in gallery.mistakes} == {None}
    html = html_of(page_of(folder))
    assert "4 of 60 wrong answers, the surest first: what is true → what was answered. Labels of data" in text_of(html)
    (folder.path / "evaluations" / "test@40" / "images.json").unlink()
    gallery = gallery_of(opened(folder))
    assert (gallery.ordered, gallery.unsure) == (False, ())
    assert [one.row for one in gallery.mistakes] == [*range(MISTAKES)]
    text = text_of(html_of(page_of(folder)))
    assert "24 of 60 wrong answers, the first of predictions.csv, which does not have how sure the model was" in text
    assert "urest" not in text.split("Images to look at")[1].split("Can the probabilities")[0]


def test_pictures_take_no_more_room_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path, n=60, sure=1.0, pictures=20)
    place = folder.path / "evaluations" / "test@40" / "images"
    sizes = [
        len(base64.b64encode((place / f"{row:04d}{kind}.webp").read_bytes())) + 23
        for row in range(20)
        for kind in ("", "-cam")
    ]
    room = sum(sizes[:10])
    monkeypatch.setattr(pictures, "ROOM", room)
    gallery = gallery_of(opened(folder))
    every = (*gallery.mistakes, *gallery.unsure, *gallery.others)
    assert np.sum([len(one.picture) + len(one.overlay) for one in every]) <= room
    assert sum(bool(one.picture) for one in every) >= 5
    assert any("did not fit" in note for note in gallery.notes)
