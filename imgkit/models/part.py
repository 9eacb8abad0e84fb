"""`--weights part:FILE`: the layers that a network takes of the weights of another one, by its method `part_of`."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from imgkit.errors import WeightsError
from imgkit.models.weights import WeightSource, load_state, mismatch


def load_part(model: nn.Module, name: str, source: WeightSource) -> tuple[str, ...]:
    """Copy what a network takes of other weights into it; the rest stays as it is.

    Args:
        model: its method `part_of(state)` gives the tensors by its own names, and all of each layer of them; changed
            in place.
        name: of the network.
        source: of the weights.

    Returns:
        What was loaded and what was not, for people.

    Raises:
        WeightsError: if the network takes no part of any, or not of these.
    """
    take: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = getattr(model, "part_of", None)
    if take is None:
        raise WeightsError(
            f"{name} takes no part of the weights of other networks.",
            "Give it those of a whole one:  --weights FILE   The VGGs take a part, of a trained vgg_a.",
        )
    try:
        part = take(load_state(source, name))
    except (ValueError, RuntimeError) as error:  # the latter where tensors of these names have other shapes
        raise WeightsError(
            f"{name} cannot start from {source.detail}: {error}.",
            "Train an A first, on the same data:  imgkit scratch vgg_a",
        ) from error
    own, layers = model.state_dict(), {_layer(key) for key in part}
    listed = mismatch(part, {key: value for key, value in own.items() if _layer(key) in layers})
    if listed:
        raise WeightsError(
            f"The layers do not fit {name} ({source.detail}). Missing (-) and surplus (+):\n{listed}",
            "The head is one of them: classes, --head and model.options.head must be those of the other network.",
        )
    model.load_state_dict(part, strict=False)
    taken = {key: value for key, value in own.items() if key in part}
    rest = {key: value for key, value in own.items() if key not in part}
    how = f" (init = {model.init})" if hasattr(model, "init") else ""
    return (f"from {source.detail}: {_told(taken)}", f"as they begin{how}: {_told(rest)}")


def _layer(key: str) -> str:
    return key.rpartition(".")[0]


def _told(state: Mapping[str, Tensor]) -> str:
    """The layers of some tensors, and how many numbers they have; batch norms are told with the layer before them."""
    layers = dict.fromkeys(_layer(key) for key in state)
    normed = {layer for layer in layers if f"{layer}.running_mean" in state}
    plain = [layer for layer in layers if layer not in normed]
    count = sum(value.numel() for key, value in state.items() if not key.endswith("num_batches_tracked"))
    also = ", each with its batch norm" if len(normed) == len(plain) else " and batch norms" if normed else ""
    return f"{len(plain)} layers, {', '.join(plain)}{also} ({count:,} parameters)"
