"""Linear classifiers by least squares with a penalty. Tensors in, numbers out.

in:  states (N, D) in float64, labels (N,) in 0..K-1
out: a function that predicts the labels of other states

The solution is exact, that of scikit-learn's RidgeClassifier, and all labellings of the same states share one
factorization. Penalty and states are scaled so that one penalty means the same in every layer:
states around their mean, divided by one number, their root mean square; the penalty for each state.
"""

from collections.abc import Callable

import torch
from torch import Tensor


class Ridge:
    """The factorization that all labellings of the same states share. states (N, D) must be finite."""

    def __init__(self, states: Tensor, penalty: float) -> None:
        self._mean = states.mean(0)
        self._scale = float((states - self._mean).square().mean().sqrt()) or 1.0
        scaled, added = self._scaled(states), penalty * len(states)
        wide = states.shape[1] > len(states)
        gram = scaled @ scaled.T if wide else scaled.T @ scaled
        factor = torch.linalg.cholesky(gram + added * torch.eye(len(gram), dtype=gram.dtype))
        solution = torch.cholesky_solve(scaled if wide else scaled.T, factor)
        self._solution = solution.T if wide else solution  # (D, N): from targets to weights

    def fit(self, labels: Tensor, n_classes: int) -> Callable[[Tensor], Tensor]:
        """A linear classifier of K classes: from states (M, D) to their classes (M,)."""
        targets = 2 * torch.nn.functional.one_hot(labels, n_classes).double() - 1
        mean = targets.mean(0)
        bias = torch.where(mean > -1, mean, -torch.inf)  # a class without states is never predicted
        weights = self._solution @ (targets - mean)
        return lambda states: (self._scaled(states) @ weights + bias).argmax(1)

    def _scaled(self, states: Tensor) -> Tensor:
        return (states - self._mean) / self._scale
