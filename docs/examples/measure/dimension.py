"""How many directions the states of a layer fill: the participation ratio of their principal components."""

from collections.abc import Mapping

import torch
from torch import Tensor

from taskcluster import Measure, Metric, Observation

DIMENSION = Metric("dimension", "dimension", "at x", label="Effective dimension", position="input", low=1)


def participation_ratio(states: Tensor) -> float:
    """(sum of v)^2 / (sum of v^2) over the variances v along the principal axes of states (N, D): 1 to D."""
    variances = torch.linalg.svdvals(states.double() - states.double().mean(0)).square()
    return float(variances.sum().square() / variances.square().sum())


class Dimension(Measure):
    metrics = (DIMENSION,)
    positions = ("input",)

    def measure(self, observation: Observation) -> Mapping[Metric, list[float]]:
        return {DIMENSION: [participation_ratio(layer) for layer in observation.states["input"]]}
