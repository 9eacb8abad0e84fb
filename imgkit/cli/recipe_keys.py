"""The page of all recipe keys, written from the schema: names, defaults, and what its comments say of each."""

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from imgkit.recipe.augment import AugmentSettings
from imgkit.recipe.schema import (
    BudgetSettings,
    DataSettings,
    ModelSettings,
    PhaseSettings,
    Recipe,
    RunSettings,
    SaveSettings,
    TrainSettings,
)
from imgkit.recipe.toml import value_text

_TABLES: tuple[type[BaseModel], ...] = (
    *(DataSettings, ModelSettings, TrainSettings, PhaseSettings, AugmentSettings),
    *(BudgetSettings, SaveSettings, RunSettings),
)
_HEAD = """# Recipe keys

Every key of a [recipe](recipes.md), its default and what it means. `--set` reaches them all, such as
`--set train.batch_size=64`; "none" switches off what can be off. Keys of `[loss]` and `[schedule]` depend on their
`name`: [losses](losses.md), [schedules](schedules.md). Written by `make docs` from the schema; do not edit.
"""


def page() -> str:
    """The page of the site, in Markdown."""
    parts = [_HEAD, "## Of the whole\n", *_table(Recipe)]
    for kind in _TABLES:
        title, _, about = (kind.__doc__ or "").partition("\n")[0].partition(": ")
        parts += [f"\n## {title.strip('`')}\n" if title.startswith("`") else "\n## [[phases]]\n"]
        parts += [f"{(about or title)[0].upper()}{(about or title)[1:]}\n", *_table(kind)]
    return "\n".join(parts).rstrip() + "\n"


def comments(kind: type[BaseModel]) -> dict[str, str]:
    """What the comments of a class say of each field: behind it and in lines that go on, else in lines before."""
    source = inspect.getsource(kind)
    said = {
        token.start[0]: (token.string.removeprefix("#").strip(), not token.line[: token.start[1]].strip())
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }  # row -> text, and whether it has the line for itself
    found = {}
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.end_lineno or node.lineno
            texts = [said[row][0] for row in range(node.lineno, last + 1) if row in said]
            step, row = (1, last + 1) if texts else (-1, node.lineno - 1)
            while row in said and said[row][1]:
                texts.insert(len(texts) if step == 1 else 0, said[row][0])
                row += step
            found[node.target.id] = " ".join(texts)
    return found


def _table(kind: type[BaseModel]) -> Iterator[str]:
    yield from ("| key | default | |", "|---|---|---|")
    meaning = comments(kind)
    for name, field in kind.model_fields.items():
        if name == "overrides" or (kind is Recipe and name in Recipe.model_fields and _is_table(field)):
            continue
        choices = ", ".join(f"`{one}`" for one in _choices(field.annotation) if isinstance(one, str))
        words = (
            "; ".join(text for text in (choices, meaning[name]) if text).replace("|", "\\|").replace("None:", "none:")
        )
        yield f"| `{field.alias or name}` | {_default(field)} | {words} |"


def _is_table(field: FieldInfo) -> bool:
    return field.alias is None and (
        isinstance(field.default, BaseModel) or field.annotation == tuple[PhaseSettings, ...]
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value: Any = field.get_default(call_default_factory=True)
    return "`{}`" if value == {} else f"`{value_text(value)}`"


def _choices(annotation: Any) -> Iterator[object]:  # noqa: ANN401
    """The values of every Literal in an annotation."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
        return
    for part in get_args(annotation):
        yield from _choices(part)
