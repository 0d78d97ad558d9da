"""Linear classifiers by least squares with a penalty. Tensors in, numbers out.

in:  states (N, D) in float64, labels (N,) in 0..K-1
out: the accuracy on other states

Solved in closed form, as scikit-learn's RidgeClassifier is, so there is no optimum to miss, and all labellings of the
same states share one factorization. Penalty and states are scaled so that one penalty means the same in every layer:
states around their mean, divided by one number, their root mean square; the penalty for each state.
"""

import torch
from torch import Tensor


class Ridge:
    """What all labellings of the same states share. states (N, D) must be finite."""

    def __init__(self, states: Tensor, penalty: float) -> None:
        self.mean = states.mean(0)
        self.scale = float((states - self.mean).square().mean().sqrt()) or 1.0
        scaled, added = self._scaled(states), penalty * len(states)
        wide = states.shape[1] > len(states)
        gram = scaled @ scaled.T if wide else scaled.T @ scaled
        factor = torch.linalg.cholesky(gram + added * torch.eye(len(gram), dtype=gram.dtype))
        # (D, N): from targets to weights.
        self.solution = torch.cholesky_solve(scaled if wide else scaled.T, factor)
        if wide:
            self.solution = self.solution.T

    def fit(self, labels: Tensor, n_classes: int) -> "Classifier":
        targets = 2 * torch.nn.functional.one_hot(labels, n_classes).double() - 1
        mean = targets.mean(0)
        bias = torch.where(mean > -1, mean, -torch.inf)  # a class without states is never predicted
        return Classifier(self, self.solution @ (targets - mean), bias)

    def _scaled(self, states: Tensor) -> Tensor:
        return (states - self.mean) / self.scale


class Classifier:
    """A linear function of states for each of K classes; the largest one names the class."""

    def __init__(self, ridge: Ridge, weights: Tensor, bias: Tensor) -> None:
        self._ridge, self._weights, self._bias = ridge, weights, bias

    def right(self, states: Tensor, labels: Tensor) -> Tensor:
        """Whether the classes of states (N, D) are `labels` (N,), (N,)."""
        scores: Tensor = self._ridge._scaled(states) @ self._weights + self._bias
        return scores.argmax(1) == labels
