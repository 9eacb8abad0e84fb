"""Pages over HTTP, for this machine alone: read-only, whole at every request, and nothing but pages of runs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from imgkit.errors import UsageError

HOST = "127.0.0.1"
PAGE = "report.html"
"""Of a run, in its folder."""
HEADERS = {
    "Cache-Control": "no-store",  # the next look is to see the next page
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer: no other page may use it."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as socketserver has it
        """Print the traceback of what went wrong, but where a browser has dropped its request."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(page: Path, port: int = 0) -> Iterator[str]:
    """Serve `page` on 127.0.0.1 while inside, at /; gives the address.

    The pages of the runs in its folder are at /NAME/report.html, where its links lead.

    A request is answered only where its Host is this address: a page of the web whose name leads here (DNS rebinding)
    sends its own name, and reads nothing.

    Args:
        page: read anew at each request.
        port: 0: any that is free.

    Raises:
        UsageError: if the port is taken or may not be used.
    """

    class Handler(_Pages):
        file = page

    with listening(Handler, port) as address:
        yield address


@contextmanager
def listening(handler: type["Local"], port: int = 0) -> Iterator[str]:
    """Let `handler` answer on 127.0.0.1 while inside; gives the address, which ends with a slash.

    Args:
        handler: a class of this server's own: its `hosts` are set.
        port: 0: any that is free.

    Raises:
        UsageError: if the port is taken or may not be used.
    """
    try:
        server = _Server((HOST, port), handler)  # binds; nothing is answered before serve_forever
        handler.hosts = frozenset(f"{name}:{server.server_port}" for name in (HOST, "localhost"))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"--port {port}: {reason}.", "Take another one, or leave --port out: any that is free is taken."
        ) from error
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Local(BaseHTTPRequestHandler):
    """Requests of this machine alone, and answers that no other page may use."""

    hosts: frozenset[str] = frozenset()  # what the Host of a request may be
    server_version, sys_version = "imgkit", ""
    timeout = 10  # seconds that a client may take for its request

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in http.server
        """Nothing: the terminal belongs to the person."""

    def for_this_machine(self) -> bool:
        """Whether the request names this address as its host; where it does not, it is answered so."""
        named = self.headers.get_all("Host", [])
        if len(named) == 1 and named[0].lower() in self.hosts:
            return True
        self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "Not this server")
        return False

    def reply(
        self,
        content: bytes,
        kind: str = "text/html; charset=utf-8",
        *,
        status: HTTPStatus = HTTPStatus.OK,
        body: bool = True,
    ) -> None:
        """Answer with `content`, whose type is `kind`; without its `body` to HEAD."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


class _Pages(Local):
    file: Path

    def do_GET(self) -> None:
        """The page at /, those of runs beside it, and nothing anywhere else."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """The same without the page."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if not self.for_this_machine():
            return
        try:
            content = _asked_for(self.path, self.file).read_bytes()
        except (OSError, ValueError):  # not there, or a name that no file can have
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.reply(content, body=body)


def _asked_for(target: str, page: Path) -> Path:
    """The file behind a request's target: the page, or that of a run whose folder lies in the page's own.

    The run is looked up among the names that are there, so a name cannot be a way to somewhere else; a link that leads
    out of the folder is not followed.

    Raises:
        OSError: if there is no such page.
        ValueError: likewise.
    """
    way = unquote(urlsplit(target).path, errors="surrogateescape")  # as names of files that are not UTF-8 are read
    if way == "/":
        return page
    for folder in page.parent.iterdir():
        if way == f"/{folder.name}/{PAGE}" and not folder.name.startswith(".") and (folder / "run.json").is_file():
            found = (folder / PAGE).resolve(strict=True)
            if found == page.parent.resolve() / folder.name / PAGE and found.is_file():
                return found
    raise FileNotFoundError(target)
