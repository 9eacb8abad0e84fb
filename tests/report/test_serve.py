import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from imgkit.errors import UsageError
from imgkit.report.serve import serving


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "report.html").write_text("<p>é one")
    return tmp_path / "report.html"


@pytest.fixture
def port(page: Path) -> Iterator[int]:
    with serving(page) as address:
        assert urlsplit(address).hostname == "127.0.0.1"
        yield urlsplit(address).port or 0


def ask(port: int, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def test_the_page_is_served_as_it_is_at_each_request(port: int, page: Path) -> None:
    status, body, headers = ask(port)
    assert (status, body.decode()) == (200, "<p>é one")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    page.write_text("two")
    assert ask(port)[1] == b"two"
    assert ask(port, "/?refreshed")[1] == b"two"
    assert ask(port, Host=f"localhost:{port}")[1] == b"two"
    status, body, headers = ask(port, method="HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "3")


@pytest.mark.parametrize(
    "path", ["/secret.txt", "/report.html", "/..", "//secret.txt", "/%2e%2e/secret.txt", "/.", "/etc/passwd", "*"]
)
def test_nothing_else_is_there(port: int, path: str) -> None:
    status, body, _ = ask(port, path)
    assert status == 404
    assert b"secret.txt" not in body
    assert b"<li>" not in body, "no list of the folder"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}"),
        *("127.0.0.1", "127.0.0.1:1", "[::1]:{port}", ""),
    ],
)
def test_another_name_for_this_machine_reads_nothing(port: int, host: str) -> None:
    status, body, _ = ask(port, Host=host.format(port=port))
    assert status == 421
    assert b"one" not in body


def test_no_host_and_two_hosts_read_nothing(port: int) -> None:
    for head in ("", f"Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
            line.sendall(f"GET / HTTP/1.0\r\n{head}\r\n".encode())
            assert b" 421 " in line.recv(1000)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_written(port: int, method: str, page: Path) -> None:
    before = page.read_text()
    assert ask(port, method=method)[0] == 501
    assert page.read_text() == before


def test_a_page_that_is_gone_is_not_there(port: int, page: Path) -> None:
    page.unlink()
    assert ask(port)[0] == 404


def test_a_taken_port_is_told_and_a_served_one_is_free_afterwards(page: Path) -> None:
    with serving(page) as address:
        port = urlsplit(address).port or 0
        told = rf"--port {port}: Address already in use\.\nTake another one, or leave --port out"
        with pytest.raises(UsageError, match=told), serving(page, port):
            pass
    with serving(page, port) as again:
        assert again == address
    with pytest.raises(UsageError, match="--port 70000"), serving(page, 70_000):
        pass


def test_it_listens_on_one_address_alone(port: int) -> None:
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", port), timeout=10):
        pass
