"""Forms, as httpx writes them and as a naive writer does."""

import re

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgkit.serving.parts import Part, parts_of

CONTENTS = st.one_of(st.binary(max_size=40), st.lists(st.sampled_from([b"\r\n", b"--", b"B", b"x"])).map(b"".join))
NAMES = st.text(max_size=8)


def form(*parts: tuple[str, bytes], end: bytes = b"--B--\r\n") -> bytes:
    """Parts (headers, content) as RFC 7578 has them."""
    return b"".join(b"--B\r\n%b\r\n\r\n%b\r\n" % (head.encode(), content) for head, content in parts) + end


@given(st.lists(st.tuples(NAMES.filter(bool), st.none() | NAMES.filter(bool), CONTENTS), min_size=1, max_size=5))
def test_what_a_client_sends_comes_out(sent: list[tuple[str, str | None, bytes]]) -> None:
    request = httpx.Request("POST", "http://here", files=[(name, (file, content)) for name, file, content in sent])
    found = parts_of(request.read(), request.headers["content-type"], len(sent))
    assert [part.content for part in found] == [content for _, _, content in sent]
    for part, (name, file, _) in zip(found, sent, strict=True):
        assert (part.file is None) == (file is None)
        if not re.search(
            r'["\\\x00-\x1f]', name + (file or "")
        ):  # each client has its own way of escaping these, or none
            assert (part.field, part.file) == (name, file)


@pytest.mark.parametrize(
    ("kind", "file"),
    [("", None), ("text/plain", None), ("Text/Plain; charset=utf-8", None), ("image/png", ""), ("application/x", "")],
)
def test_what_has_no_name_is_a_file_where_its_type_is_not_text(kind: str, file: str | None) -> None:
    head = 'content-disposition: form-data; name="a"' + (f"\r\nCONTENT-TYPE: {kind}" if kind else "")
    assert parts_of(form((head, b"\xff")), "multipart/form-data; boundary=B", 9) == [Part("a", file, b"\xff")]


def test_no_more_than_are_wanted() -> None:
    head = 'Content-Disposition: form-data; name="a"; filename="b"'
    body = form(*[(head, b"%d" % number) for number in range(5)], end=b"--Bnothing that is read")
    assert [part.content for part in parts_of(body, "multipart/form-data; boundary=B", 5 - 1)] == [
        b"0",
        b"1",
        b"2",
        b"3",
    ]


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"", "multipart/form-data", "Missing boundary"),
        (form(("Content-Disposition: form-data", b"x")), "multipart/form-data; boundary=B", "A part has no name"),
        (form(("X: y", b"x")), "multipart/form-data; boundary=B", "A part has no name"),
        (
            form(('Content-Disposition: form-data; name="a"', b"x"), end=b""),
            "multipart/form-data; boundary=B",
            "within",
        ),
        (form(("Content", b"x")), "multipart/form-data; boundary=B", "character"),
        (b"junk", "multipart/form-data; boundary=B", "character"),
        (form(), "multipart/form-data; boundary=" + "B" * 10_000, "Boundary length"),
    ],
)
def test_what_is_no_form(body: bytes, kind: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parts_of(body, kind, 9)
    assert parts_of(form(), "multipart/form-data; boundary=B", 9) == []
