"""The page over HTTP, for whoever was given its address: this machine alone, and a secret in the path."""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from imgkit.errors import BadImage, DiskError, UsageError
from imgkit.labelling.page import page_of
from imgkit.labelling.session import Session
from imgkit.report.serve import Local, listening

_MOST_BYTES = 1000  # of a request's body: three numbers
_ASKED = re.compile(r"(item|picture|after)/(0|[1-9][0-9]{0,8})")
_JSON = "application/json"


@contextmanager
def labelling(session: Session, port: int = 0) -> Iterator[str]:
    """Serve the page of `session` while inside; gives its address, which holds a secret of 192 bits.

    Nothing is at another path. What changes answers is JSON that the page itself sends: a page of the web may send
    neither that type nor its own origin.

    Args:
        session: what is shown and told.
        port: 0: any that is free.

    Raises:
        UsageError: if the port is taken or may not be used.
    """

    class Handler(_Handler):
        sitting = session
        start = f"/{secrets.token_urlsafe(24)}/"

    with listening(Handler, port) as address:
        yield address + Handler.start.removeprefix("/")


class _Handler(Local):
    sitting: Session
    start: str  # of every path

    def do_GET(self) -> None:  # noqa: N802 - the name in http.server
        """The page, what is shown of an image, its picture, and which comes after it."""
        asked = self._asked()
        if asked is None:
            return
        if asked == "":
            self.reply(page_of(self.sitting).encode())
            return
        found = _ASKED.fullmatch(asked)
        if found is None:
            self._refuse(HTTPStatus.NOT_FOUND, "There is nothing here.")
            return
        what, number = found[1], int(found[2])
        if what == "picture":
            self._told(lambda: self.sitting.picture(number))
        else:
            self._told(lambda: self.sitting.item(number) if what == "item" else self.sitting.after(number))

    def do_POST(self) -> None:  # noqa: N802 - the name in http.server
        """An answer, or the latest one taken back."""
        asked = self._asked()
        if asked is None:
            return
        given = self._body() if asked in ("answer", "undo") else None
        if given is None:
            if asked not in ("answer", "undo"):
                self._refuse(HTTPStatus.NOT_FOUND, "There is nothing here.")
        elif asked == "undo" and given == {}:
            self._told(self.sitting.undo)
        elif asked == "answer" and _is_answer(given):
            self._told(lambda: self.sitting.answer(given["image"], given["class"], given["seen"]))
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "Not what the page sends.")

    def _asked(self) -> str | None:
        """The path after the secret; None: the request is not for us, and has been told so."""
        if not self.for_this_machine():
            return None
        path = self.path.encode("latin-1", "replace")
        start = self.start.encode()
        if not secrets.compare_digest(path[: len(start)], start):
            self._refuse(HTTPStatus.NOT_FOUND, "There is nothing here.")
            return None
        return path[len(start) :].decode("latin-1")

    def _body(self) -> dict[str, Any] | None:
        """What the page sends; None: it is something else, and has been refused."""
        fault = self._fault()
        if fault is not None:
            self._refuse(*fault)
            return None
        try:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])).decode())
        except (ValueError, RecursionError):
            given = None
        if type(given) is dict:
            return given
        self._refuse(HTTPStatus.BAD_REQUEST, "Not what the page sends.")
        return None

    def _fault(self) -> tuple[HTTPStatus, str] | None:
        """What is wrong with the head of a request that brings a body; None: nothing."""
        own = {f"http://{host}" for host in self.hosts}
        if any(origin.lower() not in own for origin in self.headers.get_all("Origin", [])):
            return HTTPStatus.FORBIDDEN, "Another page may not answer."
        if self.headers.get_all("Content-Type") != [_JSON]:
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"An answer is {_JSON}."
        length = self.headers.get_all("Content-Length", [])
        if len(length) != 1 or not re.fullmatch("[0-9]{1,6}", length[0]) or "Transfer-Encoding" in self.headers:
            return HTTPStatus.LENGTH_REQUIRED, "An answer says how long it is."
        if int(length[0]) > _MOST_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "An answer is short."
        return None

    def _told(self, found: Callable[[], Any]) -> None:
        """Answer with what `found` gives: a picture, or what is sent as JSON; or why there is none."""
        try:
            result = found()
        except IndexError:
            self._refuse(HTTPStatus.NOT_FOUND, "There is no such image or class.")
        except BadImage as error:
            self._refuse(HTTPStatus.NOT_FOUND, error.reason)
        except UsageError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        except DiskError as error:
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, str(error))
        else:
            if isinstance(result, dict):
                self.reply(json.dumps(result).encode(), _JSON)
            else:
                self.reply(result.content, result.kind)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.reply(json.dumps({"error": why}).encode(), _JSON, status=status)


def _is_answer(given: dict[str, Any]) -> bool:
    """Whether it holds the numbers of an image and its class, and the class that was seen before, or null."""
    if set(given) != {"image", "class", "seen"}:
        return False
    numbers = [given["image"], given["class"], *([] if given["seen"] is None else [given["seen"]])]
    return all(type(one) is int for one in numbers)
