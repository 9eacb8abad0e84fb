"""One turn of the measurements that have scripts of their own: listing.py, saving.py, quality.py, peers/.

python others.py listing --out O --scratch S --way imgkit --root TREE --kind s
python others.py saving  --out O --scratch S
python others.py solar   --out O --scratch S --way probe --csv solar2-0.csv
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import stopwatch

HERE = Path(__file__).resolve().parents[1]
sys.path.append(str(HERE))


def listing(given: argparse.Namespace) -> None:
    """Seconds of finding all files of a folder of classes, or bytes a file that it takes: the second of two times."""
    from listing import MEASURE

    for _ in range(2):  # in a process of its own each: the first one also fills the system's caches
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, given.way, str(given.root)], check=True, capture_output=True, text=True
        )
    found = json.loads(done.stdout)
    stopwatch.leave(given.out, found["wall_s" if given.kind == "s" else "bytes_a_file"], **found)


def saving(given: argparse.Namespace) -> None:
    """Seconds that the next update waits: for a checkpoint on the disk, and for one that is written beside it."""
    out = given.scratch / "saving.json"
    words = ["--repeats", "1", "--json", str(out), "--out", str(given.scratch)]
    subprocess.run([sys.executable, str(HERE / "saving.py"), *words], check=True)
    found = json.loads(out.read_text())
    values = {", beside": found["beside_stall_s_median"], ", waited for": found["waiting_stall_s_median"]}
    stopwatch.leave(given.out, values=values, **found)


def solar(given: argparse.Namespace) -> None:
    """Seconds of one whole command with cold caches, and the macro F1 on test that it reaches."""
    found: dict[str, Any]
    if given.way == "stored":
        found = json.loads((HERE / "results" / "peers" / f"{given.csv.stem}-fastai.json").read_text())
    elif given.way == "fastai":
        out = given.scratch / "fastai.json"
        words = ["--csv", str(given.csv), "--out", str(out), "--scratch", str(given.scratch)]
        subprocess.run([sys.executable, str(HERE / "peers" / "fastai_finetune.py"), *words], check=True)
        found = json.loads(out.read_text())
    else:
        from quality import run_one

        task, _, split = given.csv.stem.rpartition("-")
        found = run_one(given.csv.parent, task, int(split), given.way, [])
    stopwatch.leave(given.out, found["wall_s"], f1_macro=found["f1_macro"], cpu_s=found["cpu_s"])


def main() -> None:
    """Do one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    works = {"listing": listing, "saving": saving, "solar": solar}
    parser.add_argument("work", choices=works)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--way", help="listing: imgkit, ImageFolder; solar: fastai, stored, or a recipe of imgkit")
    parser.add_argument("--root", type=Path, help="listing: class folders")
    parser.add_argument("--kind", choices=("s", "bytes"), help="listing: of the value")
    parser.add_argument("--csv", type=Path, help="solar: a table of benchmarks/datasets.py")
    given = parser.parse_args()
    works[given.work](given)


if __name__ == "__main__":
    main()
