"""The pages in a real browser: `make browser`, or pip install 'imgkit-timm[browser]' and a chromium on the PATH."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_runs import make_run
from payloads import PAYLOADS

from imgkit.report.collect import collect
from imgkit.report.run_page import write_run_page
from imgkit.report.runs_page import write_runs_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra `browser` is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")

NAMES = [f"{PAYLOADS[number % len(PAYLOADS)]} {number}" for number in range(24)]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file of each kind of page."""
    out = tmp_path_factory.mktemp("runs")
    runs = {
        "labels": make_run(out, "one", n=90, sure=1.5, pictures=12, copied=[1, 2]),
        "sets": make_run(out, "sets", n=60, sets=True, sure=1.0, pictures=6),
        "drawn": make_run(out, "drawn", n=600, sure=1.5, classes=[f"class {number}" for number in range(60)]),
        "hostile": make_run(out, "hostile", n=96, sure=1.0, classes=NAMES, where=NAMES[0]),
        "other": make_run(out, "two", n=90, sure=1.0, seed=1),
    }
    found = {name: write_run_page(run) for name, run in runs.items()}
    return found | {"runs": write_runs_page(out, collect(out))}


class Opened:
    """A page that is open, and what it complained of or asked the network for."""

    def __init__(self, browser: "Browser", file: Path, width: int, scheme: str) -> None:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append("a dialog") or dialog.dismiss())
        self.page.on("request", lambda request: self.asked.append(request.url.split(":")[0]))
        self.page.goto(file.as_uri())


KINDS = ["labels", "sets", "drawn", "hostile", "runs"]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_offline_without_a_complaint_and_is_accessible(
    browser: "Browser", pages: dict[str, Path], kind: str, scheme: str, width: int
) -> None:
    opened = Opened(browser, pages[kind], width, scheme)
    assert opened.complaints == []
    assert set(opened.asked) <= {"file", "data"}
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.Axe().run(opened.page)
    told = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found.response["violations"]]
    assert told == []


def test_a_table_sorts_and_says_which_way(browser: "Browser", pages: dict[str, Path]) -> None:
    page = Opened(browser, pages["labels"], 1280, "light").page
    table = page.locator("section[aria-labelledby=classes] table")
    header = table.get_by_role("columnheader", name="recall")
    header.get_by_role("button").click()
    column = header.evaluate("(cell) => cell.cellIndex")
    shown = [float(text) for text in table.locator(f"tbody tr > :nth-child({column + 1})").all_inner_texts()]
    assert header.get_attribute("aria-sort") == "descending"
    assert shown == sorted(shown, reverse=True)
    assert len(set(shown)) > 1
    header.get_by_role("button").press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"


def test_a_search_leaves_the_rows_that_have_the_words(browser: "Browser", pages: dict[str, Path]) -> None:
    page = Opened(browser, pages["drawn"], 1280, "light").page
    section = page.locator("section[aria-labelledby=classes]")
    section.get_by_role("searchbox").fill("class 5")
    rows = section.locator("tbody tr")
    every = rows.evaluate_all("(rows) => rows.map((row) => row.textContent)")
    shown = section.locator("tbody tr:visible").evaluate_all("(rows) => rows.map((row) => row.textContent)")
    assert shown == [text for text in every if "class 5" in text]
    assert 11 <= len(shown) < len(every) == 60


def test_a_cell_shows_its_images_and_gives_the_focus_back(browser: "Browser", pages: dict[str, Path]) -> None:
    page = Opened(browser, pages["labels"], 1280, "light").page
    cell = page.locator(".matrix .wrong button").first
    many = int(cell.inner_text())
    cell.press("Enter")
    panel = page.locator("#cell")
    assert panel.is_visible()
    named = panel.locator("li").count()
    assert 0 < named <= many
    page.keyboard.press("Escape")
    assert not panel.is_visible()
    assert cell.evaluate("(button) => button === document.activeElement")


def test_a_drawn_matrix_answers_to_the_keyboard(browser: "Browser", pages: dict[str, Path]) -> None:
    page = Opened(browser, pages["drawn"], 1280, "light").page
    canvas = page.locator("#matrix")
    assert canvas.evaluate("(c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v) => v)")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert "answered" in page.locator("#cell-title").inner_text()


def test_the_switch_of_colours_changes_them_and_is_kept(browser: "Browser", pages: dict[str, Path]) -> None:
    page = Opened(browser, pages["labels"], 1280, "light").page
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    page.locator("#theme").click()
    assert page.evaluate(colour) != before


def test_in_print_nothing_is_cut_off(browser: "Browser", pages: dict[str, Path]) -> None:
    page = Opened(browser, pages["labels"], 1280, "light").page
    page.emulate_media(media="print")
    hidden = "[...document.querySelectorAll('.region')].filter((one) => one.scrollHeight > one.clientHeight + 1).length"
    assert page.evaluate(hidden) == 0
    assert page.pdf().startswith(b"%PDF")


def test_names_that_attack_make_no_element_and_run_nothing(browser: "Browser", pages: dict[str, Path]) -> None:
    page = Opened(browser, pages["hostile"], 1280, "light").page
    assert page.evaluate("Object.keys(window).filter((name) => /pwned|xss/i.test(name))") == []
    assert page.locator("iframe, object, embed, base, form, video, marquee").count() == 0
    assert page.locator("script").count() == page.locator("script:not([src])").count()
    shown = page.locator("section[aria-labelledby=classes] tbody th").all_inner_texts()
    assert len(shown) == len(NAMES)
