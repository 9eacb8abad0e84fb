import base64
import hashlib
import json
import re
from pathlib import Path

import jinja2
import pytest
from page_reader import read_page, text_of

from imgkit.report.html import shell
from imgkit.report.html.shell import data_block, render

HERE = Path(shell.__file__).parent


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small template beside the real ones, filled with what an attacker may call a class."""
    for file in HERE.glob("*.*"):
        if file.suffix in (".j2", ".css", ".js"):
            (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "try.html.j2").write_text(
        '{% extends "base.html.j2" %}{% block content %}<h1 title="{{ name }}">{{ name }}</h1>'
        '{{ data_block("all", [name]) }}{% endblock %}'
    )
    (tmp_path / "try.js").write_text("1 < 2;")
    monkeypatch.setattr(shell, "_HERE", tmp_path)
    shell._environment.cache_clear()
    shell._block.cache_clear()
    html = render("try.html.j2", title="a & b", name='"><script>alert(1)</script>\u202e\x00')
    shell._environment.cache_clear()
    shell._block.cache_clear()
    return html


def test_the_policy_names_exactly_the_blocks_of_the_page(page: str) -> None:
    policy = next(value for tag, name, value in read_page(page).attributes if tag == "meta" and "default-src" in value)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    blocks = re.findall(r"<(?:style|script)>(.*?)</(?:style|script)>", page, re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'" for block in blocks]
    assert len(blocks) == 3
    assert sorted(re.findall(r"'sha256-[^']*'", policy)) == sorted(hashes)


def test_texts_are_escaped_and_visible(page: str) -> None:
    read = read_page(page)
    assert read.elements["script"] == 3  # two of ours, and the data
    assert ("h1", "title", '"><script>alert(1)</script>\\u202e\\x00') in read.attributes
    assert '"><script>alert(1)</script>\\u202e\\x00' in text_of(page)
    assert not set(page) & {"\u202e", "\x00"}


def test_the_page_names_no_other_place(page: str) -> None:
    assert not re.search(
        r"https?:|//[a-z]|@import|url\(|\bfetch\b|XMLHttpRequest|WebSocket|innerHTML|document\.write|eval\(", page
    )


def test_data_cannot_end_their_block_and_read_back() -> None:
    value = {"a</script><!--": ["<", "\u2028", "&amp;", 0.5, None, "\x1b", "\ud800"]}
    block = data_block("x", value)
    inner = re.fullmatch(r'<script type="application/json" id="x">([^<>&\u2028]*)</script>', block)
    assert inner is not None
    assert json.loads(inner[1]) == {"a</script><!--": ["<", "\\u2028", "&amp;", 0.5, None, "\\x1b", "\\ud800"]}


def test_a_name_that_a_template_misses_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="name"):
        shell._environment().from_string("{{ name }}").render()


def test_no_style_and_no_handler_within_elements() -> None:
    for file in HERE.glob("*.j2"):
        assert not re.search(r"\s(style|on[a-z]+)=", file.read_text()), file.name
        assert "|safe" not in file.read_text().replace(" ", ""), file.name
