"""One self-contained HTML text from a template: style and scripts inlined, and nothing else allowed by its policy.

A template lies beside this file, extends `base.html.j2` and fills its block `content`. A script `NAME.js` beside
`NAME.html.j2` is inlined after `page.js`, and a `NAME.css` after `page.css`. Every text that a template puts out is
escaped and has its control and bidirectional characters made visible; `Markup` is put out as it is, and only `svg.py`,
`lanes.py` and this file make any.
"""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from imgkit import __version__
from imgkit.data.rows import count
from imgkit.errors import printable

_HERE = Path(__file__).parent


def render(template: str, *, title: str, live: bool = False, **context: object) -> str:
    """The HTML of a template ("run.html.j2").

    Args:
        template: its file name.
        title: of the page.
        live: the page may ask the server that it came from, and no other.
        context: names that the template reads; one that is missing is an error.
    """
    own, look = (_HERE / template.replace(".html.j2", suffix) for suffix in (".js", ".css"))
    scripts = [_block("page.js"), *([_block(own.name)] if own.is_file() else [])]
    style = _block("page.css") + (_block(look.name) if look.is_file() else "")
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            style=style,
            scripts=scripts,
            policy=_policy(style, scripts, live=live),
            version=__version__,
            **context,
        )
    )


def data_block(name: str, value: object) -> Markup:
    """`value` as JSON for the page's script, which finds it by the id `name`; no content can end the block early."""
    text = json.dumps(_visible(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup('<script type="application/json" id="{}">{}</script>').format(name, Markup(text))  # noqa: S704


def _policy(style: Markup, scripts: list[Markup], *, live: bool) -> str:
    """Only the inlined blocks, and pictures that are in the page itself; no network, no frame, no form.

    If `live`, also pictures and answers of the page's own server.
    """
    allowed = " ".join(map(_hash, scripts))
    asked = "img-src 'self' data:; connect-src 'self'" if live else "img-src data:"
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {allowed}; {asked}; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(block: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'"


@cache
def _block(name: str) -> Markup:
    return Markup((_HERE / name).read_text(encoding="utf-8"))  # noqa: S704  # a file of ours


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["data_block"] = data_block
    environment.filters["count"] = lambda number, *nouns: count(number, *nouns) if nouns else f"{number:,}"
    return environment


def _visible(value: object) -> object:
    """Texts, also those within lists and mappings, with what cannot be seen made visible."""
    if type(value) is str:
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(key)): _visible(one) for key, one in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "__html__"):
        return [_visible(one) for one in value]
    return value
