"""What stands before every request: who may ask, how many at a time; and a line of each in the log."""

import asyncio
import ipaddress
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imgkit.errors import brief
from imgkit.report.serve import HEADERS
from imgkit.serving.refusal import CLOSE, Refused

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OWN = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""What this machine is called by programs on it."""
LINGER_S, LINGER_BYTES = 1.0, 1 << 26
"""How long, and how much of a body, is taken after an answer that did not wait for it."""
RETRY_S = 1
"""When to ask again where too many ask at once."""
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine reaches an address to listen at."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Body:
    """What a request brings, as an application receives it.

    Attributes:
        more: whether some of it is still to come.
    """

    def __init__(self, receive: "Receive", *, more: bool) -> None:
        self._receive, self.more = receive, more

    async def __call__(self) -> "Message":
        """The next part."""
        message = await self._receive()
        self.more = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def leave(self) -> None:
        """Take what comes for a moment, and let it go: who still sends would lose the answer with the connection."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                left = LINGER_BYTES
                while self.more and left > 0:
                    left -= len((await self()).get("body", b""))


class Gate:
    """An ASGI application around another one.

    Requests are refused whose Host is another name than this machine's (where only it is to be answered: a page of the
    web whose name leads here, DNS rebinding, sends its own name), which come from another page, or which come while
    as many bring pictures as may.

    Args:
        app: what answers the others.
        hosts: names that a Host may have, whatever its port: a tunnel has another; None: any.
        most: requests with pictures at a time.
        tell: given a line for each request, without anything of its body.
    """

    def __init__(
        self, app: "ASGIApp", *, hosts: frozenset[str] | None, most: int, tell: Callable[[str], object]
    ) -> None:
        self._app, self._hosts, self._most, self._tell = app, hosts, most, tell
        self._inside = 0

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, closes = time.perf_counter(), 0, False
        body = _Body(receive, more=scope["method"] == "POST")

        async def sending(message: "Message") -> None:
            nonlocal status, closes
            if message["type"] == "http.response.start":
                status, headers = message["status"], [*message.get("headers", [])]
                closes = (b"connection", b"close") in headers
                message["headers"] = [*headers, *_HEADERS]
            elif closes and body.more and not message.get("more_body"):
                await send({**message, "more_body": True})
                await body.leave()
                message = {"type": "http.response.body"}
            await send(message)

        try:
            await self._pass(scope, body, sending)
        finally:
            client = (scope.get("client") or ("-",))[0]
            took_ms = 1000 * (time.perf_counter() - began)
            asked = f"{scope['method']} {brief(scope['path'])}"
            self._tell(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {client} {asked} {status or '-'} {took_ms:.1f} ms")

    async def _pass(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        try:
            self._check(scope)
        except Refused as refused:
            await refused.answer()(scope, receive, send)
            return
        brings = scope["method"] == "POST"
        self._inside += brings
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= brings

    def _check(self, scope: "Scope") -> None:
        """See that a request may come in; of one that may not, the body is not waited for.

        Raises:
            Refused: 403, 421 or 503.
        """
        named = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        host = named[0] if len(named) == 1 else ""
        if self._hosts is not None and host.rpartition(":")[0] not in self._hosts and host not in self._hosts:
            hint = "Ask http://127.0.0.1; other names are answered where imgkit serve was given a --host."
            raise Refused(421, f"This server is not {brief(host) or 'without a name'}.", hint, CLOSE)
        if scope["method"] != "POST":
            return
        origins = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"origin"]
        if any(urlsplit(origin).netloc != host for origin in origins):
            hint = "A proxy before imgkit serve has to pass the Host on."
            raise Refused(403, "Another page may not send pictures.", hint, CLOSE)
        if self._inside >= self._most:
            retry = {"Retry-After": str(RETRY_S)}
            raise Refused(503, f"{self._most:,} requests are being answered.", "Ask again.", CLOSE | retry)
