"""The application: what is asked at which path, and how it is answered."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from imgkit import __version__, machine
from imgkit.errors import BadImage, DeviceError, ImgkitError
from imgkit.serving.answers import Health, answer_shape, answers_shape
from imgkit.serving.bodies import FORM, JSON, Picture, Pictures, Sent, one_picture, several_pictures
from imgkit.serving.gate import RETRY_S, Gate
from imgkit.serving.page import page_of, reference_of
from imgkit.serving.passes import Passes
from imgkit.serving.refusal import CLOSE, Problem, Refused, json_answer
from imgkit.serving.served import Served

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

_THREADS = 8  # that decode, at most: each may hold a picture of max_pixels
_PROBLEMS = {
    403: "The request comes from another page.",
    408: "The request did not come in time.",
    413: "The request is too long.",
    415: "Pictures come in another form.",
    421: "The request is for another server.",
    422: "The request or its picture cannot be read.",
    503: "Too many ask at once, or memory ran out.",
}


@dataclass(frozen=True)
class Limits:
    """What a request may take of the machine.

    Args:
        body_bytes: of its body.
        images: that it may bring.
        requests: with pictures at a time; a further one is told to ask again.
    """

    body_bytes: int = 20_000_000
    images: int = 64
    requests: int = 32


class Asked(BaseModel):
    """The query of a request; another word in it is an error."""

    model_config = ConfigDict(extra="forbid")

    top_k: int = Field(default=1, ge=1, description="Classes to tell, the most likely ones; more than all means all.")


class Desk:
    """Pictures in, rows out: decoding by a few threads, and the network asked for all requests together.

    Args:
        served: the model.
    """

    def __init__(self, served: Served) -> None:
        self.served = served
        self._passes = Passes(served.probabilities)
        self._decoders = ThreadPoolExecutor(min(_THREADS, machine.cores()), "decode")

    async def row(self, sent: Sent, top_k: int) -> dict[str, object]:
        """What the model says of a picture.

        Raises:
            BadImage: if it cannot be read.
            DeviceError: if memory runs out.
        """
        loop = asyncio.get_running_loop()
        image = await loop.run_in_executor(self._decoders, self.served.pixels, sent.content, sent.name)
        return self.served.row(sent.name, await self._passes(image), top_k)

    async def rows(self, several: Sequence[Sent], top_k: int) -> list[dict[str, object]]:
        """The same of several; one that cannot be read has a row that says why."""

        async def row(sent: Sent) -> dict[str, object]:
            try:
                return await self.row(sent, top_k)
            except BadImage as error:
                return self.served.unread(sent.name, error.reason)

        return await asyncio.gather(*map(row, several))


def make_app(
    served: Served,
    *,
    limits: Limits | None = None,
    hosts: frozenset[str] | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> Gate:
    """The application that answers with a model.

    Args:
        served: the model.
        limits: what a request may take.
        hosts: see `Gate`.
        tell: given a line for each request.
    """
    from fastapi import FastAPI

    limits = limits or Limits()
    app = FastAPI(title="imgkit serve", version=__version__, docs_url=None, redoc_url=None)
    _tell_problems(app)
    _add_pages(app, served, limits)
    _add_answers(app, Desk(served), limits)
    return Gate(app, hosts=hosts, most=limits.requests, tell=tell)


def _add_answers(app: "FastAPI", desk: Desk, limits: Limits) -> None:
    from fastapi import Query, Request

    query = Annotated[Asked, Query()]
    answer = answer_shape(several=desk.served.several, columns=desk.served.columns)
    problems = {status: {"model": Problem, "description": words} for status, words in _PROBLEMS.items()}
    one, some = Picture.model_json_schema(), _inlined(Pictures.model_json_schema(), limits.images)
    of_one: Any = {200: {"model": answer, "description": "An Answer."}, **problems}
    told = "An Answer for each picture, in the order in which they were sent: answers."
    of_some: Any = {200: {"model": answers_shape(answer), "description": told}, **problems}

    @app.post("/predict", responses=of_one, response_model=None, openapi_extra=_bodies(one, "image", _FILE))
    async def predict(request: Request, asked: query) -> "Response":
        """Label one picture."""
        sent = await one_picture(request, limits.body_bytes)
        try:
            return json_answer(await desk.row(sent, asked.top_k))
        except BadImage as error:
            raise Refused(422, f"The picture cannot be read: {error.reason}.", "Send another one.") from None

    files = {"type": "array", "items": _FILE, "minItems": 1, "maxItems": limits.images}

    @app.post("/predict/batch", responses=of_some, response_model=None, openapi_extra=_bodies(some, "images", files))
    async def predict_batch(request: Request, asked: query) -> "Response":
        """Label several pictures; one that cannot be read has an answer that says why."""
        sent = await several_pictures(request, limits.body_bytes, limits.images)
        return json_answer({"answers": await desk.rows(sent, asked.top_k)})


def _add_pages(app: "FastAPI", served: Served, limits: Limits) -> None:
    from fastapi.responses import HTMLResponse

    @app.get("/healthz", responses={200: {"model": Health, "description": "What is served."}}, response_model=None)
    async def health() -> "Response":
        """Whether pictures are answered, and by what."""
        return json_answer(served.health())

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(page_of(served))

    @app.get("/reference", include_in_schema=False)
    async def reference() -> HTMLResponse:
        return HTMLResponse(reference_of(app.openapi(), served, limits.body_bytes))


def _tell_problems(app: "FastAPI") -> None:
    """Have all that goes wrong answered in one shape."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    @app.exception_handler(Refused)
    async def refused(request: "Request", error: Refused) -> "Response":
        return error.answer()

    @app.exception_handler(HTTPException)
    async def of_http(request: "Request", error: HTTPException) -> "Response":
        return Refused(error.status_code, f"{error.detail}.", "What there is: /reference", error.headers).answer()

    @app.exception_handler(RequestValidationError)
    async def of_query(request: "Request", error: RequestValidationError) -> "Response":
        first = error.errors()[0]
        return Refused(422, f"{first['loc'][-1]}: {first['msg']}", "What is expected: /reference").answer()

    @app.exception_handler(ImgkitError)
    async def of_ours(request: "Request", error: ImgkitError) -> "Response":
        if not isinstance(error, DeviceError):
            raise error
        return Refused(503, error.message, error.hint, {"Retry-After": str(RETRY_S)}).answer()

    @app.exception_handler(Exception)
    async def of_a_bug(request: "Request", error: Exception) -> "Response":
        # uvicorn ends a connection on which a bug happened
        return Refused(500, "imgkit failed.", "Its log says where.", CLOSE).answer()


_FILE = {"type": "string", "format": "binary"}


def _bodies(as_json: dict[str, Any], field: str, parts: dict[str, Any]) -> dict[str, Any]:
    """How the description of the interface tells the two forms of a body."""
    form = {"type": "object", "properties": {field: parts}, "required": [field], "additionalProperties": False}
    encoding = {field: {"contentType": "image/*"}}
    content = {JSON: {"schema": as_json}, FORM: {"schema": form, "encoding": encoding}}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema: dict[str, Any], most: int) -> dict[str, Any]:
    """The schema of `Pictures` without references, and with the most there may be."""
    schema["properties"]["images"] |= {"items": schema.pop("$defs")["Picture"], "maxItems": most}
    return schema
