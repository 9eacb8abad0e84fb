"""The pictures that a request brings, as JSON or as a form: read within a limit, and held in memory alone."""

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imgkit.errors import brief
from imgkit.serving.parts import parts_of
from imgkit.serving.refusal import CLOSE, Refused

if TYPE_CHECKING:
    from starlette.requests import Request

Body = TypeVar("Body", bound=BaseModel)

BODY_S = 30.0
"""How long a request may take to bring its body."""
JSON, FORM = "application/json", "multipart/form-data"


class Sent(NamedTuple):
    """A picture of a request."""

    name: str  # as whoever sent it calls it; may be empty
    content: bytes


class Picture(BaseModel):
    """A picture in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(description="The file's content in base64.", json_schema_extra={"format": "byte"})
    name: str = Field(default="", description="Comes back as `path`.")


class Pictures(BaseModel):
    """Several of them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    images: list[Picture] = Field(min_length=1)


async def one_picture(request: "Request", most_bytes: int) -> Sent:
    """The picture of a request for one.

    Raises:
        Refused: 400, 408, 413, 415 or 422.
    """
    body, kind = await _body(request, most_bytes)
    if kind == JSON:
        return _decoded(_parsed(Picture, body), "image")
    (found,) = _of_form(request, body, "image", 1)
    return found


async def several_pictures(request: "Request", most_bytes: int, most: int) -> list[Sent]:
    """The pictures of a request for up to `most`.

    Raises:
        Refused: 400, 408, 413, 415 or 422.
    """
    body, kind = await _body(request, most_bytes)
    if kind == FORM:
        return _of_form(request, body, "images", most)
    given = _parsed(Pictures, body).images
    _refuse_more(len(given), most)
    return [_decoded(one, f"images[{place}].image") for place, one in enumerate(given)]


async def _body(request: "Request", most: int) -> tuple[bytes, str]:
    """The body and its type; refused before it is read where its head says that it is too long, else while it is."""
    from starlette.requests import ClientDisconnect

    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (JSON, FORM):
        said = f"not {brief(kind)}" if kind else "and this request names no type"
        raise Refused(
            415, f"Pictures come as {JSON} or {FORM}, {said}.", "Type:  curl -F image=@photo.jpg …/predict", CLOSE
        )
    length = request.headers.get("content-length", "")
    too_long = Refused(
        413,
        f"A request may have {most:,} bytes.",
        "Send smaller pictures, or fewer at a time; who runs the server may allow more: imgkit serve --max-body",
        CLOSE,
    )
    if length.isdecimal() and int(length) > most:
        raise too_long
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                found += chunk
                if len(found) > most:
                    raise too_long
    except TimeoutError:
        raise Refused(408, f"The request was not complete after {BODY_S:g} s.", "Send it again.", CLOSE) from None
    except ClientDisconnect:  # nobody hears it: for the log
        raise Refused(400, "The client left before its request was complete.", "Send it again.", CLOSE) from None
    return bytes(found), kind


def _parsed(kind: type[Body], body: bytes) -> Body:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "The body"
        raise Refused(422, f"{brief(where)}: {brief(first['msg'])}", "What is expected: /reference") from None


def _decoded(given: Picture, where: str) -> Sent:
    try:
        return Sent(given.name, base64.b64decode(given.image, validate=True))
    except (binascii.Error, ValueError):  # the latter: characters beyond ASCII
        raise Refused(422, f"{where} is not base64.", "Encode the file's content:  base64 -w0 photo.jpg") from None


def _of_form(request: "Request", body: bytes, field: str, most: int) -> list[Sent]:
    """The files of a form, all under the name `field`."""
    hint = f"Type:  curl -F {field}=@photo.jpg …"
    try:
        parts = parts_of(body, request.headers["content-type"], most + 1)
    except ValueError as error:
        raise Refused(422, f"The form cannot be read: {brief(error)}", hint) from None
    for part in parts:
        if part.field != field or part.file is None:
            what = "is no file" if part.field == field else "is not known"
            raise Refused(422, f"The part {brief(part.field)!r} of the form {what}.", hint)
    if not parts:
        raise Refused(422, f"The form has no file {field!r}.", hint)
    _refuse_more(len(parts), most)
    return [Sent(part.file or "", part.content) for part in parts]


def _refuse_more(found: int, most: int) -> None:
    if found > most:
        several = "…/predict/batch takes several." if most == 1 else "Send the others in a second request."
        raise Refused(422, f"More pictures in a request than {most:,}.", several)
