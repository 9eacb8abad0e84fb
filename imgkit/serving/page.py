"""The pages of the server: one to try it on, and one that tells how it is asked."""

from collections.abc import Mapping
from typing import Any

from imgkit.report.html.shell import render
from imgkit.serving.served import Served

TOLD = 5
"""Classes that the page asks for."""


def page_of(served: Served) -> str:
    """The HTML on which pictures are dropped."""
    task = {"several": served.several, "top": min(TOLD, len(served.classes))}
    about = served.health()
    return render("serve.html.j2", title=f"Ask {about['run']}", live=True, task=task, about=about)


def reference_of(schema: Mapping[str, Any], served: Served, body_bytes: int) -> str:
    """The HTML of what may be asked and what is answered.

    Args:
        schema: the interface as OpenAPI has it.
        served: the model.
        body_bytes: that a request may have.
    """
    shapes = schema["components"]["schemas"]
    return render(
        "reference.html.j2",
        title="How to ask imgkit serve",
        operations=[_operation(path, way, one) for path, ways in schema["paths"].items() for way, one in ways.items()],
        shapes=[_shape(name, shapes[name]) for name in ("Answer", "Guess", "Problem")],
        max_pixels=served.member.max_pixels,
        body_bytes=body_bytes,
    )


def _operation(path: str, method: str, told: Mapping[str, Any]) -> dict[str, Any]:
    forms = told.get("requestBody", {}).get("content", {})
    return {
        "ask": f"{method.upper()} {path}",
        "words": told["description"],
        "query": [(one["name"], one.get("description", "")) for one in told.get("parameters", [])],
        "forms": [(kind, ", ".join(form["schema"]["properties"])) for kind, form in forms.items()],
        "statuses": [(status, one["description"]) for status, one in told["responses"].items()],
    }


def _shape(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    fields = [(field, one.get("description", "")) for field, one in told["properties"].items()]
    return {"name": name, "words": told.get("description", ""), "fields": fields}
