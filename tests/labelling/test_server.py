import io
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image
from sittings import Client, session_of

from imgkit.data.csv_text import read_cells
from imgkit.errors import UsageError
from imgkit.labelling.server import labelling
from imgkit.labelling.session import Session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return session_of(tmp_path)


@pytest.fixture
def client(session: Session) -> Iterator[Client]:
    with labelling(session) as address:
        assert address.startswith("http://127.0.0.1:")
        yield Client(address)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Path]]:
    """A server for requests that change nothing, and the place of its answers."""
    place = tmp_path_factory.mktemp("target")
    with labelling(session_of(place)) as address:
        yield Client(address), place


def labels(place: Path) -> dict[str, str]:
    file = place / "labels.csv"
    return {cells[0]: cells[1] for _, cells in read_cells(file, "labels.csv")[1]} if file.exists() else {}


def test_the_page_and_all_that_it_asks_for(client: Client, tmp_path: Path) -> None:
    status, body, headers = client.ask(client.start)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert (headers["Cache-Control"], headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert b"Label 4 images" in body
    assert not any(name.lower().startswith("access-control") for name in headers)
    assert client.get("item/2")["name"] == "2.png"
    status, content, headers = client.ask(f"{client.start}picture/2")
    assert (status, headers["Content-Type"], headers["X-Content-Type-Options"]) == (200, "image/png", "nosniff")
    assert Image.open(io.BytesIO(content)).size == (16, 16)
    assert client.answer(2, 0)["next"] == 3
    assert labels(tmp_path) == {"2.png": "cat"}
    assert client.get("after/1") == {"next": 3, "answered": 1, "left": 3}
    assert client.post("undo", {}) == (200, {"image": 2, "answered": 0, "left": 4})
    assert labels(tmp_path) == {}


def test_two_tabs_at_once(client: Client, tmp_path: Path) -> None:
    told: list[int | None] = []

    def tab(code: int) -> None:
        for image in range(4):
            told.append(client.answer(image, code)["replaced"])

    tabs = [Thread(target=tab, args=(code,)) for code in (0, 1)]
    for one in tabs:
        one.start()
    for one in tabs:
        one.join()
    found = labels(tmp_path)
    assert set(found) == {f"{number}.png" for number in range(4)}
    assert set(found.values()) <= {"cat", "dog"}
    assert [one for one in told if one is None] == [None] * 4, "each second answer is told what it replaced"
    for image in range(4):
        assert ["cat", "dog", "eel"][client.get(f"item/{image}")["class"]] == found[f"{image}.png"]


def test_without_the_secret_nothing_is_there(client: Client, tmp_path: Path) -> None:
    other = "/" + "A" * (len(client.start) - 2) + "/"
    for start in ("/", other, client.start[:-1], client.start[:-2] + "/", client.start.lower(), "", "//", "*"):
        for path in ("", "item/0", "picture/0", "answer"):
            if start + path:
                status, body, _ = client.ask(start + path)
                assert (status, json.loads(body)) == (404, {"error": "There is nothing here."}), start + path
    body = json.dumps({"image": 0, "class": 0, "seen": None}).encode()
    assert client.ask(f"{other}answer", "POST", body, Content_Type="application/json")[0] == 404
    assert labels(tmp_path) == {}


def test_the_secret_is_new_each_time(session: Session) -> None:
    secrets = set()
    for _ in range(3):
        with labelling(session) as address:
            secrets.add(Client(address).start)
    assert len(secrets) == 3
    assert all(re.fullmatch(r"/[\w-]{32}/", one) for one in secrets)


@pytest.mark.parametrize(
    "path",
    [
        *("picture/../labels.csv", "picture/..%2f..%2flabels.csv", "picture/%2e%2e/labels.csv", "../labels.csv"),
        *("picture/0/../../x", "picture//etc/passwd", "picture/0.png", "picture/-1", "picture/00", "picture/4"),
        *("picture/1e9", "picture/999999999", "picture/" + "9" * 5000, "picture/٣", "picture/", "item/4", "item/0?x"),
        *(
            "item/0%00",
            "item/%30",
            "item/0/",
            "after/4",
            "after/-1",
            "labels.csv",
            "photos/0.png",
            "?",
            "answer",
            "undo",
        ),
    ],
)
def test_images_go_by_number_alone(target: tuple[Client, Path], path: str) -> None:
    client, _ = target
    status, body, _ = client.ask(client.start + path.replace("٣", "%D9%A3"))
    assert status == 404
    assert set(json.loads(body)) == {"error"}


@pytest.mark.parametrize(
    ("given", "status"),
    [
        *[(given, 400) for given in ([], None, 1, "x", {}, {"image": 0}, {"image": 0, "class": 0})],
        *[
            ({"image": 0, "class": 0, "seen": None} | more, 400)
            for more in ({"more": 1}, {"class": "cat"}, {"seen": "x"})
        ],
        *[({"image": one, "class": 0, "seen": None}, 400) for one in (True, 0.0, "0", None, [0], {"a": 1})],
        *[({"image": one, "class": 0, "seen": None}, 404) for one in (4, -1, 10**30)],
        *[({"image": 0, "class": one, "seen": None}, 404) for one in (3, -1, 10**30)],
        ({"image": 0, "class": 0, "seen": None, "path": "../x"}, 400),
    ],
)
def test_an_answer_is_three_numbers(target: tuple[Client, Path], given: object, status: int) -> None:
    client, place = target
    assert client.post("answer", given)[0] == status
    assert labels(place) == {}


def test_another_page_cannot_answer(client: Client, tmp_path: Path) -> None:
    given = {"image": 0, "class": 0, "seen": None}
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{client.port}", "http://127.0.0.1", ""):
        assert client.post("answer", given, Origin=origin)[0] == 403, origin
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json; x=y", ""):
        assert client.post("answer", given, Content_Type=kind)[0] == 415
    assert labels(tmp_path) == {}
    assert client.post("answer", given, Origin=f"http://localhost:{client.port}")[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_another_name_for_this_machine_reads_and_changes_nothing(target: tuple[Client, Path], host: str) -> None:
    client, place = target
    named = host.format(port=client.port)
    assert client.ask(client.start, Host=named)[0] == 421
    body = b'{"image": 0, "class": 0, "seen": null}'
    assert client.ask(f"{client.start}answer", "POST", body, Host=named, Content_Type="application/json")[0] == 421
    assert labels(place) == {}


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ("Content-Length: 0\r\n", b"", 400),
        ("", b"", 411),
        ("Content-Length: -1\r\n", b"", 411),
        ("Content-Length: x\r\n", b"", 411),
        ("Content-Length: 2\r\nContent-Length: 3\r\n", b"{}", 411),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"{}", 411),
        ("Content-Length: 99999999999\r\n", b"{}", 411),
        ("Content-Length: 1001\r\n", b"{}", 413),
        ("Content-Length: 3\r\n", b"\xff\xfe\xfd", 400),
        ("Content-Length: 800\r\n", b"[" * 800, 400),
        ("Content-Length: 3\r\n", b"NaN", 400),
    ],
)
def test_bodies_that_are_none(target: tuple[Client, Path], headers: str, body: bytes, status: int) -> None:
    client, _ = target
    head = f"POST {client.start}answer HTTP/1.0\r\nHost: 127.0.0.1:{client.port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as line:
        line.sendall(head.encode() + headers.encode() + b"\r\n" + body)
        assert f" {status} ".encode() in line.recv(1000)
    assert client.get("item/0")["class"] is None


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_other_methods_are_unknown(target: tuple[Client, Path], method: str) -> None:
    client, _ = target
    status, _, headers = client.ask(client.start, method)
    assert status == 501
    assert not any(name.lower().startswith("access-control") for name in headers)


def test_what_cannot_be_kept_is_told_to_the_page(client: Client, tmp_path: Path) -> None:
    client.answer(0, 0)
    (tmp_path / "labels.csv").write_text("mine")
    status, found = client.post("answer", {"image": 1, "class": 0, "seen": None})
    assert status == 507
    assert "was changed by something else" in found["error"]
    assert client.get("item/1")["class"] is None
    assert (tmp_path / "labels.csv").read_text() == "mine"
    (tmp_path / "photos" / "3.png").write_bytes(b"GIF89a")
    assert client.get("item/3")["error"]
    assert client.ask(f"{client.start}picture/3")[0] == 404
    assert client.post("answer", {"image": 3, "class": 0, "seen": None})[0] == 409


def test_a_taken_port_is_told(session: Session) -> None:
    with labelling(session) as address, pytest.raises(UsageError, match="Address already in use"):  # noqa: SIM117
        with labelling(session, Client(address).port):
            pass
