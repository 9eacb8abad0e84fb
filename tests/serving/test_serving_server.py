"""An address, and how a server ends: what is under way is answered first."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pytest
import torch
from corpus import encoded
from pictures import square
from served_models import colours

from imgkit.errors import UsageError
from imgkit.serving.app import make_app
from imgkit.serving.server import address_of, host_of, listen, server_of
from imgkit.signals import ending_cleanly

PICTURE = encoded(square(0, code=1), "PNG")


def serve_slowly(listening: socket.socket, told: int, wait_s: float) -> int:
    """What a fork does: answer as the command does, each pass so late; a byte to `told` as one begins."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    served = colours()

    class Slow:
        device = served.network.device

        def __call__(self, images: Sequence[torch.Tensor]) -> np.ndarray:
            os.write(told, b"x")
            time.sleep(wait_s)
            return served.network(images)

    try:
        with ending_cleanly():
            server_of(make_app(replace(served, network=Slow()))).run(sockets=[listening])
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_a_request_is_under_way(number: signal.Signals, code: int) -> None:
    told, tell = os.pipe()
    with listen("127.0.0.1", 0) as listening, ThreadPoolExecutor(1) as pool:
        address = address_of(listening)
        child = os.fork()
        if child == 0:
            end = 1
            try:
                signal.alarm(60)
                sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
                end = serve_slowly(listening, tell, 0.5)
            finally:
                os._exit(end)
        os.close(tell)
        listening.close()
        asked = pool.submit(httpx.post, f"{address}/predict", files={"image": PICTURE}, timeout=30, trust_env=False)
        assert os.read(told, 1) == b"x"
        os.kill(child, number)
        answer = asked.result()
        assert (answer.status_code, answer.json()["label"]) == (200, "green")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    os.close(told)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/healthz", trust_env=False)


def test_a_port_that_is_taken_and_a_host_that_is_none() -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(UsageError, match=rf"--host 127.0.0.1 --port {port}: Address already in use") as found:
            listen("127.0.0.1", port)
    assert "--port 0" in found.value.hint
    for host in ("192.0.2.1", "a" * 70 + ".example", "é" * 70):
        with pytest.raises(UsageError, match="--host"):
            listen(host, 0)


def test_no_answer_waits_for_an_acknowledgement_of_its_head() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        taken, _ = listening.accept()
        with taken:
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_addresses() -> None:
    for host, start in (("127.0.0.1", "http://127.0.0.1:"), ("localhost", "http://"), ("0.0.0.0", "http://0.0.0.0:")):  # noqa: S104
        with listen(host, 0) as listening:
            assert address_of(listening).startswith(start)
    if socket.has_ipv6:
        try:
            listening = listen("::1", 0)
        except UsageError:
            pytest.skip("this machine has no IPv6")
        with listening:
            assert address_of(listening).startswith("http://[::1]:")
            assert host_of(listening) == "[::1]"


def test_a_server_in_a_thread_ends_when_it_is_asked_to() -> None:
    with listen("127.0.0.1", 0) as listening:
        server = server_of(make_app(colours()))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        assert httpx.get(f"{address_of(listening)}/healthz", trust_env=False).status_code == 200
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
