import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from imgkit.serving.passes import Passes


class Asked:
    """A network that says each picture's number, and refuses 13."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.inside = 0

    def __call__(self, images: Sequence[torch.Tensor]) -> np.ndarray:
        self.inside += 1
        assert self.inside == 1, "one pass at a time"
        self.sizes.append(len(images))
        numbers = [float(image) for image in images]
        self.inside -= 1
        if 13 in numbers:
            raise ValueError("unlucky")
        return np.array([[number, -number] for number in numbers])


async def ask(passes: Passes, numbers: Sequence[int]) -> list[np.ndarray | BaseException]:
    return await asyncio.gather(*(passes(torch.tensor(number)) for number in numbers), return_exceptions=True)


@pytest.mark.parametrize(("n", "most"), [(1, 4), (4, 4), (5, 4), (40, 4), (40, 1), (40, 64)])
def test_each_gets_its_own_answer_in_few_passes(n: int, most: int) -> None:
    asked = Asked()
    found = asyncio.run(ask(Passes(asked, most), range(100, 100 + n)))
    assert [row.tolist() for row in found] == [[number, -number] for number in range(100, 100 + n)]
    assert sum(asked.sizes) == n
    assert max(asked.sizes) <= most
    assert len(asked.sizes) == -(-n // most), "all of them waited already"


def test_what_a_pass_raises_is_told_to_those_in_it_alone() -> None:
    found = asyncio.run(ask(Passes(Asked(), 4), range(10, 20)))
    bad = [isinstance(one, ValueError) for one in found]
    assert bad == [True] * 4 + [False] * 6


def test_who_went_away_is_not_answered_and_the_others_are() -> None:
    async def work() -> list[float]:
        passes = Passes(Asked(), 2)
        tasks = [asyncio.create_task(passes(torch.tensor(number))) for number in range(6)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found[1], asyncio.CancelledError)
        return [row[0] for place, row in enumerate(found) if place != 1]

    assert asyncio.run(work()) == [0, 2, 3, 4, 5]


def test_it_goes_on_after_a_rest_and_in_another_loop() -> None:
    passes = Passes(Asked(), 4)
    for _ in range(3):
        assert [row[0] for row in asyncio.run(ask(passes, [1, 2]))] == [1, 2]
