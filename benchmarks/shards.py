"""Packing real pictures and reading them back, and an index of up to 100 million rows: benchmarks/shards.json.

    python benchmarks/shards.py --json benchmarks/shards.json                   # both; takes some ten minutes
    python benchmarks/shards.py --json benchmarks/shards.json --only packing    # 70,000 pictures of Fashion-MNIST
    python benchmarks/shards.py --json benchmarks/shards.json --only rows       # synthetic rows, 6 GB of disk
    python benchmarks/shards.py --json benchmarks/shards.json --table           # the tables of docs/large-data.md

Fashion-MNIST is where Debian's dataset-fashion-mnist puts it, or in --fashion. Its pictures are written as PNG in
class folders, packed, and read back: index, labels and pixels are compared row by row. Rows are written as an index of
shards, opened in a process whose own memory is counted, and looked up at random places.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import datasets
from page_tables import table, write

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "large-data.md"
ROWS = (1_000_000, 10_000_000, 100_000_000)
A_SHARD, CLASSES, PICTURE_BYTES = 10_000, 1000, 110_000  # of synthetic rows; the size is ImageNet's mean, about
LOOKUPS = 20_000
GIB = 2**30


def machine() -> str:
    """What was measured on, and how busy it was."""
    return f"{os.cpu_count()} cores shared with other work, load {os.getloadavg()[0]:.1f}"


# --- packing -------------------------------------------------------------------------------------------------------


def packing(scratch: Path) -> dict[str, Any]:
    """Seconds of packing and of reading, and whether what is read is what was packed."""
    import numpy as np
    from PIL import Image

    from imgkit.data.decode import load_image
    from imgkit.data.load import load_data
    from imgkit.data.pack import pack
    from imgkit.data.sources import find_data, read_source
    from imgkit.recipe.schema import DataSettings

    folder, out = scratch / "pictures", scratch / "shards"
    pixels, labels = datasets.fashion_images()
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / label / f"{number:05d}.png")
    whole = DataSettings(path=str(folder), val=0.2)
    began = time.perf_counter()
    plain = load_data(whole)
    scanned_s = time.perf_counter() - began
    began = time.perf_counter()
    packed = pack(DataSettings(path=str(folder), val=0.0), out, 16 << 20)  # the pictures' check is remembered
    packed_s = time.perf_counter() - began
    (out / "index.parquet").rename(scratch / "index.parquet")
    began = time.perf_counter()
    place = find_data(DataSettings(path=str(out)))
    rows = read_source(place, DataSettings(path=str(out))).rows
    headers_s = time.perf_counter() - began
    (scratch / "index.parquet").rename(out / "index.parquet")
    began = time.perf_counter()
    again = read_source(place, DataSettings(path=str(out))).rows
    index_s = time.perf_counter() - began
    sharded = load_data(DataSettings(path=str(out), val=0.2))
    one, two = plain.index, sharded.index
    same = {
        "index": list(rows) == list(again),
        "labels": bool((one.labels() == two.labels()).all()) and one.classes == two.classes,
        "splits": bool((one.splits == two.splits).all()),
        "bytes": bool((one.hashes == two.hashes).all() and (one.sizes == two.sizes).all()),
        "pixels": all(
            np.array_equal(np.asarray(load_image(one.path(row))), np.asarray(load_image(two.path(row))))
            for row in range(len(one))
        ),
    }
    reading = {}
    order = np.random.default_rng(0).permutation(len(one))[:20_000].tolist()
    for name, index in (("files", one), ("shards", two), ("files again", one), ("shards again", two)):
        began = time.perf_counter()
        for row in order:
            load_image(index.path(row))
        reading[name] = len(order) / (time.perf_counter() - began)
    began = time.perf_counter()
    two.write_csv(scratch / "index.csv")
    csv_s = time.perf_counter() - began
    began = time.perf_counter()
    print(two.fingerprint, file=sys.stderr)
    fingerprint_s = time.perf_counter() - began
    facts = Path(os.environ["IMGKIT_CACHE"], "scan.sqlite").stat().st_size / (len(one) + len(two))
    return {
        "photos": photos(scratch),
        "a_row": {
            "csv_s": csv_s / len(one),
            "csv_bytes": (scratch / "index.csv").stat().st_size / len(one),
            "fingerprint_s": fingerprint_s / len(one),
            "facts_bytes": facts,
        },
        "pictures": len(one),
        "shards": packed.shards,
        "bytes": {"pictures": int(one.sizes.sum()), "shards": packed.size},
        "same": same,
        "scanned_s": scanned_s,
        "packed_s": packed_s,
        "headers_s": headers_s,
        "index_s": index_s,
        "decoded_per_s": reading,
        "machine": machine(),
    }


def photos(scratch: Path) -> dict[str, Any]:
    """How fast one core decodes JPEGs of 500 x 375 out of a shard: noise smoothed until it takes a photo's bytes."""
    import numpy as np
    from PIL import Image

    from imgkit.data.decode import load_image
    from imgkit.data.load import load_data
    from imgkit.data.pack import pack
    from imgkit.recipe.schema import DataSettings

    drawn = np.random.default_rng(0)
    for number in range(200):
        folder = scratch / "photos" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(drawn.integers(0, 256, (150, 200, 3), dtype=np.uint8))
        noise.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=85)
    pack(DataSettings(path=str(scratch / "photos"), val=0.0), scratch / "photo-shards", 256 << 20)
    index = load_data(DataSettings(path=str(scratch / "photo-shards"))).index
    times = []
    for _ in range(3):
        began = time.perf_counter()
        for row in range(len(index)):
            load_image(index.path(row))
        times.append(time.perf_counter() - began)
    return {"bytes": float(index.sizes.mean()), "decoded_per_s": len(index) / min(times)}


