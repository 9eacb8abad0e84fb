"""Sessions over small pictures, and requests to their server."""

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pictures import square

from imgkit.labelling.answers import Answers
from imgkit.labelling.session import Candidate, Session

CLASSES = ("cat", "dog", "eel")


def session_of(place: Path, n: int = 4, *, top: bool = True, classes: tuple[str, ...] = CLASSES) -> Session:
    """A session of n pictures 0.png, 1.png, … in `place`/photos, whose answers go to `place`/labels.csv."""
    root = place / "photos"
    root.mkdir(exist_ok=True)
    for number in range(n):
        square(number).save(root / f"{number}.png")
    guess = ((classes[1], 0.5), (classes[0], 0.25)) if top else ()
    candidates = [Candidate(f"{number}.png", guess) for number in range(n)]
    return Session(root, candidates, classes, Answers(place / "labels.csv"), run="one" if top else "")


class Client:
    """Asks a server at its address, as the page does."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.port, self.start = parts.port or 0, parts.path

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Status, body and headers of a request for a whole path."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        found = answer.status, answer.read(), answer.headers
        connection.close()
        return found

    def get(self, path: str) -> dict[str, Any]:
        """What the page is told at a path below the secret."""
        status, body, _ = self.ask(self.start + path)
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def post(self, path: str, given: object, **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and what the page is told, of what it sends."""
        sent = {"Content_Type": "application/json", "Origin": f"http://127.0.0.1:{self.port}"} | headers
        status, body, _ = self.ask(self.start + path, "POST", json.dumps(given).encode(), **sent)
        return status, json.loads(body)

    def answer(self, image: int, code: int, seen: int | None = None) -> dict[str, Any]:
        """Answer an image."""
        status, found = self.post("answer", {"image": image, "class": code, "seen": seen})
        assert status == 200, found
        return found
