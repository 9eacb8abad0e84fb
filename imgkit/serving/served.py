"""A run's model as it answers requests: what `imgkit predict` answers to the same files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgkit.caution import Caution, Wish, caution_of, refuse_others
from imgkit.data.decode import picture_of
from imgkit.errors import memory_told
from imgkit.plugin_files import require_plugins
from imgkit.predict import Prediction, answer_of
from imgkit.prediction_rows import json_row, json_sets_row
from imgkit.run import RunFolder
from imgkit.screen import Screen

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from imgkit.inference import Network, Precision
    from imgkit.vote import Member


@dataclass(frozen=True)
class Served:
    """The model of a run, ready to answer. `pixels` may be asked by several threads, `probabilities` by one at a time.

    Args:
        member: the run's name, weights and largest picture.
        network: what answers.
        about: the run's run.json.
        caution: which answers are left open; None: none.
        columns: what a row has beside its answer, as `Wish.columns`.
    """

    member: "Member"
    network: "Network"
    about: Mapping[str, Any]
    caution: Caution | None
    columns: tuple[str, ...]

    @classmethod
    def of(
        cls,
        folder: RunFolder,
        *,
        device: str = "auto",
        precision: "Precision" = "float32",
        max_pixels: int | None = None,
        wish: Wish | None = None,
        screen: Screen | None = None,
    ) -> "Served":
        """Load a run's best weights and let them answer once, so that the first request need not wait.

        Args:
            folder: of the run.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            precision: see `inference.Network`; "auto" is "float32" where there is a wish, as in `predict`.
            max_pixels: larger pictures are not opened; None: as in the training.
            wish: which answers are left open; its `unlike` is None, since that keeps a file in the run's folder.
            screen: told what validation says of the wish, and which precision was found.

        Raises:
            UsageError: if the run has no model yet, there is no such precision, or the wish cannot be granted.
            DeviceError: if torch does not see `device`, or memory runs out.
        """
        require_plugins(folder, "serve")
        import torch

        from imgkit.device import choose_device
        from imgkit.freed_memory import keep_freed_memory
        from imgkit.inference import Network
        from imgkit.vote import Member

        screen, wish, caution = screen or Screen(quiet=True), wish or Wish(), None
        member = Member.of(folder, max_pixels)
        if wish.given:
            wish.check()
            refuse_others(folder, wish, 0)
            caution = caution_of(folder, wish, screen.note)
            precision = "float32" if precision == "auto" else precision
        keep_freed_memory()
        network = Network(member.loaded, choose_device(device), precision, screen.note)
        made = cls(member, network, folder.read_json("run.json"), caution, wish.columns)
        rule = member.loaded.preprocessing
        made.probabilities([torch.zeros(rule.channels, *rule.size, dtype=torch.uint8)])
        return made

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the probabilities."""
        return self.member.loaded.classes

    @property
    def several(self) -> bool:
        """Whether an image may have any number of labels."""
        return self.member.loaded.task == "multilabel"

    def health(self) -> dict[str, str | int]:
        """What is served, in a few words."""
        return {
            "status": "ready",
            "run": self.member.name,
            "model": str(self.about["model"]),
            "task": self.member.loaded.task,
            "classes": len(self.classes),
            "device": str(self.network.device),
        }

    def pixels(self, content: bytes, name: str) -> "torch.Tensor":
        """The content of a file -> the network's picture, uint8 (C, H, W).

        Raises:
            BadImage: if it cannot be read.
        """
        rule = self.member.loaded.preprocessing
        return rule(picture_of(content, name, max_pixels=self.member.max_pixels, min_side=rule.min_side))

    def probabilities(self, images: "Sequence[torch.Tensor]") -> "npt.NDArray[np.float64]":
        """Pictures, each uint8 (C, H, W) -> calibrated probabilities (B, K).

        Raises:
            DeviceError: if memory runs out.
        """
        from imgkit.device import no_room

        with memory_told(no_room(self.network.device, len(images))):
            return self.network(images)

    def row(self, name: str, probs: "npt.NDArray[np.float64]", top_k: int) -> dict[str, object]:
        """What probs (K,) say, as a line of `imgkit predict --format jsonl`."""
        calibration = self.member.loaded.calibration
        given = answer_of(name, probs, self.classes, calibration.thresholds, top_k)
        return self._row(given if self.caution is None else self.caution.apply(given))

    def unread(self, name: str, reason: str) -> dict[str, object]:
        """The same of a picture that cannot be read."""
        return self._row(Prediction(name, "", 0.0, (), reason))

    def _row(self, given: Prediction) -> dict[str, object]:
        return json_sets_row(given, self.classes) if self.several else json_row(given, self.columns)