# --- rows ----------------------------------------------------------------------------------------------------------


def write_rows(file: Path, n: int) -> None:
    """An index of n pictures, in arrays: PICTURE_BYTES each in the mean, A_SHARD a shard, CLASSES classes by turns."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from imgkit.data.shard_index import Shard, index_writer

    shards = [Shard(f"shard-{number:05d}.tar", 1 << 31) for number in range(-(-n // A_SHARD))]
    drawn = np.random.default_rng(0)
    with index_writer(file, "rows") as index:
        index.know(shards, [f"n{code:08d}" for code in range(CLASSES)])
        for first in range(0, n, A_SHARD):
            many = min(A_SHARD, n - first)
            sizes = drawn.integers(PICTURE_BYTES // 2, PICTURE_BYTES * 3 // 2, many)
            takes = 2 * 512 + 512 + (sizes + 511) // 512 * 512
            number = pa.array(np.arange(first, first + many)).cast(pa.string())
            index.add_columns(
                pa.array(np.full(many, first // A_SHARD, np.int32)),
                pa.array(np.cumsum(takes) - takes + 512),
                pa.array(sizes),
                pc.binary_join_element_wise(pc.utf8_lpad(number, 9, "0"), "jpg", ".").cast(pa.binary()),
                pa.ListArray.from_arrays(
                    pa.array(np.arange(many + 1, dtype=np.int32)),
                    pa.array((np.arange(first, first + many) % CLASSES).astype(np.int32)),
                ),
                pa.array(np.full(many, -1, np.int8)),
                pa.array(np.full(many, -1, np.int32)),
            )


class Watch(threading.Thread):
    """The most memory that the process itself held while this ran; pages of files are the system's, and not counted."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.02):
            self.most = max(self.most, own_bytes())

    def stop(self) -> int:
        self.ended.set()
        self.join()
        return max(self.most, own_bytes())


def own_bytes() -> int:
    """Anonymous memory of this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def open_rows(file: Path) -> dict[str, Any]:
    """Open an index, look up rows, and draw an epoch's order; in a process of its own."""
    import numpy as np

    from imgkit.data.columns import Rows
    from imgkit.data.index import Index
    from imgkit.data.shard_index import read_index
    from imgkit.data.spill import zeros
    from imgkit.keys import order

    before, found = own_bytes(), dict[str, Any]()
    watch = Watch()
    watch.start()
    began = time.perf_counter()
    opened = read_index(file, "rows")
    found["open_s"] = time.perf_counter() - began
    n, names = len(opened.paths), [str(label) for label in opened.labels]
    rows = Rows.of(opened.paths, opened.codes, opened.offsets, names, opened.splits, opened.groups)
    codes = zeros(n, np.int64)
    codes[:] = rows.codes
    index = Index(
        *(Path("/data"), rows.paths, tuple(names), codes, rows.offsets, zeros(n, np.int8), None),
        *(opened.paths.sizes, zeros((n, 32), np.uint8)),
    )
    found["open_bytes"] = watch.stop() - before
    places = np.random.default_rng(1).integers(0, n, LOOKUPS).tolist()
    times = []
    for row in places:
        began = time.perf_counter_ns()
        index.path(row), index.target(row)
        times.append((time.perf_counter_ns() - began) / 1000)
    found["seek_us"] = {"median": float(np.median(times)), "p99": float(np.percentile(times, 99))}
    watch, before = Watch(), own_bytes()
    watch.start()
    began = time.perf_counter()
    visited = order(0, 0, n)
    found["order_s"] = time.perf_counter() - began
    found["order_bytes"] = watch.stop() - before
    assert len(visited) == n
    return found


def rows(scratch: Path, n: int) -> dict[str, Any]:
    """Write and open an index of n rows."""
    file = scratch / "index.parquet"
    began = time.perf_counter()
    write_rows(file, n)
    found = {"rows": n, "write_s": time.perf_counter() - began, "file_bytes": file.stat().st_size}
    found["write_peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    done = subprocess.run(
        [sys.executable, __file__, "--open", str(file)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "IMGKIT_CACHE": str(scratch / "cache")},
    )
    file.unlink()
    return {**found, **json.loads(done.stdout), "machine": machine()}


# --- the page ------------------------------------------------------------------------------------------------------


