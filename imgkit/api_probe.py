"""`imgkit.probe`: what `imgkit probe` does, as a function."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from imgkit.api import prepared
from imgkit.api_options import FinetuneOptions
from imgkit.errors import DeviceError, ImgkitError, UsageError, WeightsError
from imgkit.model_names import resolve_name
from imgkit.notebook import usual_screen
from imgkit.plugin_files import use_plugins
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.ranking import Probed, Ranked

OUT = Path("probe")


def probe(models: Sequence[str], *, recipe: str = "probe", **options: Unpack[FinetuneOptions]) -> "list[Ranked]":
    """Rank networks by what their pretrained features are worth on some data, in about one pass of each over them.

    Every image outside test is answered by a logistic regression on frozen features that was fitted without it. Makes
    no run; writes probe.csv and held-out.csv. Features are kept: a training that solves its head finds them.

    Args:
        models: timm's names. One whose weights are not here, or whose head cannot be solved, is told on the screen and
            left out, unless it is alone.
        recipe: a shipped recipe's name or a TOML file, for data, image size and class weights.
        **options: data, weights, image_size, seed, sets; out, the folder of the files, or probe/.

    Returns:
        The networks, best first.

    Raises:
        ImgkitError: the kind says what has to be mended; of the first network where none can be probed.
    """
    if isinstance(models, str) or not models:
        raise UsageError("probe takes a list of networks.", 'For example:  imgkit.probe(["resnet50", "resnet18"])')
    use_plugins(options.get("plugin", ()), options.get("screen"))
    for model in models:
        resolve_name(model)  # a typo in the last one is told before the first one takes its time
    options["out"] = out = Path(options.get("out", OUT))
    screen = options.get("screen") or usual_screen()
    found: list[Probed] = []
    faults: dict[str, ImgkitError] = {}
    for number, model in enumerate(dict.fromkeys(models)):
        if number:  # what is said of the data and the machine is said once
            options["screen"] = Screen(quiet=True, file=io.StringIO())
        try:
            with prepared("probe", model, recipe, options) as (setup, _, _):
                from imgkit.ranking import probe_network

                found.append(probe_network(setup, screen.progress))
                index = setup.index
        except (WeightsError, UsageError, DeviceError) as error:
            faults[model] = error
    if not found:
        raise next(iter(faults.values()))
    for model, fault in faults.items():
        screen.warn(f"{model} is left out: {fault.message}\n{fault.hint}")
    from imgkit.ranking import rank, write

    ranked = rank(found)
    write(ranked, index, out)
    return ranked
