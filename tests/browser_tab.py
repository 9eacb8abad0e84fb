"""A page in a real browser, which asks nobody but its server and complains of nothing; for tests marked slow."""

import shutil
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDED = "the extra `browser` is not installed"
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    # playwright's own sockets, as it is shut down
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Tab:
    """The page.

    Attributes:
        told: what it complained of, and whom else it asked.
    """

    def __init__(self, browser: Any, address: str, **context: Any) -> None:  # noqa: ANN401
        self.page = browser.new_context(**context).new_page()
        self.told: list[str] = []
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on(
            "request", lambda one: None if one.url.startswith((address, "data:")) else self.told.append(one.url)
        )
        self.page.goto(address)
