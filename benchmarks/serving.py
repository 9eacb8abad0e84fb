"""How long `imgkit serve` takes to answer, and how many pictures a second: clients that each ask without a pause.

    python benchmarks/serving.py runs/NAME photos/ --json benchmarks/serving.json
    python benchmarks/serving.py runs/NAME photos/ --seconds 5 --clients 1 4 --json /tmp/serving.json

The server is `imgkit serve` in a process of its own; the clients are threads of this one, on the same machine, so that
they take processor time of it, too. Each sends one picture a request, as a form. Besides, the server that puts one
picture into a pass: whether it is worth it that requests share passes. The load of the machine before each measurement
is written down.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

ALONE = "import imgkit.serving.passes as passes; passes.Passes.__init__.__defaults__ = (1,); "
START = "from imgkit.cli.app import main; main()"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("run")
    arguments.add_argument("photos", type=Path)
    arguments.add_argument("--json", type=Path, required=True)
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    given = arguments.parse_args()
    files = sorted(file for file in given.photos.rglob("*") if file.suffix.lower() in {".jpg", ".jpeg", ".png"})[:200]
    pictures = [file.read_bytes() for file in files]
    rows = []
    for together in (True, False):
        with_code = START if together else ALONE + START
        words = [sys.executable, "-c", with_code, "serve", given.run, "--port", "0"]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"})
        address = address_of(process)
        about = httpx.get(f"{address}/healthz", trust_env=False).json()
        for clients in given.clients:
            rows.append({"together": together} | measured(address, pictures, clients, given.seconds))
            print(rows[-1], flush=True)
        process.send_signal(signal.SIGTERM)
        process.wait()
    content = {
        "command": "python benchmarks/serving.py RUN PHOTOS",
        "model": about["model"],
        "device": about["device"],
        "cores": os.cpu_count(),
        "seconds": given.seconds,
        "pictures": len(pictures),
        "bytes_median": statistics.median(map(len, pictures)),
        "rows": rows,
    }
    given.json.write_text(json.dumps(content, indent=1) + "\n")


def address_of(process: subprocess.Popen[str]) -> str:
    """Where the server is; what it says afterwards is read and forgotten."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"Open +(http://\S+)/", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return found[1]
    raise SystemExit("the server did not start")


def measured(address: str, pictures: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    load = os.getloadavg()[0]
    took: list[float] = []
    end = time.perf_counter() + seconds + 1  # the first second warms up

    def work(first: int) -> None:
        with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
            for number in itertools.count(first * 7):
                began = time.perf_counter()
                if began > end:
                    return
                client.post("/predict", files={"image": pictures[number % len(pictures)]}).raise_for_status()
                if began > end - seconds:
                    took.append(1000 * (time.perf_counter() - began))

    threads = [threading.Thread(target=work, args=(one,)) for one in range(clients)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    cuts = statistics.quantiles(took, n=100)
    return {
        "clients": clients,
        "requests": len(took),
        "p50_ms": round(cuts[49], 1),
        "p99_ms": round(cuts[98], 1),
        "images_per_second": round(len(took) / seconds, 1),
        "load_before": round(load, 2),
    }


if __name__ == "__main__":
    main()
