"""Files that try to run code as they are read, and files that ask for far more than they are worth."""

import builtins
import functools
import importlib
import io
import json
import os
import pickle
import pty
import runpy
import shutil
import struct
import subprocess
import tarfile
import timeit
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils import collect_env

Make = Callable[[Path], object]


class Call:
    """Calls a function with arguments as it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def payloads(canary: Path) -> dict[str, Call]:
    """Ways to make a file named `canary` as a pickle is read."""
    touch, code = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    return {
        "os.system": Call(os.system, touch),
        "os.popen": Call(os.popen, touch),
        "subprocess": Call(subprocess.check_output, ["touch", str(canary)]),
        "exec": Call(builtins.exec, code),
        "eval": Call(builtins.eval, code),
        "open": Call(builtins.open, str(canary), "w"),
        "import": Call(importlib.import_module, "antigravity"),
        "runpy": Call(runpy._run_code, code, {}),  # type: ignore[attr-defined]
        "collect_env": Call(collect_env.run, touch),
        "partial": Call(functools.partial(os.system, touch)),
        "hub": Call(torch.hub.load, str(canary.parent), "touch", "source", "local"),
        "pty": Call(pty.spawn, ["touch", str(canary)]),
        "nested": Call(pickle.loads, pickle.dumps(Call(os.system, touch))),
        "timeit": Call(timeit.timeit, code, "pass", timeit.default_timer, 1),
        "copy": Call(shutil.copyfile, "/etc/hostname", str(canary)),
    }


def containers() -> dict[str, Callable[[Path, Call], object]]:
    """Ways to put a call into a file; the suffix is part of the name."""
    return {
        "zip.pth": lambda file, call: torch.save({"a": torch.zeros(1), "b": call}, file),
        "zip4.pt": lambda file, call: torch.save({"a": torch.zeros(1), "b": call}, file, pickle_protocol=4),
        "old.pth": lambda file, call: torch.save({"b": call}, file, _use_new_zipfile_serialization=False),
        "raw.bin": lambda file, call: file.write_bytes(pickle.dumps(call)),
        "raw0.pth": lambda file, call: file.write_bytes(pickle.dumps(call, 0)),
        "tar.tar": _tar,
        "zip.safetensors": lambda file, call: torch.save({"b": call}, file),
        "raw.safetensors": lambda file, call: file.write_bytes(pickle.dumps(call)),
    }


def _tar(file: Path, call: Call) -> None:
    """The oldest form of torch.save."""
    with tarfile.open(file, "w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            content = pickle.dumps(call)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def tensors_file(header: object, data: bytes = b"") -> bytes:
    """A safetensors file of any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def greedy_safetensors() -> Iterator[tuple[str, Make]]:
    """Files that no reader should trust the numbers of."""
    many = b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(60_000)) + b"}"
    contents: dict[str, Callable[[], bytes]] = {
        "header of 2^63": lambda: struct.pack("<Q", 2**63) + b"{}",
        "header of 2^64 - 1": lambda: struct.pack("<Q", 2**64 - 1) + b"{}",
        "header longer than the file": lambda: struct.pack("<Q", 1000) + b"{}",
        "header of 99 MB": lambda: tensors_file(b'{"a":' + b" " * 99_000_000 + b"1}"),
        "60,000 tensors": lambda: tensors_file(many),
        "deep header": lambda: tensors_file(b'{"a":' * 100_000),
        "deep lists": lambda: tensors_file(b'{"a":' + b"[" * 1_000_000),
        "shape overflow": lambda: tensors_file({"a": entry([2**32, 2**32], 0, 0)}),
        "shape of 2^62": lambda: tensors_file({"a": entry([2**62], 0, 16)}, bytes(16)),
        "negative shape": lambda: tensors_file({"a": entry([-1], 0, 4)}, bytes(4)),
        "overlap": lambda: tensors_file({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)),
        "hole": lambda: tensors_file({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)),
        "trailing bytes": lambda: tensors_file({"a": entry([1], 0, 4)}, bytes(400)),
        "beyond the end": lambda: tensors_file({"a": entry([100], 0, 400)}, bytes(4)),
        "backwards": lambda: tensors_file({"a": entry([1], 4, 0)}, bytes(4)),
        "unknown type": lambda: tensors_file({"a": entry([1], 0, 4, "F99")}, bytes(4)),
        "no UTF-8": lambda: tensors_file(b'{"\xff\xfe":1}'),
        "metadata of numbers": lambda: tensors_file({"__metadata__": {"a": 1}}),
        "no object": lambda: tensors_file([1, 2, 3]),
    }
    for name, content in contents.items():
        yield name, lambda file, content=content: file.write_bytes(content())


