import json
import re
from pathlib import Path

from page_reader import read_page, text_of
from payloads import PAYLOADS
from sittings import session_of

from imgkit.labelling.page import KEYS, page_of


def test_classes_have_keys_and_the_keys_are_told(tmp_path: Path) -> None:
    html = page_of(session_of(tmp_path))
    text = re.sub(r"\s+", " ", text_of(html))
    for words in (
        "1 cat",
        "2 dog",
        "3 eel",
        "Enter Accept what is suggested",
        "Space Skip",
        "Backspace Take the latest",
    ):
        assert words in text
    task = re.search(r'<script type="application/json" id="task">(.*?)</script>', html)
    assert task is not None
    assert json.loads(task[1]) == {"keys": ["1", "2", "3"], "classes": ["cat", "dog", "eel"], "first": 0}
    assert "Find a class" not in text
    assert "Accept what is suggested" not in text_of(page_of(session_of(tmp_path, top=False)))


def test_classes_beyond_the_keys_are_found_by_name(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(len(KEYS) + 3))
    html = page_of(session_of(tmp_path, classes=names))
    assert "Find a class" in text_of(html)
    assert html.count('aria-pressed="false"') == len(names)
    assert len(set(KEYS)) == len(KEYS) == 36


def test_the_policy_lets_it_ask_its_own_server_alone(tmp_path: Path) -> None:
    html = page_of(session_of(tmp_path))
    policy = next(value for tag, _, value in read_page(html).attributes if tag == "meta" and "default-src" in value)
    assert policy.startswith("default-src 'none'; ")
    assert "img-src 'self' data:; connect-src 'self'; base-uri 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(
        r"https?:|//[a-z]|@import|url\(|XMLHttpRequest|WebSocket|innerHTML|document\.write|eval\(", html
    )


def test_names_that_attack_are_text(tmp_path: Path) -> None:
    read = read_page(page_of(session_of(tmp_path, classes=tuple(PAYLOADS))))
    assert read.elements["script"] == 3
    assert not {"iframe", "object", "form", "base"} & set(read.elements)
    assert read.elements["img"] == 1


def test_it_goes_on_at_the_first_image_without_an_answer(tmp_path: Path) -> None:
    session = session_of(tmp_path)
    session.answer(0, 0, None)
    assert '"first":1' in page_of(session)
