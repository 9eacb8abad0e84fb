"""The head of a network as text: `linear`, `mlp:1000`, `mlp:512,256:relu`, `pool5-mlp:4096,2048`."""

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from imgkit.errors import suggestion

Activation = Literal["none", "relu", "gelu"]
FORMS = "'linear', 'mlp:WIDTHS', 'mlp:WIDTHS:relu' or 'poolN-mlp:WIDTHS'"
LINEAR = "linear"
_KIND = re.compile(r"(?:pool(?P<side>[0-9]+)-)?mlp")
_WIDEST = 100_000  # units of a layer; the weights of two such layers would be 37 GiB
_LARGEST = 32  # side of the pooled map


@dataclass(frozen=True)
class HeadShape:
    """What stands between the trunk and the logits.

    Args:
        widths: of the hidden layers, from the trunk on; none: one linear layer.
        act: after each of them.
        side: of the square that the feature map is averaged to, N × N; None: the trunk's own pooling, to one pixel.
    """

    widths: tuple[int, ...] = ()
    act: Activation = "none"
    side: int | None = None

    @classmethod
    def parse(cls, text: str) -> "HeadShape":
        """Read a head.

        Raises:
            ValueError: if it is none; the message says what it can be.
        """
        kind, *rest = text.split(":")
        if kind == LINEAR and not rest:
            return cls()
        if kind == LINEAR:
            raise ValueError(f"'linear' is one layer and has no widths, got {text!r}; write 'mlp:{rest[0] or 1000}'")
        form = _KIND.fullmatch(kind)
        if form is None:
            raise ValueError(f"must be {FORMS}, got {text!r}{_near(kind)}")
        side = None if form["side"] is None else int(form["side"])
        if side is not None and not 1 <= side <= _LARGEST:
            raise ValueError(f"the feature map is averaged to 1 to {_LARGEST} pixels a side, got {kind!r}")
        if len(rest) > 2:
            raise ValueError(f"must be {FORMS}, got {text!r}")
        widths = _widths(kind, rest[0] if rest else "")
        act: Activation = "none" if side is None else "relu"
        return cls(widths, _activation(text, rest[1]) if len(rest) == 2 else act, side)


def check_head(text: str) -> str:
    """`text`, if it is a head.

    Raises:
        ValueError: as `HeadShape.parse`.
    """
    HeadShape.parse(text)
    return text


def by_sgd(phase: str) -> str:
    """What to type so that a solved phase trains its head by gradients."""
    return " ".join(f"--set phases.{phase}.{value}" for value in ("solver=sgd", "lr=1e-3", "epochs=2"))


def _near(kind: str) -> str:
    """`; did you mean ...?`, with the side of a map that was asked for."""
    pooled = re.search(r"pool_?([0-9]+)", kind)
    return suggestion(kind, (LINEAR, "mlp", f"pool{pooled[1] if pooled else 5}-mlp"))


def _widths(kind: str, text: str) -> tuple[int, ...]:
    if not text:
        raise ValueError(f"{kind!r} needs the width of each hidden layer, as '{kind}:1000' or '{kind}:4096,2048'")
    found = []
    for part in text.split(","):
        if not re.fullmatch(r"[0-9]{1,9}", part) or not 1 <= int(part) <= _WIDEST:
            raise ValueError(
                f"the width of a layer is a whole number from 1 to {_WIDEST}, got {part!r}; "
                f"write '{kind}:1000' or '{kind}:4096,2048'"
            )
        found.append(int(part))
    return tuple(found)


def _activation(text: str, word: str) -> Activation:
    known = get_args(Activation)
    if word not in known:
        raise ValueError(
            f"there is no activation {word!r}{suggestion(word, known)}, got {text!r}; write {', '.join(known)}"
        )
    return cast(Activation, word)
