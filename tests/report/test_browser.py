"""The page in a real browser, with the network off; left out where playwright or chromium is not installed."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_runs import make_run
from payloads import PAYLOADS

from imgkit.report.run_page import write_run_page
from imgkit.run import RunFolder

playwright = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    # playwright's own sockets, as it is shut down
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Any]:  # noqa: ANN401
    """Makes a run with these arguments and opens its page; no console message may have come at the end."""
    told, contexts = list[str](), list[Any]()

    def go(width: int = 1280, scheme: str = "light", **run: Any) -> Any:  # noqa: ANN401
        file = write_run_page(make_run(tmp_path, **run))
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("dialog", lambda dialog: told.append(f"dialog {dialog.message}"))
        page.on(
            "request", lambda request: told.append(request.url) if request.url[:5] not in ("file:", "data:") else None
        )
        page.goto(file.as_uri())
        contexts.append(context)
        return page

    yield go
    for context in contexts:
        context.close()
    assert told == []


def column(page: Any, table: int, cell: int) -> list[str]:  # noqa: ANN401
    rows = page.locator("table.sortable").nth(table).locator("tbody tr:not([hidden])")
    return rows.evaluate_all(f"rows => rows.map(row => row.cells[{cell}].textContent.trim())")


def test_tables_sort_and_search(visit: Any) -> None:  # noqa: ANN401
    page = visit(classes=[f"class {number}" for number in range(12)], n=240, sure=2.0)
    table = page.locator("table.sortable").nth(1)
    button = table.get_by_role("button", name="F1")
    before = column(page, 1, 5)
    button.click()
    assert button.locator("xpath=..").get_attribute("aria-sort") == "descending"
    assert column(page, 1, 5) == sorted(before, key=float, reverse=True)
    button.press("Enter")
    assert button.locator("xpath=..").get_attribute("aria-sort") == "ascending"
    assert column(page, 1, 5) == sorted(before, key=float)
    table.get_by_role("button", name="class").first.click()
    assert column(page, 1, 0) == [f"class {number}" for number in range(12)], "2 before 10"
    rows = page.locator("table.sortable").nth(1).locator("tbody tr").all_text_contents()
    page.get_by_label("Find a class").first.fill("CLASS 1")
    found = [f"class {number}" for number, text in enumerate(rows) if "class 1" in text]
    assert column(page, 1, 0) == found
    assert 3 <= len(found) < 12
    assert page.get_by_role("status").first.text_content() == f"{len(found)} of 12 rows"


def test_a_cell_shows_its_images_and_focus_comes_back(visit: Any) -> None:  # noqa: ANN401
    page = visit(n=120, sure=1.0, pictures=60)
    button = page.locator(".matrix .wrong button").first
    n = int(button.text_content())
    button.focus()
    page.keyboard.press("Enter")
    panel = page.locator("#cell")
    assert panel.is_visible()
    assert f": {n} (" in panel.locator("h3").text_content()
    assert panel.locator("#cell-gallery li").count() + panel.locator("#cell-paths li").count() == min(n, 12)
    assert panel.evaluate("panel => panel === document.activeElement")
    page.keyboard.press("Escape")
    assert not panel.is_visible()
    assert button.evaluate("button => button === document.activeElement")


def test_a_drawn_matrix_is_read_by_pointer_and_keys(visit: Any) -> None:  # noqa: ANN401
    page = visit(classes=[f"class {number}" for number in range(60)], n=600, sure=1.5)
    canvas, readout = page.locator("#matrix"), page.locator("#readout")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    first = readout.text_content()
    page.keyboard.press("ArrowDown")
    assert readout.text_content() != first
    page.keyboard.press("ArrowLeft")
    assert readout.text_content() == first
    page.keyboard.press("Enter")
    assert page.locator("#cell h3").text_content() == first
    assert page.locator("#cell-paths li").count() > 0
    page.locator("#cell-close").click()
    width = canvas.bounding_box()["width"]
    page.get_by_role("button", name="Larger").click()
    assert canvas.bounding_box()["width"] > width
    canvas.click(position={"x": 3, "y": 3})
    assert "answered" in page.locator("#cell h3").text_content()
    drawn = canvas.evaluate(
        "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
    )
    assert drawn > 10, "something is drawn"


def test_maps_are_switched_and_colours_too(visit: Any) -> None:  # noqa: ANN401
    page = visit(n=60, sure=1.0, pictures=60, scheme="dark")
    plain, overlay = page.locator("img.plain").first, page.locator("img.map").first
    assert (plain.is_visible(), overlay.is_visible()) == (True, False)
    page.get_by_label("Show where the network looked").check()
    assert (plain.is_visible(), overlay.is_visible()) == (False, True)
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    page.get_by_role("button", name="Light colours").click()
    light = page.evaluate(paper)
    assert sum(map(int, light[4:-1].split(","))) > 600 > sum(map(int, dark[4:-1].split(",")))
    page.emulate_media(media="print")
    assert not page.locator("#theme").is_visible()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("sets", [False, True])
def test_nothing_is_wider_than_the_screen(visit: Any, width: int, sets: bool) -> None:  # noqa: ANN401
    names = [f"a_rather_long_name_of_a_class_that_has_no_space_{number}" for number in range(20)]
    page = visit(width, classes=names, n=100, sure=1.0, sets=sets, pictures=9)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_names_that_attack_do_nothing(visit: Any) -> None:  # noqa: ANN401
    page = visit(classes=list(PAYLOADS), n=400, sure=0.5, paths=[f"{PAYLOADS[n % 41]}{n}" for n in range(400)])
    for button in page.locator("[data-cell]").all()[:20]:
        button.click()
    assert page.evaluate("document.querySelectorAll('script').length") == 3
    assert page.locator("iframe, object, form, base, template, math, img").count() == 0


def test_a_thousand_classes_stay_quick(visit: Any) -> None:  # noqa: ANN401
    page = visit(classes=[f"class {number}" for number in range(1000)], n=3000, sure=3.0)
    seconds = page.evaluate(
        """() => {
            const began = performance.now();
            const table = document.querySelectorAll("table.sortable")[1];
            for (const button of table.querySelectorAll("button.sort")) button.click();
            const input = document.querySelectorAll("input[type=search]")[0];
            for (const text of ["9", "99", "999", ""]) {
              input.value = text;
              input.dispatchEvent(new Event("input"));
              table.offsetHeight;
            }
            return (performance.now() - began) / 1000;
        }"""
    )
    assert seconds < 10, "eight sorts and four searches; a busy machine is allowed for"


def test_a_page_that_is_read_again_keeps_its_readers_place(visit: Any, tmp_path: Path) -> None:  # noqa: ANN401
    page = visit(classes=[f"class {number}" for number in range(40)], n=400, sure=2.0)
    folder = RunFolder(tmp_path / "one")
    folder.set_status("running", step=40, total_steps=80, best=folder.read_json("status.json")["best"])
    write_run_page(folder)
    page.reload()
    table = page.locator("table.sortable").nth(1)
    for _ in range(2):
        table.get_by_role("button", name="recall").click()
    page.get_by_label("Find a class").first.fill("class 1")
    details = page.locator("details")
    opened = [number for number in range(details.count()) if number % 2]
    for number in opened:
        details.nth(number).evaluate("one => { one.open = true; }")
    page.evaluate("scrollTo({ top: 1234, behavior: 'instant' })")
    shown = column(page, 1, 0)

    rows = folder.history()
    folder.append_row("history.jsonl", {**rows[-1], "epoch": 5, "step": 50, "best": False})
    with page.expect_event("load", timeout=20_000):  # by its own clock, five seconds
        write_run_page(folder)
    assert page.evaluate("scrollY") == 1234
    assert table.get_by_role("button", name="recall").locator("xpath=..").get_attribute("aria-sort") == "ascending"
    assert page.get_by_label("Find a class").first.input_value() == "class 1"
    assert column(page, 1, 0) == shown
    assert 3 <= len(shown) < 40
    assert [number for number in range(details.count()) if details.nth(number).evaluate("one => one.open")] == opened
    assert len(column(page, 0, 0)) == 5, "the new epoch is there"
