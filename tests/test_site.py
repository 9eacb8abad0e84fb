"""The site has every page, its links lead somewhere, and it is built from nothing but what is here."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from markdown.extensions.toc import slugify, unique

import imgkit

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def entries(nav: list[object]) -> Iterator[str]:
    """The pages of a navigation, in order."""
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, list):
            yield from entries(entry)
        elif isinstance(entry, dict):
            yield from entries(list(entry.values()))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as Python-Markdown names them."""
    names: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        unique(slugify(re.sub(r"[`*]", "", heading), "-"), names)
    return names


def dangling(page: Path) -> list[str]:
    """The links of a page that lead out of docs/, or nowhere."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not (file.is_file() and file.is_relative_to(DOCS)) or (anchor and anchor not in anchors(file)):
            found.append(f"{page.relative_to(DOCS)}: {target}")
    return found


def test_every_page_is_in_the_navigation_once() -> None:
    listed = list(entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == [str(page.relative_to(DOCS)) for page in PAGES]


def test_links_and_anchors_lead_somewhere_within_docs() -> None:
    assert [fault for page in PAGES for fault in dangling(page)] == []


@pytest.mark.parametrize("target", ["../README.md", "gone.md", "cli.md#no-such-heading", "#nor-this"])
def test_a_link_that_leads_nowhere_is_found(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# Up\n")
    shutil.copy(DOCS / "cli.md", tmp_path / "docs")
    page = tmp_path / "docs" / "page.md"
    page.write_text(f"# Page\n\n[good](cli.md#imgkit-data-check) [same](#page) [bad]({target})\n")
    monkeypatch.setitem(globals(), "DOCS", tmp_path / "docs")
    assert dangling(page) == [f"page.md: {target}"]


def test_the_reference_of_python_has_every_public_name() -> None:
    named = re.findall(r"^::: imgkit\.(\w+)$", (DOCS / "python-reference.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(imgkit.__all__)


@pytest.mark.slow
def test_the_pictures_of_the_tutorial_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / "tutorial.md").read_text(), re.DOTALL)
    (tmp_path / "pictures.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("pictures.py")
    assert len(list((tmp_path / "photos").glob("*.png"))) == 12


@pytest.mark.slow
def test_the_site_is_built_strictly_and_asks_no_other_machine(tmp_path: Path) -> None:
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(DOCS, tmp_path / "docs")
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built = sorted((tmp_path / "site").rglob("*.html"))
    assert len(built) > len(PAGES)
    for page in built:
        text = page.read_text()
        assert not re.findall(
            r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^>]*>", text
        ), page
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet
    reference = (tmp_path / "site" / "python-reference" / "index.html").read_text()
    assert all(f'id="imgkit.{name}"' in reference for name in imgkit.__all__)
