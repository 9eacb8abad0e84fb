"""The labelling page in a real browser, by its keys; left out where playwright or chromium is not installed."""

from pathlib import Path
from typing import Any

import pytest
from browser_tab import MARKS, NEEDED, Tab
from payloads import PAYLOADS
from sittings import CLASSES, session_of

from imgkit.labelling.answers import Answers
from imgkit.labelling.server import labelling

pytest.importorskip("playwright.sync_api", reason=NEEDED)
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=NEEDED)
pytestmark = MARKS
pytest_plugins = ["browser_fixture"]


class OwnTab(Tab):
    """A page of a session."""

    def __init__(self, browser: Any, address: str, **context: Any) -> None:  # noqa: ANN401
        super().__init__(browser, address, **context)
        self.image(1)

    def image(self, number: int) -> None:
        """Wait until image `number`, counted from 1, is on the screen."""
        self.page.locator("#told").filter(has_text=f"Image {number} of ").wait_for()

    def press(self, key: str, then: int) -> str:
        """Press a key, wait for an image, and give what was said."""
        self.page.keyboard.press(key)
        self.image(then)
        return str(self.page.locator("#told").text_content())


def labels(place: Path) -> dict[str, str]:
    return {path: answer.label for path, answer in Answers(place / "labels.csv").rows.items()}


def test_all_goes_by_keys(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    session = session_of(tmp_path, 5)
    with labelling(session) as address:
        tab = OwnTab(browser, address)
        assert "Suggested: dog, 50 %" in tab.page.locator("#told").text_content()
        assert tab.page.evaluate("document.getElementById('picture').naturalWidth") == 16
        assert tab.press("Enter", 2).startswith("dog. Image 2 of 5.")
        tab.press("1", 3)
        tab.press("Space", 4)
        tab.press("3", 5)
        assert labels(tmp_path) == {"0.png": "dog", "1.png": "cat", "3.png": "eel"}
        assert tab.press("ArrowLeft", 4).startswith("Image 4 of 5. It is eel.")
        assert tab.page.locator("[aria-pressed=true]").text_content() == "3 eel"
        tab.press("2", 5)
        assert labels(tmp_path)["3.png"] == "dog"
        assert tab.press("Backspace", 4).startswith("Taken back. Image 4 of 5. It is eel.")
        tab.page.keyboard.press("Control+z")
        tab.page.get_by_text("2 answered, 3 left").wait_for()
        assert labels(tmp_path) == {"0.png": "dog", "1.png": "cat"}
        for key, then in (("1", 5), ("1", 3)):
            tab.press(key, then)
        tab.page.keyboard.press("1")
        tab.page.get_by_text("cat. All images have an answer. Image 3 of 5.").wait_for()
        assert session.left == 0
        assert tab.told == []


def test_a_held_key_and_keys_of_the_browser_answer_nothing(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    with labelling(session_of(tmp_path, 5)) as address:
        tab = OwnTab(browser, address)
        tab.page.keyboard.down("1")
        tab.page.keyboard.down("1")  # as a held key repeats
        tab.page.keyboard.up("1")
        tab.image(2)
        for key in ("Control+1", "Alt+1", "9", "x", "Tab"):
            tab.page.keyboard.press(key)
        assert labels(tmp_path) == {"0.png": "cat"}
        tab.page.get_by_label("Answer by keys").uncheck()
        tab.page.keyboard.press("1")
        tab.page.get_by_role("button", name="3 eel").click()
        tab.image(3)
        assert labels(tmp_path) == {"0.png": "cat", "1.png": "eel"}


def test_two_tabs_and_what_cannot_be_kept(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    with labelling(session_of(tmp_path, 3)) as address:
        one, two = OwnTab(browser, address), OwnTab(browser, address)
        one.press("1", 2)
        assert "Another tab had answered cat; this answer replaced it." in two.press("3", 2)
        assert labels(tmp_path) == {"0.png": "eel"}
        (tmp_path / "labels.csv").write_text("mine")
        one.page.keyboard.press("1")
        one.page.locator("#trouble").wait_for(state="visible")
        assert "was changed by something else meanwhile" in one.page.locator("#trouble").text_content()
    two.page.keyboard.press("Space")
    two.page.locator("#trouble").wait_for(state="visible")
    assert "no longer answers" in two.page.locator("#trouble").text_content()


def test_an_image_that_cannot_be_read_is_skipped(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    session = session_of(tmp_path, 2)
    (tmp_path / "photos" / "0.png").write_bytes(b"not a picture")
    with labelling(session) as address:
        tab = OwnTab(browser, address)
        assert tab.page.locator("#unread").is_visible()
        tab.page.keyboard.press("1")
        tab.page.locator("#trouble").wait_for(state="visible")
        tab.press("Space", 2)
        assert not tab.page.locator("#trouble").is_visible()
        assert labels(tmp_path) == {}


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("classes", [CLASSES, tuple(PAYLOADS)])
def test_it_is_accessible(
    browser: Any,  # noqa: ANN401
    tmp_path: Path,
    classes: tuple[str, ...],
    scheme: str,
    width: int,
) -> None:
    with labelling(session_of(tmp_path, 3, classes=classes)) as address:
        tab = OwnTab(browser, address, viewport={"width": width, "height": 900}, color_scheme=scheme)
        tab.press("1", 2)
        found = axe.Axe().run(tab.page)
        assert found.response["violations"] == []
        assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        if len(classes) > 36:
            tab.page.keyboard.press("/")
            tab.page.keyboard.type(classes[-1][:12])
            tab.page.keyboard.press("Escape")
            tab.press("ArrowRight", 3)
        assert tab.told == []
