"""The browser that is started once for a module of tests."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser_tab import CHROMIUM, NEEDED


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason=NEEDED)
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()
