import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from imgkit.errors import UsageError
from imgkit.report.serve import Local, listening, serving


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "report.html").write_text("<p>é one")
    return tmp_path / "report.html"


def run_beside(page: Path, name: str, text: str = "<p>run") -> Path:
    folder = page.parent / name
    folder.mkdir(parents=True)
    for file, content in (("run.json", "{}"), ("report.html", text), ("predictions.csv", "secret")):
        (folder / file).write_text(content)
    return folder


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


@pytest.mark.parametrize("name", ["one", "a b", "ü", "100%", "a%2fb", "a?b#c", "one..", "\udcff"])
def test_the_pages_of_runs_are_where_the_links_lead(port: int, page: Path, name: str) -> None:
    run_beside(page, name)
    link = f"/{quote(os.fsencode(name))}/report.html"  # as report/board.py writes it
    status, body, headers = ask(port, link)
    assert (status, body) == (200, b"<p>run")
    assert (headers["Content-Type"], headers["X-Content-Type-Options"]) == ("text/html; charset=utf-8", "nosniff")
    assert ask(port, link, Host="evil.example")[0] == 421
    assert ask(port, link, method="HEAD")[:2] == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        *("/one/predictions.csv", "/one/run.json", "/one/", "/one", "/one/report.html/", "//outside/report.html"),
        *("/one/../secret.txt", "/one/../report.html", "/../outside/report.html", "/one/../one/report.html"),
        *("/..%2foutside/report.html", "/%2e%2e/outside/report.html", "/%2e%2e%2foutside%2freport.html"),
        *("/one%2f..%2f..%2foutside/report.html", "/%252e%252e/outside/report.html", "/..%5coutside/report.html"),
        *("/one/report.html%00", "/one%00/report.html", "/%ff/report.html", "/./one/report.html", "/report.html"),
        *("/.hidden/report.html", "/plain/report.html", "/one/deeper/report.html", "/linked/report.html"),
        *("/page-linked/report.html", "/no-page/report.html", "/" + "a" * 5000 + "/report.html"),
    ],
)
def test_nothing_but_pages_of_runs_directly_below_is_there(tmp_path: Path, path: str) -> None:
    outside = run_beside(tmp_path / "outside" / "report.html", "", "secret")
    page = tmp_path / "runs" / "report.html"
    one = run_beside(page, "one")
    page.write_text("all runs")
    for name in (".hidden", "one/deeper"):
        run_beside(page, name, "secret")
    (run_beside(page, "plain", "secret") / "run.json").unlink()
    (run_beside(page, "no-page") / "report.html").unlink()
    (page.parent / "linked").symlink_to(outside, target_is_directory=True)
    linked = run_beside(page, "page-linked")
    (linked / "report.html").unlink()
    (linked / "report.html").symlink_to(outside / "report.html")
    with serving(page) as address:
        port = urlsplit(address).port or 0
        assert ask(port, "/one/report.html")[1] == b"<p>run"
        status, body, _ = ask(port, path)
        assert status == 404
        assert b"secret" not in body
        (one / "run.json").unlink()
        assert ask(port, "/one/report.html")[0] == 404, "a run no more"


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


@pytest.mark.parametrize(
    ("error", "told"), [(BrokenPipeError, False), (ConnectionResetError, False), (ZeroDivisionError, True)]
)
def test_a_browser_that_drops_its_request_is_no_bug(
    capsys: pytest.CaptureFixture[str], error: type[Exception], told: bool
) -> None:
    class Failing(Local):
        def do_GET(self) -> None:  # noqa: N802 - the name in http.server
            raise error

    with listening(Failing) as address, pytest.raises(http.client.RemoteDisconnected):
        ask(urlsplit(address).port or 0)
    assert (error.__name__ in capsys.readouterr().err) is told
