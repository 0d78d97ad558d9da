"""How similar the states of every two layers are: linear CKA (Kornblith et al., 2019), a matrix."""

from collections.abc import Mapping

import torch
from torch import Tensor

from taskcluster import Measure, Metric, Observation

CKA = Metric("cka", "CKA", "at x", label="Similarity of layers (CKA)", by_two_layers=True, low=0, high=1)


def linear_cka(states: Tensor) -> Tensor:
    """The similarity (L+1, L+1) of the layers of states (L+1, N, D): 1 where one layer is a rotation of the other."""
    centred = states.double() - states.double().mean(1, keepdim=True)
    shared = torch.stack([(layer.T @ centred).square().sum((1, 2)) for layer in centred])
    return shared / shared.diag().outer(shared.diag()).sqrt()


class Similarity(Measure):
    metrics = (CKA,)
    positions = ("input",)

    def measure(self, observation: Observation) -> Mapping[Metric, Tensor]:
        return {CKA: linear_cka(observation.states["input"]).cpu()}
