import json
import os
from pathlib import Path

import pytest
from safetensors.numpy import save

from imgkit import bounds
from imgkit.bounds import check_header, check_tensors, parse_json, read_bytes, read_json


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    (tmp_path / "link").symlink_to("a")
    assert read_bytes(tmp_path / "link", 4) == b"1234"
    with pytest.raises(OSError, match="it has 4 bytes, and no such file of imgkit has more than 3"):
        read_bytes(tmp_path / "a", 3)


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device", "."):
        with pytest.raises(OSError, match="it is no plain file"):
            read_bytes(tmp_path / name)
        with pytest.raises(OSError, match="it is no plain file"):
            check_tensors(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        check_tensors(tmp_path / "missing")


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None, "ü\ud800"], "b": {"c": []}}
    (tmp_path / "a.json").write_bytes(json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    (tmp_path / "b.json").write_text(json.dumps(content))
    assert read_json(tmp_path / "b.json") == content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[1]", "it should hold a JSON object"),
        (b"[" * 100_000, "it is nested too deep"),
        (b'{"a":' * 100_000, "it is nested too deep"),
        (b"{", "Expecting property name"),
    ],
)
def test_json_beyond_the_bounds(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_json(content)


def test_the_bounds_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "JSON_VALUES", 3)
    assert parse_json(b'{"a": 1, "b": 2}') == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="it has more than 32 MiB or 3 values"):
        parse_json(b'{"a": 1, "b": 2, "c": 3, "d": 4}')
    monkeypatch.setattr(bounds, "JSON_VALUES", 9)
    monkeypatch.setattr(bounds, "JSON_BYTES", 20)
    with pytest.raises(ValueError, match="it has more than"):
        parse_json(b'{"a": "12345678901234567890"}')


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "longer than the file"),
        (b"1234567", "longer than the file"),
        ((2**63).to_bytes(8, "little") + b"{}", "longer than the file"),
        ((3).to_bytes(8, "little") + b"{}", "longer than the file"),
    ],
)
def test_a_header_that_lies(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_header(content, len(content))


def test_a_header_as_networks_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    content = save({f"layer.{n}": np.zeros(3, np.float32) for n in range(40)})
    check_header(content, len(content))
    with monkeypatch.context() as patch:
        patch.setattr(bounds, "TENSORS", 39)
        with pytest.raises(ValueError, match="it lists more than 39 tensors"):
            check_header(content, len(content))
    monkeypatch.setattr(bounds, "HEADER_BYTES", 100)
    with pytest.raises(ValueError, match=r"its header has [\d,]+ bytes, more than 100"):
        check_header(content[:108], len(content))
