"""Scoring rows of an index; see also test_evaluate.py."""

import multiprocessing

import pytest
import torch
from pictures import MakeFolders
from rules import rule
from torch import nn

from imgkit.data.batches import EvalReader
from imgkit.data.load import load_data
from imgkit.features import BATCH
from imgkit.recipe.schema import DataSettings
from imgkit.scoring import score


class Mean(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))


def test_what_stops_it_ends_its_loaders_though_a_traceback_holds_them(make_folders: MakeFolders) -> None:
    index = load_data(DataSettings(path=str(make_folders({"cat": 40, "dog": 40}, "tree")), val=0.5)).index

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    before = multiprocessing.active_children()
    reader = EvalReader(index, preprocessing=rule(16), batch_size=BATCH, workers=1, max_pixels=10**6)
    with pytest.raises(KeyboardInterrupt) as caught:
        score(Mean(), reader, index.rows("val"), device=torch.device("cpu"), progress=stop)
    assert multiprocessing.active_children() == before
    assert caught.tb is not None
