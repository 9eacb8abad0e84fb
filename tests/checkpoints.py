"""Small checkpoints for tests: drawn by step, compared bit for bit."""

import torch

from imgkit.checkpoint import Checkpoint


def sample(step: int, draw: int = 0) -> Checkpoint:
    """The checkpoint of a step; another `draw` is that of another run."""
    generator = torch.Generator().manual_seed(step + 1000 * draw)
    model = {"conv.weight": torch.randn(4, 3, 3, 3, generator=generator).contiguous(memory_format=torch.channels_last),
             "bn.count": torch.tensor(step)}  # fmt: skip
    train = {
        "opt/conv.weight/exp_avg": torch.randn(4, 3, 3, 3, generator=generator),
        "opt/conv.weight/step": torch.tensor(float(step)),
    }
    return Checkpoint(step, model, train, {"progress": {"step": step, "loss": 0.1 + step + draw}})


def same(left: Checkpoint, right: Checkpoint) -> bool:
    """Whether two hold the same step, tensors and state."""
    pairs = [(left.model, right.model), (left.train, right.train)]
    return (
        left.step == right.step
        and left.state == right.state
        and all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)
    )


def silent(text: str) -> None:
    """A `warn` that must not be called."""
    raise AssertionError(f"unexpected warning: {text}")
