"""What is kept in the cache folder for later runs: how much, what goes first, and names by content.

A store is a folder of files that are written whole and never changed, `$IMGKIT_CACHE/KIND/STORE/FILE`. All stores
share one limit; for new files older stores go.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgkit.data.builtin import cache_folder
from imgkit.errors import UsageError
from imgkit.files import check_space
from imgkit.quantity import about_bytes, parse_bytes

LIMIT = "IMGKIT_CACHE_LIMIT"
"""The variable that says how much all stores may take together."""
KINDS = ("features", "pictures")
NAME_BYTES = 16
_USUAL_LIMIT = "10GB"
_IN_USE_S = 86_400.0  # a store that was used since then may be read right now


def store_folder(kind: str, about: Mapping[str, Any]) -> Path:
    """Where the files of a store are, by all that they have in common, as JSON."""
    assert kind in KINDS
    text = json.dumps(about, sort_keys=True)
    return cache_folder() / kind / hashlib.sha256(text.encode()).hexdigest()[:32]


def content_name(content: bytes) -> str:
    """The name of a file that holds `content`, hex."""
    return hashlib.blake2b(content, digest_size=NAME_BYTES).hexdigest()


def limit_bytes() -> int:
    """The limit.

    Raises:
        UsageError: if it is no size.
    """
    text = os.environ.get(LIMIT) or _USUAL_LIMIT
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"{LIMIT}: {error}.", f"Unset it for {_USUAL_LIMIT}, or set it:  {LIMIT}=2GB") from None


def make_room(store: Path, size: int, limit: int) -> str:
    """Make room for `size` bytes more of a store: within the limit, for which older ones go, and on the disk.

    Returns:
        Why there is none, in words; "" where there is.
    """
    kind = store.parent
    try:
        kind.mkdir(parents=True, exist_ok=True)
        stores = sorted(
            (place.stat().st_mtime, _size(place), place)
            for name in KINDS
            for place in (kind.parent / name).glob("*")
            if place.is_dir()
        )
        taken = sum(took for _, took, _ in stores)
        for used, took, place in stores:
            old = place != store and used < time.time() - _IN_USE_S
            if taken + size > limit and old:
                shutil.rmtree(place, ignore_errors=True)
                taken -= took
        if taken + size > limit:
            return f"{about_bytes(size)} more would exceed {LIMIT} ({about_bytes(limit)}, {kind})"
        check_space(kind, 2 * size)  # half of what is free is the run's
    except OSError as error:
        return f"{kind}: {error.strerror or error}"
    return ""


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
