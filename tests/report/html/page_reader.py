"""A page as its parser sees it: what elements and attributes there are, and the texts within them."""

from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "img", "br", "hr"}


class PageReader(HTMLParser):
    """Reads a page strictly: a tag that closes another one than the last open one is an error."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []  # element, attribute, value
        self.texts: list[tuple[str, str]] = []  # innermost element, text
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> does not close what was opened last"

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))


def read_page(html: str) -> PageReader:
    reader = PageReader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def text_of(html: str) -> str:
    """What a person reads, with single spaces."""
    shown = [text for element, text in read_page(html).texts if element not in ("script", "style")]
    return " ".join(" ".join(shown).split())
