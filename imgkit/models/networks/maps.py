"""Maps of a trunk at several scales, as detectors and segmentation build on: timm's `features_only=True`."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar

from timm.models._features import FeatureGetterNet, feature_take_indices
from torch import Tensor, nn

Indices = int | list[int] | None
"""Positions in `feature_info`, negative ones from the end; N: the last N; None: all."""


class Maps(nn.Module):
    """A trunk that gives its maps one after the other.

    Attributes:
        in_line: whether its layers, one after the other, are all that it does: what timm's other classes of features
            than the default one make of it.
        feature_info: of each map in order: channels (`num_chs`), pixels of the image for each of its own
            (`reduction`), the last layer before it (`module`).
        num_features: channels of the last.
    """

    in_line: ClassVar[bool] = True
    feature_info: list[dict[str, Any]]
    num_features: int

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """Images (B, 3, H, W) -> maps (B, C, h, w), each computed when it is asked for; the last ends the trunk."""
        raise NotImplementedError

    def parts(self) -> list[list[str]]:
        """For each map the modules that it needs besides those of the maps before it."""
        raise NotImplementedError

    def drop_head(self) -> None:
        """Leave out all that comes after the trunk."""
        raise NotImplementedError

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Indices = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Maps of images (B, 3, H, W), as timm's networks give them.

        Args:
            x: images.
            indices: which maps.
            norm: changes nothing: there is no norm after the trunk.
            stop_early: whether nothing is computed after the last of them.
            output_fmt: "NCHW", and no other.
            intermediates_only: the maps alone, without what the trunk ends with.

        Raises:
            ValueError: for another `output_fmt`.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"maps are NCHW, not {output_fmt}")
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        count = last + 1 if stop_early or intermediates_only else None
        found, end = [], x
        for number, end in enumerate(islice(self.maps(x), count)):
            if number in wanted:
                found.append(end)
        return found if intermediates_only else (end, found)

    def prune_intermediate_layers(
        self, indices: Indices = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Leave out what the maps at `indices` do not need; `forward_features` then ends with the last of them.

        Args:
            indices: which maps.
            prune_norm: changes nothing: there is no norm after the trunk.
            prune_head: whether the head goes, too; it always does where the trunk loses its end.

        Returns:
            The positions from the beginning.
        """
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        for name in (name for part in self.parts()[last + 1 :] for name in part):
            self.set_submodule(name, _Nothing() if name.startswith("shortcuts.") else nn.Identity())
        shortened = last < len(self.feature_info) - 1
        if shortened:
            self.num_features = self.feature_info[last]["num_chs"]
        if prune_head or shortened:
            self.drop_head()
        return list(wanted)


class _Nothing(nn.Module):
    """What a shortcut that was left out adds."""

    def forward(self, x: Tensor) -> Tensor:
        """Zero, of no size."""
        return x.new_zeros(())


def info(channels: int, reduction: int, module: str) -> dict[str, Any]:
    """An entry of `feature_info`."""
    return {"num_chs": channels, "reduction": reduction, "module": module}


def features_options(kind: type[nn.Module], variant: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of timm's builder, by which `features_only` gives the maps of `kind`, all unless it is told which.

    Raises:
        ValueError: for a class of features that would leave out what is added to the maps.
    """
    if not options.get("features_only") or not issubclass(kind, Maps):
        return dict(options)
    chosen = options.get("feature_cls", "getter")
    getter = chosen in {"getter", FeatureGetterNet}
    if not getter and not kind.in_line:
        raise ValueError(
            f"{variant} adds shortcuts to its maps, which feature_cls = {chosen!r} would leave out: write 'getter'"
        )
    usual = {"feature_cls": "getter", "flatten_sequential": True} | ({"out_indices": None} if getter else {})
    return {**options, "feature_cfg": {**usual, **options.get("feature_cfg", {})}}
