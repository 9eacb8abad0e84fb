"""The page of suspect labels: what it shows, what it leaves out, and names that are no markup."""

from pathlib import Path

import pytest
from payloads import PAYLOADS
from pictures import square

from imgkit.report import label_page
from imgkit.report.label_page import MOST, LabelPage, Noise, Suspect, write_label_page


def page_of(folder: Path, suspects: list[Suspect], names: list[str]) -> str:
    noise = [Noise(name, 10, 1.5, names[0]) for name in names]
    page = LabelPage("Labels", [("Data", names[0])], ["a note"], noise, suspects, len(suspects), "labels.csv")
    write_label_page(page, folder / "page.html", max_pixels=10_000)
    return (folder / "page.html").read_text()


def suspects_of(folder: Path, n: int, name: str = "a") -> list[Suspect]:
    square(0, code=0, side_px=16).save(folder / "one.png")
    return [Suspect(rank, f"{name} {rank}", folder / "one.png", name, "b", 0.9, 0.05) for rank in range(1, n + 1)]


def test_pictures_up_to_a_number_and_one_that_is_gone(tmp_path: Path) -> None:
    suspects = suspects_of(tmp_path, MOST + 5)
    text = page_of(tmp_path, suspects, ["a", "b"])
    assert text.count("data:image/webp;base64,") == MOST
    assert f"{MOST} of {MOST + 5} suspects" in text
    (tmp_path / "one.png").unlink()
    gone = page_of(tmp_path, suspects[:2], ["a", "b"])
    assert "data:image" not in gone
    assert gone.count("no picture") == 2


def test_pictures_within_the_room_of_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suspects = suspects_of(tmp_path, 10)
    one = len(label_page._data(tmp_path / "one.png", 10_000))
    monkeypatch.setattr(label_page, "ROOM", 3 * one + 1)
    assert page_of(tmp_path, suspects, ["a", "b"]).count('class="picture"') == 3


def test_names_are_no_markup(tmp_path: Path) -> None:
    plain = page_of(tmp_path, suspects_of(tmp_path, 2), ["a", "b"])
    for payload in PAYLOADS:
        text = page_of(tmp_path, suspects_of(tmp_path, 2, payload), [payload, "b"])
        assert text.count("<") == plain.count("<"), payload
        assert text.count("<script") == plain.count("<script"), payload
