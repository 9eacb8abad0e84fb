"""The head where its features are too many to be solved: mini-batch updates on features that lie in a file.

The objective is that of `solve.solve_head` at the usual strength: cross-entropy, or the binary one of each label, with
an L2 penalty on scaled features. Adam (Kingma and Ba 2015) comes near its optimum in a few passes; the trunk
still computes each feature once.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from imgkit.errors import DiskError
from imgkit.features import BY_SGD, Features
from imgkit.files import check_space
from imgkit.keys import key, order
from imgkit.scaled import Floats, finite_rows, pareto_scale
from imgkit.solve import USUAL, Solution, not_finite

EPOCHS = 5
BATCH = 256
# About what the first update adds to a logit. Measured on 40,000 simulated rows of 256 correlated features, 10 classes:
# held-out loss 0.173 with 0.3, 0.187 with 0.1, 0.237 with 0.03; the exact solve at the same C: 0.175.
FIRST_MOVE = 0.3


@dataclass(frozen=True, eq=False)
class Stored:
    """Features in a file.

    Attributes:
        file: float32 (N, D), row after row, without a header.
        targets: int64 (N,), or float32 (N, K) in a multi-label task.
        mean: float64 (D,), of each feature.
        scale: float64 (D,), of `pareto_scale`.
    """

    file: Path
    targets: torch.Tensor
    mean: Floats
    scale: Floats


def write_features(chunks: Iterable[Features], file: Path, size: int) -> Stored:
    """Write features into a new file as they come, with their mean and spread.

    Args:
        chunks: at least one, as `features.extract` gives them.
        file: does not exist yet. The caller removes it, also after an error.
        size: of all of them, in bytes.

    Raises:
        DiskError: if the file cannot be written.
        WeightsError: if features are not finite; those after them are not waited for.
    """
    targets: list[torch.Tensor] = []
    n = 0
    with _told(file):
        check_space(file.parent, size)
    with _new(file) as stream:
        for chunk in chunks:
            n, bad = n + len(chunk.values), len(chunk.values) - finite_rows(chunk.values)
            if bad:
                raise not_finite(bad, n)
            with _told(file):
                stream.write(chunk.values.contiguous().numpy().data)
            x = chunk.values.numpy().astype(np.float64)
            if not targets:
                near = x.mean(axis=0)  # sums around a value near the mean keep their digits
                sums, squares, largest = np.zeros_like(near), np.zeros_like(near), np.zeros_like(near)
            sums += (x - near).sum(axis=0)
            squares += np.square(x - near).sum(axis=0)
            largest = np.maximum(largest, np.abs(x).max(axis=0))
            targets.append(chunk.targets)
    mean = near + sums / n
    std = np.sqrt(np.maximum(squares / n - np.square(sums / n), 0.0))
    return Stored(file, torch.cat(targets), mean, pareto_scale(std, largest))


def train_head(
    stored: Stored, *, classes: int, weights: Floats | None = None, seed: int, progress: Callable[[int, int], None]
) -> Solution:
    """Logistic regression by mini-batches in keyed order, as weights of a linear layer: multinomial, or one a label.

    The rate falls from its start to zero along half a cosine. The scaling is folded into the weights.

    Args:
        stored: what `write_features` made.
        classes: K, rows of the head.
        weights: float64 (N,), of the images in the mean loss; None: all 1.
        seed: of the order.
        progress: called with (done, total) updates before each one; it may raise, to stop.
    """
    n, width = len(stored.targets), len(stored.mean)
    counted = torch.ones(n) if weights is None else _tensor(weights)
    values = np.memmap(stored.file, np.float32, "r", shape=(n, width))
    mean, scale = _tensor(stored.mean), _tensor(stored.scale)
    weight, bias = torch.zeros(classes, width, requires_grad=True), torch.zeros(classes, requires_grad=True)
    # An update of Adam moves each weight by about the rate: a logit by rate * sqrt(D), where features are independent.
    rate = FIRST_MOVE / math.sqrt(width)
    decay = 1 / (USUAL * n)  # what scikit-learn's C is to the mean loss
    many = stored.targets.dim() == 2
    if classes == 2 and not many:
        decay *= 2  # scikit-learn's one row is the difference of these two, and its square twice theirs together
    groups: list[dict[str, Any]] = [{"params": [weight], "weight_decay": decay}, {"params": [bias]}]
    optimizer = torch.optim.Adam(groups, lr=rate)
    steps = math.ceil(n / BATCH)
    loss_sum = 0.0
    for step in range(EPOCHS * steps):
        progress(step, EPOCHS * steps)
        epoch, inner = divmod(step, steps)
        if inner == 0:
            shuffled, loss_sum = order(key(seed, "head"), epoch, n), 0.0
        rows = np.sort(shuffled[inner * BATCH :][:BATCH])  # in the order of the file
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * step / (EPOCHS * steps))) / 2
        x = (torch.from_numpy(values[rows]) - mean) * scale
        logits, wanted = x @ weight.T + bias, stored.targets[rows]
        if many:
            losses = binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(dim=1)  # (B, K) -> (B,)
        else:
            losses = cross_entropy(logits, wanted, reduction="none")
        loss = (losses * counted[rows]).mean()
        optimizer.zero_grad()
        (loss * (classes if many else 1)).backward()  # the regressions of the labels do not share a mean
        optimizer.step()
        loss_sum += loss.item() * len(rows)
    folded = weight.detach().double().numpy() * stored.scale
    shift = bias.detach().double().numpy() - folded @ stored.mean
    loss_of_last = {USUAL: loss_sum / n}
    return Solution(_tensor(folded), _tensor(shift), c=USUAL, cv_loss=loss_of_last, converged=True)


def _tensor(numbers: Floats) -> torch.Tensor:
    return torch.from_numpy(numbers.astype(np.float32))


@contextmanager
def _new(file: Path) -> Iterator[BinaryIO]:
    with _told(file):
        stream = file.open("xb")
    try:
        yield stream
    finally:
        with _told(file):
            stream.close()


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """A disk that is full, told in our words."""
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"Cannot write the features into {file}: {error.strerror or error}.", f"Free some space. {BY_SGD}"
        ) from error
