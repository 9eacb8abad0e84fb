"""Both pages in a real browser, offline, by axe's rules of accessibility: `make browser`."""

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
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH"),
    # playwright's own sockets, as it is shut down
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

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
        "hostile": make_run(out, "hostile", n=96, sure=1.0, classes=NAMES, model=NAMES[0], machine=NAMES[1]),
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


def test_in_print_nothing_is_cut_off(browser: "Browser", pages: dict[str, Path]) -> None:
    page = Opened(browser, pages["labels"], 1280, "light").page
    page.emulate_media(media="print")
    hidden = "[...document.querySelectorAll('.region')].filter((one) => one.scrollHeight > one.clientHeight + 1).length"
    assert page.evaluate(hidden) == 0
    assert page.pdf().startswith(b"%PDF")
