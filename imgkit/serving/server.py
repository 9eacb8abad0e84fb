"""The application behind an address, until a signal ends it: what is under way is answered first."""

import socket
from typing import TYPE_CHECKING

from imgkit.errors import UsageError, printable

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

DRAIN_S = 60
"""How long requests that are under way may take once a signal has come."""
_WAITING = 128  # connections that the system keeps until they are taken


def listen(host: str, port: int) -> socket.socket:
    """A socket that clients can reach at `host`; nothing is answered yet.

    Args:
        host: an address or a name of this machine.
        port: 0: any that is free.

    Raises:
        UsageError: if it cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family, backlog=_WAITING)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while attempting")[0]
        raise UsageError(
            f"--host {printable(host)} --port {port}: {reason}.",
            "Take another port, or any that is free:  --port 0   The host is 127.0.0.1, or an address of this machine.",
        ) from error
    # Connections have it from here. Else the body of an answer waits until the client has acknowledged its head, which
    # the client puts off by 40 ms; asyncio sees to it for sockets alone that it makes itself.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def address_of(listening: socket.socket) -> str:
    """`http://127.0.0.1:8000`."""
    return f"http://{host_of(listening)}:{listening.getsockname()[1]}"


def host_of(listening: socket.socket) -> str:
    """`127.0.0.1`, or `[::1]`: what the Host of a request says before the port."""
    host: str = listening.getsockname()[0]
    return f"[{host}]" if ":" in host else host


def server_of(app: "ASGIApp") -> "uvicorn.Server":
    """The server of an application; `run(sockets=[…])` answers until SIGINT or SIGTERM.

    Then it takes no more, answers what is under way, and ends as the signal asks. A second SIGINT does not wait.
    Nothing of uvicorn is printed but warnings and the traceback of a bug.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_S,
    )
    return uvicorn.Server(config)