def tables(figures: dict[str, Any]) -> dict[str, str]:
    """The tables of docs/large-data.md, by name."""
    packed = figures["packing"]
    speeds = packed["decoded_per_s"]
    first = table(
        ["what", "measured"],
        [
            ["pictures, shards", f"{packed['pictures']:,}, {packed['shards']}"],
            ["same after reading back", ", ".join(name for name, same in packed["same"].items() if same)],
            [
                "bytes of the pictures, of the shards",
                f"{packed['bytes']['pictures'] / 1e6:.1f} MB, {packed['bytes']['shards'] / 1e6:.1f} MB",
            ],
            ["pack", f"{packed['pictures'] / packed['packed_s']:,.0f} pictures/s"],
            ["read the headers, once", f"{packed['pictures'] / packed['headers_s']:,.0f} pictures/s"],
            ["read index.parquet instead", f"{packed['index_s'] * 1000:,.0f} ms"],
            [
                "decode files in random order, one core",
                f"{max(speeds['files'], speeds['files again']):,.0f} pictures/s",
            ],
            ["decode shards likewise", f"{max(speeds['shards'], speeds['shards again']):,.0f} pictures/s"],
        ],
    )
    second = table(
        ["rows", "index.parquet", "write", "open", "own memory, open", "look a row up", "an epoch's order"],
        [
            [
                f"{one['rows'] / 1e6:,.0f} M",
                f"{one['file_bytes'] / GIB:.2f} GiB ({one['file_bytes'] / one['rows']:.1f} bytes a row)",
                f"{one['write_s']:,.1f} s",
                f"{one['open_s']:,.1f} s",
                f"{one['open_bytes'] / 2**20:,.0f} MiB",
                f"{one['seek_us']['median']:,.0f} µs (99 %: {one['seek_us']['p99']:,.0f})",
                f"{one['order_s']:,.1f} s, {one['order_bytes'] / GIB:.2f} GiB",
            ]
            for one in figures["rows"]
        ],
    )
    return {"shards.json, packing": first, "shards.json, rows": second, "shards.json, plan": plan(figures)}


def plan(figures: dict[str, Any]) -> str:
    """What the measured costs of a picture are for more of them."""
    most, packed = figures["rows"][-1], figures["packing"]
    row, per_s, n_most = packed["a_row"], packed["photos"]["decoded_per_s"], most["rows"]
    sets = (("ImageNet-1k", 1_281_167), ("ImageNet-21k", 14_197_122), ("100 M", 10**8), ("a billion", 10**9))
    costs: tuple[tuple[str, Any], ...] = (
        (f"bytes of pictures, at {PICTURE_BYTES / 1000:.0f} kB each (assumed)", lambda n: size(n * PICTURE_BYTES)),
        ("shards of 256 MiB", lambda n: f"{n * (PICTURE_BYTES + 1536) / (256 << 20):,.0f}"),
        ("index.parquet", lambda n: size(n * most["file_bytes"] / n_most)),
        ("open it", lambda n: took(n * most["open_s"] / n_most)),
        ("an epoch's order, memory", lambda n: size(n * most["order_bytes"] / n_most)),
        ("an epoch's order, time", lambda n: took(n * most["order_s"] / n_most)),
        ("cache of the scan, disk", lambda n: size(n * row["facts_bytes"])),
        ("the run's index.csv, disk", lambda n: size(n * row["csv_bytes"])),
        ("writing it and the fingerprint", lambda n: took(n * (row["csv_s"] + row["fingerprint_s"]))),
        ("decode all once, core hours", lambda n: f"{n / per_s / 3600:,.1f}"),
    )
    return table(["", *(name for name, _ in sets)], [[what, *(cost(n) for _, n in sets)] for what, cost in costs])


def size(count: float) -> str:
    """Bytes for people, in powers of ten."""
    unit, of = next((name, of) for name, of in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)) if count >= of or of == 1e6)
    return f"{count / of:,.1f} {unit}" if count / of < 10 else f"{count / of:,.0f} {unit}"


def took(seconds: float) -> str:
    """A time for people."""
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:,.0f} min" if seconds >= 120 else f"{seconds:,.1f} s"


def main() -> None:
    """Read the command line and do what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("packing", "rows"))
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--fashion", type=Path, default=datasets.FASHION_DIR, help="folder of the IDX files")
    parser.add_argument("--scratch", type=Path, help="a folder for what is written (else a temporary one)")
    parser.add_argument("--table", action="store_true", help="write the tables into the page and stop")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.open is not None:
        print(json.dumps(open_rows(given.open)))
        return
    figures = json.loads(given.json.read_text()) if given.json and given.json.is_file() else {}
    if given.table:
        write(PAGE, tables(figures))
        return
    datasets.FASHION_DIR = given.fashion
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        scratch = Path(folder)
        if given.only != "packing":
            figures["rows"] = [rows(scratch, n) for n in given.rows]
        if given.only != "rows":
            os.environ["IMGKIT_CACHE"] = str(scratch / "cache")
            figures["packing"] = packing(scratch)
    text = json.dumps(figures, indent=1)
    print(text)
    if given.json is not None:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
