"""Imports point down only, and the torch line holds."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import imgkit

ROOT = Path(imgkit.__file__).parent
LAYERS = [
    [
        *("errors", "registry", "duration", "quantity", "keys", "signals", "cells", "files", "bounds", "threads"),
        "freed_memory",
        "machine",
    ],
    ["recipe"],
    [
        *(
            "data",
            "models",
            "hits",
            "losses",
            "mixing",
            "class_weights",
            "schedules",
            "schedule_fit",
            "plateau",
            "optimizers",
            "depthwise",
            "device",
        ),
        *("precision", "probabilities", "metrics", "multilabel", "calibration", "plugin", "model_names"),
        *("weight_packages", "inference", "budget", "cam", "cost", "energy", "cache"),
        *("selective", "conformal", "unlike"),
        "tracking",
        *("confident", "curve_fit"),
    ],
    [
        *("trainer", "ahead", "compiled", "loss_scale", "time_limit", "records", "checkpoint", "features", "sheet"),
        "tensor_file",
        *("solve", "logistic", "scaled", "head_sgd", "run", "run_names", "progress", "screen", "terminal"),
        *("epoch_log", "epoch_table", "feature_store", "notebook"),
        *("evaluation_tables", "evaluations", "plugin_files", "evidence_rows", "overlay"),
        *("held_out", "world", "shares", "sync_norm", "update_faults"),
    ],
    [
        *(
            "experiment",
            "setup",
            "prepare",
            "head",
            "finish",
            "average",
            "range_test",
            "evaluate",
            "scoring",
            "moved",
            "predict",
            "predict_ranks",
        ),
        *("prediction_rows", "forms", "vote", "template", "preview", "report", "plots", "class_sheet", "branch"),
        *("studies", "sweeps", "evidence", "doctor", "trunk", "validation", "ranking", "saving", "decode_once", "pace"),
        *("caution", "likeness"),
        *("labelling", "serving"),
        *("label_errors", "learning_curve"),
        "check",
        *("tracked", "following", "exports"),
    ],
    [
        *("api", "api_options", "api_run", "api_folds", "api_study", "api_probe", "api_features", "estimator", "demo"),
        "pictures_given",
        *("cli", "__init__", "__main__"),
    ],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
HEAVY = {"torch", "timm", "torchvision"}
TORCH_FREE = {
    *LAYERS[0],
    *(
        "recipe",
        "class_weights",
        "schedules",
        "schedule_fit",
        "plateau",
        "run",
        "run_names",
        "plugin_files",
        "template",
    ),
    *("model_names", "weight_packages"),
    *("evaluation_tables", "evaluations", "screen", "terminal", "report", "sheet", "plots", "class_sheet"),
    *("epoch_log", "epoch_table", "studies", "sweeps", "evidence_rows", "overlay"),
    *("labelling", "serving"),
    *("probabilities", "metrics", "multilabel", "calibration", "prediction_rows", "forms"),
    *("selective", "conformal", "unlike", "caution"),
    *("api_run", "api_folds", "estimator", "pictures_given", "notebook"),
    *("api", "api_options", "api_study", "api_probe", "api_features", "cli", "__init__", "__main__"),
    *("confident", "curve_fit"),
    "check",
    "tracking",
}
TORCH_NEEDED = {"studies.measure"}  # of what is free otherwise: imported where models are looked at
TORCH_FREE_DATA = [
    "decode",
    "index",
    "sources",
    "own_sources",
    "builtin",
    "split",
    "scan",
    "load",
    "folders",
    "csv_table",
    "table_paths",
    "rows",
    "aspect",
    "classes",
    "parquet",
    "path_list",
    "joined",
    "layouts",
    "imagenet",
    "tiny_imagenet",
    "voc",
    "sampling",
    "class_table",
    "look",
    "looks",
    "near",
    "same",
    *("byte_range", "range_paths", "spill", "tar_headers", "samples"),
    *("shard_index", "shard_names", "shards", "arrow_folder", "pack"),
]


def modules() -> dict[str, Path]:
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in sorted(ROOT.rglob("*.py"))}


def imports(file: Path, *, top_only: bool) -> set[str]:
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def unit(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_down(module: str) -> None:
    assert unit(module) in RANK, f"{module} has no place in a layer: add it to LAYERS"
    for name in imports(modules()[module], top_only=False):
        parts = name.split(".")
        if parts[0] == "imgkit" and len(parts) > 1 and parts[1] in RANK:
            assert RANK[parts[1]] <= RANK[unit(module)], f"{module} imports {name}, which lies above it"


@pytest.mark.parametrize(
    "module",
    sorted(
        name
        for name in modules()
        if (unit(name) in TORCH_FREE and name not in TORCH_NEEDED)
        or (unit(name) == "data" and name.split(".")[-1] in TORCH_FREE_DATA)
    ),
)
def test_torch_line(module: str) -> None:
    heavy = {name.split(".")[0] for name in imports(modules()[module], top_only=True)} & HEAVY
    assert not heavy, f"{module} imports {heavy} at the top"


def test_importing_the_surface_leaves_torch_alone() -> None:
    code = (
        "import sys, imgkit, imgkit.cli.app; print([m for m in ('torch', 'timm', 'torchvision') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_source_files_are_short() -> None:
    long = {name: n for name, file in modules().items() if (n := len(file.read_text().splitlines())) > 350}
    assert long == {}


def test_only_cli_uses_typer() -> None:
    users = {
        unit(name)
        for name, file in modules().items()
        if any(i.split(".")[0] == "typer" for i in imports(file, top_only=False))
    }
    assert users == {"cli"}


def test_version_is_the_changelogs() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    changelog = (ROOT.parent / "CHANGELOG.md").read_text()
    assert imgkit.__version__ == project["version"]
    assert f"## {imgkit.__version__}" in changelog


def test_public_names() -> None:
    assert imgkit.__all__ == [
        "Folds",
        "ImageClassifier",
        "ImgkitError",
        "Run",
        "__version__",
        "finetune",
        "lr_find",
        "open_run",
        "probe",
        "resume",
        "scratch",
        "study",
    ]
