"""Exports of eight families of networks against the run's own network, on the validation images of each run.

    python benchmarks/exports.py --json benchmarks/exports.json           # trains what is not in --runs yet
    python benchmarks/exports.py --only vit solar --json /tmp/exports.json
    python benchmarks/exports.py --json benchmarks/exports.json --table   # the tables of docs/export.md alone

Each network learns the digits at 64 px for two epochs from random weights (tf_efficientnet_lite0 from its ImageNet
weights, as `finetune` does), which is enough for answers that differ from image to image; `solar` is the probe of
tf_efficientnet_lite0 on two classes of solar cells at 224 px. int8 is exported whatever it costs (`--max-drop 100`), so
that the table has what it does.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from datasets import DEFAULT_OUT
from page_tables import ROOT, table, write

import imgkit
from imgkit.api import Run
from imgkit.demo import _solar_csv, _solar_folder
from imgkit.exports.formats import Format
from imgkit.quantity import about_bytes
from imgkit.run import RunFolder

PAGE = ROOT / "docs" / "export.md"
FORMATS: tuple[Format, ...] = ("onnx", "torch-export", "timm", "onnx-int8")
FAMILIES = {
    "resnet": "resnet50",
    "vgg": "vgg11",
    "convnext": "convnext_tiny",
    "efficientnet": "tf_efficientnet_lite0",
    "vit": "vit_tiny_patch16_224",
    "swin": "swin_tiny_patch4_window7_224",
    "mobilenetv4": "mobilenetv4_conv_small",
    "cbam": "cbam_resnet50",
    "solar": "tf_efficientnet_lite0",
}
_PRETRAINED = ("efficientnet", "solar")


def trained(family: str, runs: Path) -> Run:
    """The run of a family, trained where it is not there yet."""
    name = "solar" if family == "solar" else FAMILIES[family]
    if (runs / name / "model" / "model.safetensors").is_file():
        return Run(RunFolder.open(name, runs))
    how: dict[str, Any] = {"out": runs, "name": name, "sets": ["run.workers=1"]}
    if family == "solar":
        how["sets"].append(f"data.root={_solar_folder()}")
        return imgkit.finetune(FAMILIES[family], recipe="probe", data=str(_solar_csv()), **how)
    how |= {"data": "digits", "image_size": 64, "epochs": 2}
    how["sets"].append("augment.hflip=0")
    train = imgkit.finetune if family in _PRETRAINED else imgkit.scratch
    return train(FAMILIES[family], **how)


def measure(family: str, runs: Path) -> list[dict[str, Any]]:
    """A row for each format."""
    run, rows = trained(family, runs), []
    about = run.folder.read_json("run.json")
    for to in FORMATS:
        began = time.perf_counter()
        allowed = {"max_drop": 100.0} if to == "onnx-int8" else {}
        done = run.export(to, max_size="none", **allowed)
        part = done["exported"]
        weights = max(one["bytes"] for one in done["files"].values())
        rows.append(
            {
                "family": family,
                "network": FAMILIES[family],
                "start": "ImageNet" if family in _PRETRAINED else "random",
                "size_px": about["preprocessing"]["size"][0],
                "parameters": about["parameters"],
                "format": to,
                "n": done["n"],
                "bytes": weights,
                "seconds": round(time.perf_counter() - began, 1),
                "max_abs_logit": part["max_abs_logit"],
                "from_files": done.get("from_files", {}).get("max_abs_logit"),
                "same": part["same"],
                "same_pixels": done.get("from_files", {}).get("same_pixels"),
                "f1_source": done["source"]["f1_macro"],
                "f1": part["f1_macro"],
                "f1_interval": part["difference"]["f1_macro_interval"],
                "top1_source": done["source"]["top1"],
                "top1": part["top1"],
                "int8": done.get("int8"),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def _points(row: dict[str, Any], name: str) -> str:
    return f"{100 * (row[name] - row[f'{name}_source']):+.1f}"


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The tables of the page."""
    by = {(row["family"], row["format"]): row for row in found["rows"]}
    families = list(dict.fromkeys(row["family"] for row in found["rows"]))
    exact, rounded = [], []
    for family in families:
        one = by[family, "onnx"]
        called = f"{one['network']}, {one['size_px']} px" + ", solar cells" * (family == "solar")
        cells = [called, f"{one['parameters'] / 1e6:.1f} M"]
        cells += [f"{by[family, to]['max_abs_logit']:.1e}" for to in ("onnx", "torch-export", "timm")]
        same = [by[family, to]["same"] for to in ("onnx", "torch-export", "timm")]
        exact.append([*cells, f"{min(same)} of {one['n']}", f"{one['same_pixels']} of {one['n']}"])
        row = by[family, "onnx-int8"]
        ends = row["f1_interval"]
        told = "" if ends is None else f" ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})"
        sizes = f"{about_bytes(one['bytes'])} → {about_bytes(row['bytes'])}"
        f1 = f"{100 * row['f1_source']:.1f} → {100 * row['f1']:.1f} %"
        change = [f"{_points(row, 'f1')}{told}", _points(row, "top1")]
        rounded.append([called, sizes, row["int8"]["chosen"], f"{row['same']} of {row['n']}", f1, *change])
    head = ["network", "parameters", "ONNX", "torch.export", "timm", "same answer", "same pixels"]
    other = ["network", "weights", "in int8", "same answer", "macro F1", "points (95 %)", "top-1, points"]
    return {"exports.json, float": table(head, exact), "exports.json, int8": table(other, rounded)}


def main() -> None:
    """Measure each family and print its rows; or write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, default=DEFAULT_OUT / "runs", help="runs (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there, or read them from there")
    parser.add_argument("--table", action="store_true", help="write the tables of the page from the JSON, and stop")
    args = parser.parse_args()
    if args.table:
        write(PAGE, tables(json.loads(args.json.read_text())))
        return
    if "solar" in args.only and find_spec("elpv_dataset") is None:
        raise SystemExit("The solar cells need a package: pip install 'imgkit-timm[demo]'")
    torch.set_num_threads(1)
    rows = [row for family in args.only for row in measure(family, args.runs)]
    if args.json is not None:
        args.json.write_text(json.dumps({"threads": 1, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
