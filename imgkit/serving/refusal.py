"""What a request is told that is not answered: one shape for all, of JSON."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from starlette.responses import Response

CLOSE = {"Connection": "close"}
"""Header of an answer after which the connection ends."""


class Problem(BaseModel):
    """Why a request was not answered."""

    model_config = ConfigDict(extra="forbid")

    error: str = Field(description="What is wrong.")
    hint: str = Field(description="What to do about it; may be empty.")


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        error: what is wrong.
        hint: what to do about it.
        headers: of the answer, besides the usual ones.
    """

    def __init__(self, status: int, error: str, hint: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.hint, self.headers = status, error, hint, headers

    def answer(self) -> "Response":
        """What is sent."""
        return json_answer({"error": self.error, "hint": self.hint}, self.status, self.headers)


def json_answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> "Response":
    """An answer of JSON, in ASCII: a class may have a name that is not UTF-8."""
    from starlette.responses import Response

    text = json.dumps(content, allow_nan=False)
    return Response(text, status, dict(headers or {}), media_type="application/json")
