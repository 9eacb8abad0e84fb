"""Logistic regression by scikit-learn, one fit after another: multinomial, or one regression for each label."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from imgkit.scaled import Floats, Ints

MAX_ITERATIONS = 1000


class Fit:
    """Fits of a multinomial regression one after another, each starting from the one before; `begin` before each."""

    def __init__(self, classes: int, tolerance: float, begin: Callable[[], None]) -> None:
        self.classes, self.tolerance, self.begin, self.converged = classes, tolerance, begin, True
        self._models: dict[int, Any] = {}

    def __call__(self, x: Floats, y: Ints, weights: Floats | None, c: float) -> tuple[Floats, Floats]:
        """Weight (K, D) and bias (K,) on x (N, D) and y (N,), each image counted by weights (N,)."""
        weight, bias = np.zeros((self.classes, x.shape[1])), np.zeros(self.classes)
        present = np.unique(y)
        self.converged = True
        self.begin()
        if len(present) > 1:
            rows, shifts = self._regress(0, x, y, weights, c)
            if len(present) == 2:  # scikit-learn has one row: the difference of the two
                rows, shifts = np.concatenate([-rows, rows]) / 2, np.concatenate([-shifts, shifts]) / 2
            weight[present], bias[present] = rows, shifts
        if len(present) < self.classes:
            from scipy.special import logsumexp

            absent = np.setdiff1d(np.arange(self.classes), present)
            level = logsumexp(x @ weight[present].T + bias[present], axis=1).mean()
            bias[absent] = level - np.log(len(y) + 1)
        return weight, bias

    def _regress(self, number: int, x: Floats, y: Ints, weights: Floats | None, c: float) -> tuple[Floats, Floats]:
        """Rows and shifts of scikit-learn's regression; `number` says which one it starts from."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        made = LogisticRegression(tol=self.tolerance, max_iter=MAX_ITERATIONS, warm_start=True)
        model = self._models.setdefault(number, made).set_params(C=c)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # reported in Solution.converged
            model.fit(x, y, sample_weight=weights)
        self.converged = self.converged and bool(model.n_iter_.max() < MAX_ITERATIONS)
        return model.coef_, model.intercept_


class FitEach(Fit):
    """The same with one regression a label: targets are (N, K), zeros and ones."""

    def __call__(self, x: Floats, y: Ints, weights: Floats | None, c: float) -> tuple[Floats, Floats]:
        """Weight (K, D) and bias (K,) on x (N, D) and y (N, K)."""
        weight, bias = np.zeros((self.classes, x.shape[1])), np.zeros(self.classes)
        self.converged = True
        for k in range(self.classes):
            self.begin()
            if y[:, k].min() < y[:, k].max():
                rows, shifts = self._regress(k, x, y[:, k], weights, c)
                weight[k], bias[k] = rows[0], shifts[0]
            else:  # a prior of 1 in N + 1, or of N in N + 1
                bias[k] = np.log(len(y)) * (1 if y[0, k] else -1)
        return weight, bias
