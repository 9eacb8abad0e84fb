import re

import httpx
import pytest
from page_reader import read_page, text_of
from payloads import PAYLOADS
from served_models import answering, colours

from imgkit.serving.page import page_of

FAR = r"https?:|//[a-z]|@import|url\(|XMLHttpRequest|WebSocket|innerHTML|document\.write|eval\("


def pages(classes: tuple[str, ...] = ("red", "green", "blue")) -> dict[str, str]:
    with answering(colours(classes=classes)) as client:
        found = {path: client.get(path) for path in ("/", "/reference")}
    assert all(one.headers["content-type"] == "text/html; charset=utf-8" for one in found.values())
    assert all(one.headers["x-frame-options"] == "DENY" for one in found.values())
    return {path: one.text for path, one in found.items()}


def test_pages_ask_their_own_server_alone() -> None:
    for path, html in pages().items():
        policy = next(value for tag, _, value in read_page(html).attributes if tag == "meta" and "default-src" in value)
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert ("connect-src 'self'" in policy) == (path == "/")
        assert not re.search(FAR, html)


def test_names_that_attack_are_text() -> None:
    plain, odd = pages(), pages(tuple(PAYLOADS))
    for path, html in odd.items():
        assert read_page(html).elements["script"] == read_page(plain[path]).elements["script"]
        assert not {"iframe", "object", "base", "img"} & set(read_page(html).elements)


def test_the_first_page_says_what_answers() -> None:
    text = text_of(page_of(colours()))
    for words in ("Ask colours", "colour · 3 classes · cpu", "Drop pictures here", "How to ask it from a program"):
        assert words in text


@pytest.mark.parametrize("several", [False, True])
def test_the_reference_has_all_that_the_description_has(several: bool) -> None:
    with answering(colours(several=several, max_pixels=123_000)) as client:
        text, told = text_of(client.get("/reference").text), client.get("/openapi.json").json()
        assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    assert set(told["paths"]) == {"/predict", "/predict/batch", "/healthz"}
    for path, ways in told["paths"].items():
        for method, one in ways.items():
            assert f"{method.upper()} {path}" in text
            assert one["description"] in text
            assert all(answer["description"] in text for answer in one["responses"].values())
    fields = told["components"]["schemas"]["Answer"]["properties"]
    assert list(fields) == ["path", *(["labels", "probs"] if several else ["label", "prob"]), "top", "error"]
    assert all(name in text and one["description"] in text for name, one in fields.items())
    assert "123,000 pixels" in text


def test_answers_have_the_shape_that_is_described() -> None:
    def fields(client: httpx.Client) -> tuple[list[str], list[str]]:
        told = client.get("/openapi.json").json()["components"]["schemas"]["Answer"]
        assert told["required"] == list(told["properties"])
        answer = client.post("/predict/batch", json={"images": [{"image": ""}]}).json()["answers"][0]
        return list(told["properties"]), list(answer)

    for served in (colours(), colours(several=True), colours(reject_at=0.5)):
        with answering(served) as client:
            described, given = fields(client)
            assert described == given