def greedy_torch() -> Iterator[tuple[str, Make]]:
    """Files of torch.save without code, that take any memory or time."""
    yield "a number repeated", lambda file: torch.save({"a": torch.zeros(1).expand(2**33)}, file)
    yield "a large view", lambda file: torch.save({"a": torch.zeros(1).expand(2**20, 2**20)}, file)
    yield "bytearray", lambda file: torch.save({"a": Call(bytearray, 2**42)}, file)
    yield "bytearray of 4 GiB", lambda file: torch.save({"a": Call(bytearray, 2**32)}, file)
    yield "bomb", _bomb
    yield "old storage of 4 TiB", _old_storage
    yield "hash without end", lambda file: file.write_bytes(_in_zip(_hash_bomb()))
    yield "old hash without end", lambda file: file.write_bytes(_hash_bomb())
    yield "deep lists", lambda file: file.write_bytes(_in_zip(b"\x80\x02" + b"]" * 2_000_000 + b"."))


def _bomb(file: Path) -> None:
    """A state dict of 512 MiB of zeros, packed to 2 MB: torch itself never packs."""
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, plain)
    with zipfile.ZipFile(plain) as given, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name in given.namelist():
            content = given.read(name)
            if name.endswith("data.pkl"):
                content = content.replace(b"K\x01", b"J" + struct.pack("<i", 2**27), 2)  # length and shape
            if "/data/" not in name:
                packed.writestr(name, content)
                continue
            with packed.open(name, "w", force_zip64=True) as stream:
                for _ in range(512):
                    stream.write(bytes(1 << 20))


def _old_storage(file: Path) -> None:
    torch.save({"a": torch.zeros(77)}, file, _use_new_zipfile_serialization=False)
    file.write_bytes(file.read_bytes().replace(b"KM", b"\x8a\x06" + (2**40).to_bytes(6, "little")))


def _hash_bomb() -> bytes:
    """{t40: 1}, where each tuple is twice the one before: its hash takes 2^40 steps."""
    steps = b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(40))
    return b"\x80\x02}K\x01" + steps + b"K\x01s."


def _in_zip(pickled: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in (("data.pkl", pickled), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(f"archive/{name}", content)
    return out.getvalue()


def greedy_json() -> Iterator[tuple[str, Make]]:
    """Texts of JSON that are long, wide or deep, and things that are no plain file."""
    contents: dict[str, Callable[[], bytes]] = {
        "100 MB": lambda: b'{"a": "' + b"x" * 100_000_000 + b'"}',
        "30 million lists": lambda: b'{"a": [' + b"[]," * 30_000_000 + b"[]]}",
        "10 million lists": lambda: b'{"a": [' + b"[]," * 10_000_000 + b"[]]}",
        "deep lists": lambda: b"[" * 1_000_000,
        "deep objects": lambda: b'{"a":' * 1_000_000,
        "a number of 1 MB": lambda: b'{"step": ' + b"9" * 1_000_000 + b"}",
        "no UTF-8": lambda: b'{"\xff": "\xfe',
        "zeros": lambda: bytes(1_000_000),
    }
    for name, content in contents.items():
        yield name, lambda file, content=content: file.write_bytes(content())
    yield "pipe", os.mkfifo
    yield "endless device", lambda file: file.symlink_to("/dev/zero")


def unpickle_all(file: Path) -> Any:  # noqa: ANN401
    """What a careless reader would do."""
    return torch.load(file, map_location="cpu", weights_only=False)
