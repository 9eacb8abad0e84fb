"""A small model as it is served, without training, and servers of it at an address."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import torch
from torch import nn

from imgkit.calibration import Calibration
from imgkit.caution import Caution
from imgkit.data.preprocessing import Preprocessing
from imgkit.inference import Network
from imgkit.models.folder import LoadedModel
from imgkit.serving.app import Limits, make_app
from imgkit.serving.gate import Gate
from imgkit.serving.served import Served
from imgkit.serving.server import address_of, listen, server_of
from imgkit.vote import Member

CLASSES = ("red", "green", "blue")
THRESHOLDS = (0.5, 0.25, 0.75)


class Colour(nn.Module):
    """Logits (B, 3): the mean of each channel, once or often."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, 3)."""
        return 4 * images.mean((2, 3))


def colours(
    *,
    several: bool = False,
    classes: Sequence[str] = CLASSES,
    reject_at: float | None = None,
    max_pixels: int = 64_000_000,
) -> Served:
    """A model that tells a picture's colour; with more classes than three the others have logit 0."""

    class Padded(Colour):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images)
            return nn.functional.pad(logits, (0, len(classes) - 3))

    rule = Preprocessing(
        size=(8, 8), crop_pct=1.0, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3, fit="crop"
    )
    thresholds = dict(zip(classes, THRESHOLDS, strict=True)) if several else None
    loaded = LoadedModel(Padded().eval(), rule, tuple(classes), Calibration(1.5, thresholds, "val", 100), {})
    caution = None if reject_at is None else Caution(classes, reject_at, None, rejects=True)
    columns = () if reject_at is None else ("guess", "rejected")
    network = Network(loaded, torch.device("cpu"), "float32")
    return Served(Member("colours", loaded, max_pixels), network, {"model": "colour"}, caution, columns)


class Held:
    """A network that answers once it is let go, and counts."""

    def __init__(self, network: Any, fails: Exception | None = None) -> None:  # noqa: ANN401
        self.device, self._network, self._fails = network.device, network, fails
        self.asked, self.go, self.sizes = threading.Event(), threading.Event(), []

    def __call__(self, images: Sequence[torch.Tensor]) -> np.ndarray:
        self.sizes.append(len(images))
        self.asked.set()
        assert self.go.wait(20)
        if self._fails is not None:
            raise self._fails
        return self._network(images)


class Asking(httpx.Client):
    """A client that knows the application it asks."""

    gate: Gate


@contextmanager
def answering(served: Served, limits: Limits | None = None, **more: Any) -> Iterator[Asking]:  # noqa: ANN401
    """A client of a server of its own, in a thread."""
    app = make_app(served, limits=limits, **more)
    with listen("127.0.0.1", 0) as listening:
        server = server_of(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with Asking(base_url=address_of(listening), timeout=20, trust_env=False) as client:
                client.gate = app
                yield client
        finally:
            server.should_exit = True
            thread.join()
