"""Confident learning: labels that contradict what was predicted of their images by models that had not seen them.

Northcutt, Jiang and Chuang (2021), Confident Learning: Estimating Uncertainty in Dataset Labels, Journal of Artificial
Intelligence Research 70:1373-1411. An image is taken for class j where its probability of j is at least what images
that are labelled j have on average; so a class of which a model is never sure is not counted as wrong for that.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def self_confidence(probs: Floats, given: Ints) -> Floats:
    """The probability of each image's label, (n,): low is suspect."""
    found: Floats = probs[np.arange(len(given)), given]
    return found


def thresholds(probs: Floats, given: Ints) -> Floats:
    """The mean self-confidence of each class, (K,): of its images, the mean probability of their label.

    Args:
        probs: out-of-fold, (n, K), rows in [0, 1] that sum to 1.
        given: label of each image, (n,).

    Returns:
        (K,); infinity for a class without images, which nothing is taken for.
    """
    counts = np.bincount(given, minlength=probs.shape[1])
    sums = np.bincount(given, weights=self_confidence(probs, given), minlength=probs.shape[1])
    found: Floats = np.divide(sums, counts, out=np.full(len(counts), np.inf), where=counts > 0)
    return found


def confident_joint(probs: Floats, given: Ints) -> Ints:
    """How many images with label i are confidently class j, int64 (K, K): the paper's C.

    An image that reaches several thresholds counts for its most probable class of these, one that reaches none for no
    class at all.
    """
    classes = probs.shape[1]
    reached = np.where(probs >= thresholds(probs, given), probs, -1.0)
    sure = reached.max(axis=1) >= 0
    cells = given[sure] * classes + reached[sure].argmax(axis=1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def joint(confident: Ints, counts: Ints) -> Floats:
    """Estimated images with label i that truly are class j, (K, K): the paper's Q, times the number of images.

    Each row of the confident joint is scaled to the images that have its label; a class of which no image is confident
    is taken as it is labelled.

    Args:
        confident: of `confident_joint`.
        counts: images of each label, (K,).
    """
    sums = confident.sum(axis=1, keepdims=True)
    shares = np.divide(confident, sums, out=np.eye(len(counts)), where=sums > 0)
    found: Floats = shares * counts[:, None]
    return found
