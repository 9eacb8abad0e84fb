import base64
import json
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from corpus import cases, encoded, exif_jpeg, png
from pictures import square
from served_models import CLASSES, Held, answering, colours

from imgkit.errors import DeviceError
from imgkit.predict import predict_files
from imgkit.prediction_rows import json_row, json_sets_row
from imgkit.serving.app import Limits
from imgkit.serving.gate import OWN

PICTURE = encoded(square(0, code=1), "PNG")
HEAD = {"Content-Type": "application/json"}


def in_json(content: bytes, **more: object) -> dict[str, object]:
    return {"image": base64.b64encode(content).decode(), **more}


def problem(answer: httpx.Response, status: int) -> str:
    """What a refused request was told, in the one shape there is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert set(found) == {"error", "hint"}
    assert found["error"]
    return found["error"] + "\n" + found["hint"]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with answering(colours(), Limits(body_bytes=200_000, images=4), hosts=OWN) as found:
        yield found


@pytest.mark.parametrize("several", [False, True])
def test_all_kinds_of_files_are_answered_as_predict_does(tmp_path: Path, several: bool) -> None:
    made = [case.path for case in cases(tmp_path) if case.path.is_file()]
    made = [path for path in made if path.stat().st_size < 2_000_000]
    (tmp_path / "turned.jpg").write_bytes(exif_jpeg(6))
    made.append(tmp_path / "turned.jpg")
    assert len(made) > 40
    served = colours(several=several)
    predicted = predict_files(served.member.loaded, map(str, made), top_k=2, precision="float32")
    rows = [json_sets_row(one, CLASSES) if several else json_row(one) for one in predicted]
    assert {bool(row["error"]) for row in rows} == {True, False}
    with answering(served, Limits(body_bytes=50_000_000, images=len(made))) as client:
        sent = [("images", (str(place), path.read_bytes())) for place, path in enumerate(made)]
        answers = client.post("/predict/batch?top_k=2", files=sent).json()["answers"]
        as_json = {"images": [in_json(path.read_bytes(), name=str(place)) for place, path in enumerate(made)]}
        assert client.post("/predict/batch?top_k=2", json=as_json).json()["answers"] == answers
    for place, (answer, row) in enumerate(zip(answers, rows, strict=True)):
        expected = json.loads(json.dumps(row)) | {"path": str(place)}
        assert list(answer) == list(expected)
        assert [one["label"] for one in answer["top"]] == [one["label"] for one in expected["top"]]
        for kind in ("prob", "probs"):
            assert answer.pop(kind, None) == pytest.approx(expected.pop(kind, None), abs=2e-6)
        assert [one["prob"] for one in answer.pop("top")] == pytest.approx(
            [one["prob"] for one in expected.pop("top")], abs=2e-6
        )
        assert answer == expected, made[place]


def test_one_picture_in_each_form(client: httpx.Client) -> None:
    answers = [
        client.post("/predict", files={"image": ("a.png", PICTURE)}),
        client.post("/predict", json=in_json(PICTURE, name="a.png")),
    ]
    for answer in answers:
        assert answer.status_code == 200
        assert list(answer.json()) == ["path", "label", "prob", "top", "error"]
        assert (answer.json()["path"], answer.json()["label"], answer.json()["error"]) == ("a.png", "green", "")
        assert len(answer.json()["top"]) == 1
    assert answers[0].json() == answers[1].json()
    without_name = b'--b\r\nContent-Disposition: form-data; name="image"\r\nContent-Type: image/png\r\n\r\n%b\r\n--b--'
    head = {"Content-Type": "multipart/form-data; boundary=b"}
    nameless = [
        client.post("/predict", json=in_json(PICTURE)),
        client.post("/predict", content=without_name % PICTURE, headers=head),
    ]
    for answer in nameless:
        assert answer.json() == answers[0].json() | {"path": ""}
    assert len(client.post(f"/predict?top_k={10**30}", json=in_json(PICTURE)).json()["top"]) == 3


def test_what_is_not_sure_enough_is_left_open() -> None:
    with answering(colours(reject_at=0.99)) as client:
        found = client.post("/predict", json=in_json(PICTURE)).json()
    assert (found["label"], found["guess"], found["rejected"]) == (None, "green", "unsure")
    with answering(colours(reject_at=0.4)) as client:
        found = client.post("/predict", json=in_json(PICTURE)).json()
    assert (found["label"], found["guess"], found["rejected"]) == ("green", "green", None)


@pytest.mark.parametrize(
    ("path", "asked", "status", "words"),
    [
        ("/predict", {"content": b"{}", "headers": HEAD}, 422, "image: Field required"),
        ("/predict", {"content": b"{", "headers": HEAD}, 422, "The body: Invalid JSON"),
        ("/predict", {"content": b"\xff", "headers": HEAD}, 422, "The body: Invalid JSON"),
        ("/predict", {"json": in_json(PICTURE, size=3)}, 422, "size: Extra inputs are not permitted"),
        ("/predict", {"json": {"image": "a picture"}}, 422, "image is not base64"),
        ("/predict", {"json": {"image": "\u00e9"}}, 422, "image is not base64"),
        ("/predict", {"json": {"image": 3}}, 422, "image: Input should be a valid string"),
        ("/predict", {"json": {"image": ""}}, 422, "The picture cannot be read: empty file (0 bytes)"),
        ("/predict", {"json": in_json(b"%PDF-1.7")}, 422, "cannot be read: a PDF document"),
        ("/predict", {"files": {"image": b"GIF"}}, 422, "or TIFF image, or its header is damaged"),
        ("/predict", {"files": {"picture": b"x"}}, 422, "The part 'picture' of the form is not known"),
        ("/predict", {"files": {"image": (None, b"x")}}, 422, "The part 'image' of the form is no file"),
        ("/predict", {"files": [("image", b"x")] * 2}, 422, "More pictures in a request than 1"),
        ("/predict/batch", {"files": [("images", b"x")] * 5}, 422, "More pictures in a request than 4"),
        ("/predict/batch", {"json": {"images": [in_json(b"")] * 5}}, 422, "More pictures in a request than 4"),
        ("/predict/batch", {"json": {"images": []}}, 422, "images: List should have at least 1 item"),
        ("/predict/batch", {"json": {"images": [in_json(b""), {"image": "!"}]}}, 422, "images[1].image is not base64"),
        ("/predict?top_k=0", {"json": in_json(PICTURE)}, 422, "top_k: Input should be greater than or equal to 1"),
        ("/predict?topk=2", {"json": in_json(PICTURE)}, 422, "topk: Extra inputs are not permitted"),
        ("/predict", {"content": PICTURE}, 415, "application/json or multipart/form-data, and this request names no"),
        ("/predict", {"content": PICTURE, "headers": {"Content-Type": "image/png"}}, 415, "not image/png"),
        ("/predict", {"data": {"image": "x"}}, 415, "not application/x-www-form-urlencoded"),
        (
            "/predict",
            {"content": b"--", "headers": {"Content-Type": "multipart/form-data"}},
            422,
            "The form cannot be read: Missing boundary",
        ),
        (
            "/predict",
            {"content": b"junk", "headers": {"Content-Type": "multipart/form-data; boundary=a"}},
            422,
            "The form",
        ),
        ("/predict", {"json": in_json(bytes(300_000))}, 413, "A request may have 200,000 bytes"),
        ("/predict", {"json": in_json(png(100_000, 100_000))}, 422, "over the limit of 64 (if you trust it: --max-p"),
        ("/nothing", {}, 404, "Not Found."),
        ("/healthz", {}, 405, "Method Not Allowed."),
    ],
)
def test_what_is_wrong_is_told_in_one_shape(
    client: httpx.Client, path: str, asked: dict[str, Any], status: int, words: str
) -> None:
    assert words in problem(client.post(path, **asked), status)


def test_several_pictures_of_which_one_cannot_be_read(client: httpx.Client) -> None:
    sent = [("images", ("a.png", PICTURE)), ("images", ("b.png", b"<html>")), ("images", ("c.png", PICTURE))]
    answer = client.post("/predict/batch", files=sent)
    assert answer.status_code == 200
    first, second, third = answer.json()["answers"]
    assert (first["label"], third["label"], [first["path"], third["path"]]) == ("green", "green", ["a.png", "c.png"])
    assert (second["label"], second["prob"], second["top"]) == (None, None, [])
    assert second["error"].startswith("an HTML page")


def test_a_long_body_is_refused_before_it_is_read_and_while_it_is(client: httpx.Client) -> None:
    port = httpx.URL(str(client.base_url)).port
    head = f"POST /predict HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: {10**12}\r\n\r\n".encode())
        told = b"".join(iter(lambda: connection.recv(65536), b""))  # the server hangs up
    assert told.startswith(b"HTTP/1.1 413 ")
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        with pytest.raises(OSError, match=r"Broken pipe|reset"):  # noqa: PT012
            while sent < 10**9:
                connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536
    assert 200_000 < sent < 100_000_000, "what is let go and what the sockets hold, not the whole"


def test_who_is_still_sending_hears_why_not(client: httpx.Client) -> None:
    for _ in range(20):
        assert "A request may have 200,000 bytes" in problem(
            client.post("/predict", json=in_json(bytes(3_000_000))), 413
        )


def test_a_slow_body_is_not_waited_for(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgkit.serving.bodies.BODY_S", 0.1)
    port = httpx.URL(str(client.base_url)).port
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        head = (
            "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        connection.sendall(head.encode())
        told = b"".join(iter(lambda: connection.recv(65536), b""))
    assert told.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_leaves_amid_its_body_is_a_line_and_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    with answering(colours(), tell=told.append) as client:
        with socket.create_connection(("127.0.0.1", httpx.URL(str(client.base_url)).port), timeout=20) as connection:
            connection.sendall(head.encode())
        until = time.monotonic() + 20
        while not told and time.monotonic() < until:
            time.sleep(0.01)
    assert told[0].split()[2:5] == ["POST", "/predict", "400"]
    assert caplog.text == ""


def test_too_many_at_once_are_told_to_come_again() -> None:
    served = colours()
    held = Held(served.network)
    with (
        answering(replace(served, network=held), Limits(requests=2)) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        waiting = [pool.submit(client.post, "/predict", json=in_json(PICTURE)) for _ in range(2)]
        assert held.asked.wait(20)
        until = time.monotonic() + 20
        while client.gate._inside < 2 and time.monotonic() < until:
            time.sleep(0.01)
        refused = client.post("/predict", json=in_json(PICTURE))
        assert "2 requests are being answered" in problem(refused, 503)
        assert refused.headers["retry-after"] == "1"
        assert client.get("/healthz").json()["status"] == "ready"
        held.go.set()
        assert [one.result().status_code for one in waiting] == [200, 200]
        assert client.post("/predict", json=in_json(PICTURE)).status_code == 200


def test_requests_of_several_clients_share_a_pass() -> None:
    served = colours()
    held = Held(served.network)
    with answering(replace(served, network=held)) as client, ThreadPoolExecutor(6) as pool:
        first = pool.submit(client.post, "/predict", json=in_json(PICTURE))
        assert held.asked.wait(20)
        others = [pool.submit(client.post, "/predict", json=in_json(PICTURE)) for _ in range(5)]
        until = time.monotonic() + 20
        while client.gate._inside < 6 and time.monotonic() < until:
            time.sleep(0.01)
        held.go.set()
        assert len({one.result().text for one in [first, *others]}) == 1
    assert sum(held.sizes) == 6
    assert held.sizes[0] == 1
    assert len(held.sizes) < 6


def test_no_memory_is_a_503_and_a_bug_a_500(caplog: pytest.LogCaptureFixture) -> None:
    served = colours()
    held = Held(served.network, fails=DeviceError("Out of memory.", "Send fewer."))
    held.go.set()
    with answering(replace(served, network=held)) as client:
        answer = client.post("/predict/batch", json={"images": [in_json(PICTURE)] * 3})
        assert problem(answer, 503) == "Out of memory.\nSend fewer."
    held = Held(served.network, fails=RuntimeError("sizes do not match"))
    held.go.set()
    with answering(replace(served, network=held)) as client:
        answer = client.post("/predict", json=in_json(PICTURE))
        assert "imgkit failed" in problem(answer, 500)
        assert answer.headers["connection"] == "close", "uvicorn closes it: a client is not to ask on it again"
        assert client.get("/healthz").status_code == 200
    assert "RuntimeError: sizes do not match" in caplog.text


def test_health_says_what_is_served(client: httpx.Client) -> None:
    about = {"run": "colours", "model": "colour", "task": "single", "classes": 3, "device": "cpu"}
    assert client.get("/healthz").json() == {"status": "ready"} | about


def test_no_picture_goes_to_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def rollover(self: object) -> None:
        raise AssertionError("a part of the form went into a file")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", rollover)
    large = encoded(square(0, code=1, side_px=1200), "BMP")
    assert len(large) > 4_000_000
    with answering(colours()) as client:
        assert client.post("/predict", files={"image": large}).json()["label"] == "green"


def test_a_line_for_each_request_and_nothing_of_its_picture() -> None:
    told: list[str] = []
    with answering(colours(), tell=told.append) as client:
        client.post("/predict?top_k=2", files={"image": ("my secret.png", PICTURE)})
        client.get("/a%0Ab\u202e")
        client.get("/" + "x" * 5000)
    assert told[0].split()[2:5] == ["POST", "/predict", "200"]
    assert all(re.fullmatch(r"[-\d]{10}T[\d:]{8}Z 127\.0\.0\.1 \w+ /\S+ \d{3} [\d.]+ ms", line) for line in told)
    assert len(told) == 3
    assert max(map(len, told)) < 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "", "[::2]"])
def test_another_name_of_this_machine_is_no_name(client: httpx.Client, host: str) -> None:
    for path in ("/", "/healthz", "/openapi.json"):
        assert "This server is not" in problem(client.get(path, headers={"Host": host}), 421)


def test_own_names_and_other_ports_are_answered(client: httpx.Client) -> None:
    for host in ("localhost", "LOCALHOST:9000", "127.0.0.1:1", "[::1]:8000", "[::1]"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_pages_of_others_may_neither_send_nor_read(client: httpx.Client) -> None:
    mine = str(client.base_url)
    assert client.post("/predict", json=in_json(PICTURE), headers={"Origin": mine}).status_code == 200
    for origin in ("http://evil.example", "null", mine + "1"):
        answer = client.post("/predict", json=in_json(PICTURE), headers={"Origin": origin})
        assert "Another page" in problem(answer, 403)
    for answer in (client.get("/healthz", headers={"Origin": "http://evil.example"}), client.options("/predict")):
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_class_whose_name_is_not_utf8_is_told() -> None:
    with answering(colours(classes=("red", "gr\udcffn", "blue"))) as client:
        answer = client.post("/predict", json=in_json(PICTURE))
    assert answer.status_code == 200
    assert json.loads(answer.content)["label"] == "gr\udcffn"
