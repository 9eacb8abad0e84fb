"""Shards behind a web server that gives ranges of bytes: the same rows, pixels and hashes as on the disk."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from rules import rule
from tars import shards

from imgkit.data.batches import eval_batches
from imgkit.data.index import Index
from imgkit.data.load import load_data
from imgkit.errors import BadImage, DataError
from imgkit.recipe.schema import DataSettings

pytest.importorskip("pyarrow")
pytest.importorskip("aiohttp")


class _Ranges(SimpleHTTPRequestHandler):
    """Serves files, parts of them where asked; all that it was asked for is in `asked`."""

    asked: list[str]
    failing = 0  # so many answers are that the server has no time
    ranges = True

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            self.send_error(404)
            return
        if type(self).failing:
            type(self).failing -= 1
            self.send_error(503)
            return
        content, wanted = file.read_bytes(), self.headers.get("Range", "") if self.ranges else ""
        first, last = 0, len(content) - 1
        if wanted:
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or last), last)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{file.stat().st_mtime_ns}"')
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        if body:
            self.asked.append(wanted)
            self.wfile.write(content[first : last + 1])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str, type[_Ranges]]]:
    """A folder, its URL, and who answers."""
    handler = type("Ranges", (_Ranges,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    thread.join()
    server.server_close()


def pixels(index: Index, workers: int) -> torch.Tensor:
    """uint8 (N, 3, 8, 8)."""
    rows = np.arange(len(index.paths))
    batches = eval_batches(index, rows, preprocessing=rule(8), batch_size=5, workers=workers, max_pixels=10**6)
    return torch.cat([batch.images for batch in batches])


def test_pictures_behind_a_web_server_are_those_of_the_disk(served: tuple[Path, str, type[_Ranges]]) -> None:
    folder, url, handler = served
    shards(folder / "s")
    words = "s/{train,val}/s-{0..1}.tar"
    here = load_data(DataSettings(path=f"{folder}/{words}")).index
    there = load_data(DataSettings(path=f"{url}/{words}")).index
    assert list(here.paths) == list(there.paths)
    assert (here.hashes == there.hashes).all()
    assert here.classes == there.classes
    assert [here.target(row) for row in range(24)] == [there.target(row) for row in range(24)]
    handler.asked.clear()
    local = pixels(here, 0)
    for workers in (0, 2):  # a process that was forked has connections of its own
        assert torch.equal(pixels(there, workers), local)
    assert len(handler.asked) == 2 * len(local)
    assert all(handler.asked), "a picture is a range, not its whole shard"


def test_a_moment_without_an_answer_ends_nothing(
    served: tuple[Path, str, type[_Ranges]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url, handler = served
    shards(folder / "s", splits=["train"])
    index = load_data(DataSettings(path=f"{url}/s/train/s-{{0..1}}.tar")).index
    monkeypatch.setattr("imgkit.data.byte_range.AGAIN_S", (0.0, 0.0))
    expected = pixels(index, 0)
    handler.failing = 2
    assert torch.equal(pixels(index, 0), expected)
    handler.failing = 3
    with pytest.raises(BadImage, match="503"):
        pixels(index, 0)
    handler.ranges = False
    with pytest.raises(BadImage, match="no ranges of them"):
        pixels(index, 0)


def test_where_nothing_listens_the_reason_is_told() -> None:
    with pytest.raises(DataError, match=r"Cannot connect to host 127\.0\.0\.1:1 "):
        load_data(DataSettings(path="http://127.0.0.1:1/s.tar"))


def test_a_server_that_is_gone_is_told(served: tuple[Path, str, type[_Ranges]]) -> None:
    _, url, _ = served
    with pytest.raises(DataError, match=r"none\.tar"):
        load_data(DataSettings(path=f"{url}/none.tar"))
