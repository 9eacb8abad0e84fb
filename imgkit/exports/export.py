"""From a finished run to a whole folder exports/FORMAT: written, compared, and only then given its name."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from imgkit.data.batches import eval_batches
from imgkit.data.index import Index
from imgkit.data.sources import sha256_of
from imgkit.errors import GateError, UsageError, disk_told, printable
from imgkit.evaluate import check_files, load_run_model, read_index
from imgkit.exports.card import card_of
from imgkit.exports.formats import CALIBRATION, IMAGES, WEIGHTS, Wish
from imgkit.exports.graph import INPUT, OUTPUT, OfPixels, require_onnx, traced, write_onnx, write_torch_export
from imgkit.exports.int8 import Quantised, Session, quantise
from imgkit.exports.proof import Answer, OneFile, ask_both, by_the_script, by_timm, lines_of, proof_of, refuse
from imgkit.exports.timm_folder import check_head, load_timm, write_timm
from imgkit.features import filled
from imgkit.files import neighbour, put_back, put_in_place, sweep, whole_file
from imgkit.keys import key, order
from imgkit.models.fold import fold_batch_norms
from imgkit.models.folder import LoadedModel
from imgkit.quantity import format_bytes, parse_bytes, unit_of
from imgkit.recipe.load import load_recipe
from imgkit.run import RunFolder, goes_on
from imgkit.screen import Screen

SCHEMA = 1
VERIFIED = "verify.json"
SIDECAR, SCRIPT = "model.json", "predict_onnx.py"
_PACKAGES = ("imgkit-timm", "torch", "timm", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")


def export_run(folder: RunFolder, wish: Wish, screen: Screen) -> dict[str, Any]:
    """Write the best weights of a finished run as `exports/FORMAT`, once both networks agree on validation images.

    All is written under a hidden name, compared there, and renamed as a whole; an export that is there stays until
    then. One that is refused leaves `exports/FORMAT-refused.json` with all that was measured, and nothing else.

    Returns:
        What verify.json holds, and "folder": where the export is.

    Raises:
        UsageError: if an option is not used or out of range, a package is not installed, the run is not finished, or
            it has no validation images.
        DataError: if a validation or calibration image is not what it was.
        WeightsError: if torch cannot make a graph of the network.
        GateError: if the file is over the limit on size, or the networks do not agree.
        DiskError: if the export cannot be written, or the run is damaged.
    """
    wish.check()
    if wish.to.startswith("onnx"):
        require_onnx()
    about = folder.read_json("run.json")
    if goes_on(folder.read_json("status.json")):
        raise folder.without_model()
    loaded = load_run_model(folder)
    if wish.to == "timm":
        check_head(dict(loaded.config))
    recipe = load_recipe(str(folder.path / "recipe.toml")).recipe
    index = read_index(folder, about)
    asked = drawn(index, "val", IMAGES if wish.images is None else wish.images, recipe.seed)
    learnt = drawn(index, "train", wish.calibration or CALIBRATION, recipe.seed) if wish.rounds else asked[:0]
    with screen.progress("checking images") as progress:
        check_files(index.select(np.concatenate([asked, learnt])), progress)
    place = folder.path / "exports" / wish.to
    screen.fact("Export", f"{folder.name} as {wish.to}: {printable(str(place))}/")
    draft, kept = neighbour(place), place.with_name(f"{wish.to}-refused.json")
    with disk_told(place):
        try:
            draft.mkdir(parents=True)
            put_back(place.parent)
            sweep(place.parent)
            job = Job(folder, about, loaded, index, learnt, recipe.data.max_pixels, draft, wish, screen)
            exported, one_file, more = job.write()
            job.check_size()
            found = ask_both(loaded, exported, index, asked, recipe.data.max_pixels, screen, one_file)
            proof = proof_of(found, loaded, wish, recipe.seed)
            proof = job.facts(index.select(asked), len(index.rows("val"))) | more | proof
            if proof["faults"]:
                _write_json(kept, proof)
                refuse(proof, kept)
            _write_json(draft / VERIFIED, proof)
            put_in_place(draft, place)
            kept.unlink(missing_ok=True)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    screen.fact("Compared", *lines_of(proof))
    return proof | {"folder": str(place)}


def drawn(index: Index, split: str, most: int, seed: int) -> npt.NDArray[np.int64]:
    """At most so many rows of a split, by a keyed draw, in the order of the index: int64 (n,).

    Raises:
        UsageError: if it has none.
    """
    rows = index.rows(split)
    if not len(rows):
        raise UsageError(
            f"This run has no {split} images, and an export is compared with it on those of val.",
            "Train with a validation split:  --set data.val=0.2",
        )
    found: npt.NDArray[np.int64] = np.sort(rows[order(key(seed, "export", split), 0, len(rows))[:most]])
    return found


@dataclass(frozen=True)
class Job:
    """One export of one run while it is written.

    Args:
        run: the run.
        about: its run.json.
        loaded: its network.
        index: its data.
        learnt: rows of train that int8 learns its ranges from; none for other formats.
        max_pixels: larger pictures are not opened.
        draft: the hidden folder.
        wish: what is asked for.
        screen: where to say what is going on.
    """

    run: RunFolder
    about: Mapping[str, Any]
    loaded: LoadedModel
    index: Index
    learnt: npt.NDArray[np.int64]
    max_pixels: int
    draft: Path
    wish: Wish
    screen: Screen

    @property
    def weights(self) -> Path:
        """The file of weights."""
        return self.draft / WEIGHTS[self.wish.to]

    def write(self) -> tuple[Answer, OneFile | None, dict[str, Any]]:
        """Write the files; returns the exported network, what reads pictures with it, and more for verify.json."""
        threads = torch.get_num_threads()
        if self.wish.to == "timm":
            write_timm(self.run, self.draft, dict(self.loaded.config))
            (self.draft / "README.md").write_text(card_of(self.run, self.about, self.loaded), encoding="utf-8")
            network = load_timm(self.draft)

            def by_plain_timm(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
                images = self.loaded.preprocessing.normalise(torch.from_numpy(pixels))
                found: npt.NDArray[np.float32] = network(filled(images))[: len(pixels)].numpy()
                return found

            return by_plain_timm, by_timm(network, self.max_pixels, self.loaded.preprocessing.min_side), {}
        _write_json(self.draft / SIDECAR, self.sidecar())
        if self.wish.to == "torch-export":
            write_torch_export(traced(self._of_pixels(self.loaded.model), self.loaded.preprocessing), self.weights)
            program = torch.export.load(self.weights).module()
            return lambda pixels: program(torch.from_numpy(pixels)).numpy(), None, {}
        (self.draft / SCRIPT).write_text((files("imgkit.exports") / "predict_onnx.txt").read_text("utf-8"), "utf-8")
        more: dict[str, Any] = {}
        if self.wish.rounds:
            more = {"int8": asdict(self._int8(threads))}
        else:
            write_onnx(traced(self._of_pixels(self.loaded.model), self.loaded.preprocessing), self.weights)
        return Session(self.weights, threads), by_the_script(self.draft, threads), more

    def _of_pixels(self, network: torch.nn.Module) -> OfPixels:
        return OfPixels(network.cpu().eval(), self.loaded.preprocessing)

    def _int8(self, threads: int) -> Quantised:
        """Write int8 from a float32 file, which does not stay."""
        preprocessing = self.loaded.preprocessing
        batches = eval_batches(
            self.index, self.learnt, preprocessing=preprocessing, batch_size=32, workers=0, max_pixels=self.max_pixels
        )
        images = torch.cat([batch.images for batch in batches])
        folded, _ = fold_batch_norms(self.loaded.model, preprocessing.normalise(images[:1]))
        source = self.draft / "float32.onnx"
        write_onnx(traced(self._of_pixels(folded), preprocessing), source)
        with self.screen.progress("quantising") as progress:
            found = quantise(source, self.weights, np.ascontiguousarray(images.numpy()), threads, progress)
        for file in self.draft.glob("float32.onnx*"):
            file.unlink()
        self.screen.fact("int8", f"{found.chosen}, ranges from {found.n:,} images of train")
        return found

    def sidecar(self) -> dict[str, Any]:
        """All that a program has to know beside the graph: names, the rule of pixels, temperature and thresholds."""
        preprocessing, calibration = self.loaded.preprocessing, self.loaded.calibration
        return {
            "schema": SCHEMA,
            "format": self.wish.to,
            "run": self.run.name,
            "network": self.about["model"],
            "task": self.loaded.task,
            "classes": list(self.loaded.classes),
            "input": {
                "name": INPUT,
                "type": "uint8",
                "shape": ["batch", preprocessing.channels, *preprocessing.size],
                "meaning": "grey levels 0 to 255, RGB; mean and std are applied inside the graph",
            },
            "output": {"name": OUTPUT, "type": "float32", "shape": ["batch", len(self.loaded.classes)]},
            "preprocessing": preprocessing.to_dict(),
            "max_pixels": self.max_pixels,
            "temperature": calibration.temperature,
            "thresholds": None if calibration.thresholds is None else dict(calibration.thresholds),
            "licence_of_weights": (self.about.get("weights") or {}).get("licence"),
        }

    def check_size(self) -> None:
        """Look at the file of weights by the limit on size, if there is one.

        Raises:
            GateError: if it is over it.
        """
        limit, text = self.about.get("budget", {}).get("size"), self.wish.max_size
        if text is not None:
            limit = None if text == "none" else {"limit": text, "origin": "--max-size", "most": parse_bytes(text)}
        if limit is None:
            return
        size = sum(file.stat().st_size for file in self.draft.glob(f"{self.weights.name}*"))
        if size > limit["most"]:
            unit = unit_of(limit["limit"])
            smaller = "" if self.wish.rounds else "A quarter of it:  --to onnx-int8\n"
            raise GateError(
                f"{self.weights.name} takes {format_bytes(size, unit)}, over the limit of {limit['limit']} "
                f"({limit['origin']}), so there is no export.",
                f"{smaller}Without the limit:  --max-size none",
            )

    def facts(self, seen: Index, of: int) -> dict[str, Any]:
        """What verify.json says besides the comparison: which weights, images, files and versions."""
        parts = sorted(file for file in self.draft.iterdir() if file.name != VERIFIED)
        return {
            "schema": SCHEMA,
            "format": self.wish.to,
            "run": self.run.name,
            "weights_sha256": sha256_of(self.run.path / "model" / "model.safetensors"),
            "split": "val",
            "of": of,
            "data": seen.fingerprint,
            "files": {file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in parts},
            "versions": _versions(),
        }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    with whole_file(file) as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
