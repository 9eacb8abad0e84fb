"""The page in a real browser; left out where playwright or chromium is not installed."""

import base64
from typing import Any

import pytest
from browser_tab import MARKS, NEEDED, Tab
from corpus import encoded
from payloads import PAYLOADS
from pictures import square
from served_models import CLASSES, answering, colours

pytest.importorskip("playwright.sync_api", reason=NEEDED)
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=NEEDED)
pytestmark = MARKS
pytest_plugins = ["browser_fixture"]
DROP = """([files, target]) => {
  const given = new DataTransfer();
  for (const [name, type, content] of files) {
    given.items.add(new File([Uint8Array.from(atob(content), (one) => one.charCodeAt(0))], name, { type }));
  }
  const options = { bubbles: true, cancelable: true };
  const way = target === "paste" ? new ClipboardEvent("paste", { ...options, clipboardData: given })
    : new DragEvent("drop", { ...options, dataTransfer: given });
  document.getElementById("drop").dispatchEvent(way);
}"""


class OwnTab(Tab):
    """The page."""

    def drop(self, *files: tuple[str, str, bytes], by: str = "drop") -> None:
        """Drop or paste files (name, type, content)."""
        given = [(name, kind, base64.b64encode(content).decode()) for name, kind, content in files]
        self.page.evaluate(DROP, [given, by])

    def cards(self, n: int) -> list[str]:
        """The texts of n cards, the newest first, once all are answered."""
        found = self.page.locator("#asked > li:has(h2, .trouble)")
        found.nth(n - 1).wait_for()
        return [str(text) for text in found.all_inner_texts()]


def picture(name: str, code: int, kind: str = "PNG") -> tuple[str, str, bytes]:
    return name, f"image/{kind.lower()}", encoded(square(0, code=code, side_px=64), kind)


def test_pictures_are_dropped_chosen_and_pasted(browser: Any) -> None:  # noqa: ANN401
    with answering(colours()) as client:
        tab = OwnTab(browser, str(client.base_url))
        tab.drop(picture("one.png", 0), picture("two.jpg", 1, "JPEG"))
        newest, oldest = tab.cards(2)
        found = [[line for line in one.split("\n") if line][:2] for one in (newest, oldest)]
        assert found == [["two.jpg", "green"], ["one.png", "red"]]
        name, kind, content = picture("three.tiff", 2, "TIFF")
        tab.page.locator("#files").set_input_files([{"name": name, "mimeType": kind, "buffer": content}])
        assert "three.tiff" in tab.cards(3)[0]
        tab.page.locator("#told").filter(has_text="three.tiff: blue").wait_for()
        tab.drop(picture("pasted.png", 1), by="paste")
        assert "pasted.png" in tab.cards(4)[0]
        tab.page.locator("#asked img").nth(2).wait_for()
        assert tab.page.locator("#asked img").count() == 3, "no browser shows TIFF"
        assert tab.page.locator("#asked li").first.locator("meter").count() == 3
        assert tab.told == []


def test_what_goes_wrong_is_told_and_the_next_picture_is_answered(browser: Any) -> None:  # noqa: ANN401
    with answering(colours(reject_at=0.99)) as client:
        tab = OwnTab(browser, str(client.base_url))
        tab.drop(("bad.png", "image/png", b"<html>"), picture("one.png", 0))
        newest, oldest = tab.cards(2)
        assert "an HTML page" in oldest
        assert "left open, unsure" in newest
    tab.drop(picture("two.png", 1))
    assert "imgkit serve does not answer" in tab.cards(3)[0]


def test_any_number_of_labels(browser: Any) -> None:  # noqa: ANN401
    with answering(colours(several=True)) as client:
        tab = OwnTab(browser, str(client.base_url))
        tab.drop(picture("one.png", 3))
        (text,) = tab.cards(1)
        assert {"red + green", "green + red"} & set(text.split("\n"))


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("classes", [CLASSES, tuple(PAYLOADS)])
def test_it_is_accessible(browser: Any, classes: tuple[str, ...], scheme: str, width: int) -> None:  # noqa: ANN401
    with answering(colours(classes=classes)) as client:
        tab = OwnTab(browser, str(client.base_url), viewport={"width": width, "height": 900}, color_scheme=scheme)
        tab.drop(picture("one.png", 0), ("bad.png", "image/png", b"x"))
        tab.cards(2)
        for path in ("/", "/reference"):
            if path == "/reference":
                tab.page.goto(str(client.base_url.join(path)))
            assert axe.Axe().run(tab.page).response["violations"] == []
            assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        assert ["status of 422" in one for one in tab.told] == [True], "a browser says of bad.png how it was answered"
