"""timm's own train.py, inference.py and validate.py of a checkout, with clocks around their steps.

    python timm_steps.py train --timm-repo TIMM --out O --scratch S --data D --model M --batch-size 32 -- --workers 1

What follows `--` goes to timm's script as it is. The scripts run unchanged in this process: their function of an epoch,
or what makes their loader and what writes their results, is wrapped by a clock. `frozen` is train.py with all but the
head told to need no gradient, which it has no flag for.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import TYPE_CHECKING, Any

import stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

SCRIPTS = {"train": "train.py", "frozen": "train.py", "inference": "inference.py", "validate": "validate.py"}


def load(given: stopwatch.argparse.Namespace) -> ModuleType:
    """The script as a module; the checkout's own timm is the one that it imports."""
    sys.path.insert(0, str(given.timm_repo))
    spec = importlib.util.spec_from_file_location("timm_script", given.timm_repo / SCRIPTS[given.work])
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["timm_script"] = script  # workers that are spawned look it up
    spec.loader.exec_module(script)
    return script


def train(given: stopwatch.argparse.Namespace, script: Any, words: list[str]) -> None:  # noqa: ANN401
    """Images a second; for `frozen` the seconds of all epochs, and of all to the end of the last validation."""
    seconds, images, instants = [], [], []
    epoch = script.train_one_epoch

    def timed_epoch(number: int, model: Any, loader: Any, *rest: Any, **more: Any) -> Any:  # noqa: ANN401
        instants.append(time.perf_counter())
        found = epoch(number, model, loader, *rest, **more)
        stopwatch.settled(given.device)
        seconds.append(time.perf_counter() - instants[-1])
        images.append(len(loader) * given.batch_size)
        return found

    validate = script.validate

    def timed_validation(*rest: Any, **more: Any) -> Any:  # noqa: ANN401
        found = validate(*rest, **more)
        instants.append(time.perf_counter())
        return found

    script.train_one_epoch, script.validate = timed_epoch, timed_validation
    if given.work == "frozen":
        script.create_model = frozen(script.create_model)
    sys.argv = [
        *("train.py", "--data-dir", str(given.data), "--train-split", "train", "--val-split", "val"),
        *("--model", given.model, "--num-classes", str(given.classes), "--img-size", str(given.size)),
        *("--batch-size", str(given.batch_size), "--opt", "adamw", "--lr", "1e-4", "--weight-decay", "0.05"),
        *("--epochs", str(given.epochs), "--warmup-epochs", "0", "--device", given.device),
        *("--output", str(given.scratch), "--experiment", "run", "--checkpoint-hist", "1", *words),
    ]
    script.main()
    values = {"": stopwatch.rate(images, seconds)}
    if given.work == "frozen":
        values = {"": sum(seconds), ": with validation": instants[-1] - instants[0]}
    stopwatch.leave(given.out, values=values, epochs_s=seconds, flags=words)


def frozen(create_model: Callable[..., Any]) -> Callable[..., Any]:
    """`create_model` with a trunk that needs no gradient and keeps its statistics."""
    import torch

    def made(*given: Any, **more: Any) -> Any:  # noqa: ANN401
        model = create_model(*given, **more).requires_grad_(False).eval()
        model.get_classifier().requires_grad_(True)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train = lambda mode=True, module=module: module  # its statistics stay, which is faster, too
        return model

    return made


def predict(given: stopwatch.argparse.Namespace, script: Any, words: list[str]) -> None:  # noqa: ANN401
    """Images a second, from before the loader is made to the written results (inference.py) or the scores."""
    import timm
    from safetensors.torch import save_file

    weights = given.scratch / "weights.safetensors"
    model = timm.create_model(given.model, num_classes=given.classes)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    instants, images = [], []
    create_loader = script.create_loader

    def timed_loader(dataset: Any, *rest: Any, **more: Any) -> Any:  # noqa: ANN401
        images.append(len(dataset))
        instants.append(time.perf_counter())
        return create_loader(dataset, *rest, **more)

    script.create_loader = timed_loader
    last = "save_results" if given.work == "inference" else "validate"
    ends = getattr(script, last)

    def timed_end(*rest: Any, **more: Any) -> Any:  # noqa: ANN401
        found = ends(*rest, **more)
        instants.append(time.perf_counter())
        return found

    setattr(script, last, timed_end)
    sys.argv = [
        *(SCRIPTS[given.work], "--data-dir", str(given.data), "--split", "validation", "--model", given.model),
        *("--checkpoint", str(weights), "--num-classes", str(given.classes), "--img-size", str(given.size)),
        *("--device", given.device, *words),
    ]
    if given.work == "inference":
        sys.argv += ["--label-type", "none", "--include-index", "--topk", "1", "--no-console-results"]
        sys.argv += ["--results-dir", str(given.scratch)]
    script.main()
    stopwatch.leave(given.out, images[0] / (instants[-1] - instants[0]), images=images[0], flags=words)


def main() -> None:
    """Run one of timm's scripts."""
    own, words = sys.argv[1:], []
    if "--" in own:
        own, words = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = stopwatch.arguments("timm's scripts.", *SCRIPTS)
    parser.add_argument("--timm-repo", type=stopwatch.Path, required=True, help="checkout of pytorch-image-models")
    given = parser.parse_args(own)
    given.timm_repo = given.timm_repo.resolve()
    script = load(given)
    (train if given.work in {"train", "frozen"} else predict)(given, script, words)


if __name__ == "__main__":
    main()
