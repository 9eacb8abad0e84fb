"""fastai's side of benchmarks/speed.py: vision_learner on timm's network, its epochs timed by a callback.

Random resized crops and flips, as everybody here has; fastai's usual `aug_transforms` do more and take longer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import stopwatch

if TYPE_CHECKING:
    from fastai.vision.all import Learner


def learner_of(given: stopwatch.argparse.Namespace) -> Learner:
    """With random weights, nothing frozen."""
    from fastai.callback.channelslast import ChannelsLast
    from fastai.vision.all import (
        Flip,
        ImageDataLoaders,
        MixedPrecision,
        Normalize,
        RandomResizedCrop,
        imagenet_stats,
        vision_learner,
    )

    loaders = ImageDataLoaders.from_folder(
        given.data,
        train="train",
        valid="val",
        item_tfms=RandomResizedCrop(given.size, min_scale=0.08),
        batch_tfms=[Flip(), Normalize.from_stats(*imagenet_stats)],
        bs=given.batch_size,
        num_workers=given.workers,
        device=given.device,
    )
    callbacks = [ChannelsLast()] if given.channels_last else []
    callbacks += [MixedPrecision("bf16")] if given.precision == "bfloat16" else []
    return vision_learner(loaders, given.model, pretrained=False, cbs=callbacks)


def main() -> None:
    """Train all layers, or the head on a frozen trunk."""
    given = stopwatch.arguments("fastai.", "train", "frozen").parse_args()
    from fastai.vision.all import Callback

    epochs, fits = [], []

    class Clock(Callback):
        order = 90  # after the others

        def before_fit(self) -> None:
            fits.append(time.perf_counter())

        def before_train(self) -> None:
            epochs.append(time.perf_counter())

        def after_train(self) -> None:
            stopwatch.settled(given.device)
            epochs[-1] = time.perf_counter() - epochs[-1]

        def after_fit(self) -> None:
            fits[-1] = time.perf_counter() - fits[-1]

    learner = learner_of(given)
    learner.add_cb(Clock())
    if given.work == "frozen":
        learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(given.epochs)
    images = len(learner.dls.train) * learner.dls.train.bs
    values = {"": stopwatch.rate([images] * given.epochs, epochs)}
    if given.work == "frozen":
        values = {"": sum(epochs), ": with validation": fits[0]}
    stopwatch.leave(given.out, values=values, epochs_s=epochs)


if __name__ == "__main__":
    main()
