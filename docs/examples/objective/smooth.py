"""States that change little from block to block: an auxiliary loss beside the one on tokens."""

from collections.abc import Mapping

from torch import Tensor

from taskcluster import Objective


class Smooth(Objective):
    """Adds `weight` times the mean squared step of the residual stream at x, from each layer to the next."""

    reads = ("input",)

    def __init__(self, weight: float) -> None:
        if weight < 0:
            raise ValueError(f"weight={weight}: give a number of at least 0")
        self._weight = weight

    def auxiliary(self, states: Mapping[str, Tensor], batch: object, step: int) -> Tensor:
        return self._weight * states["input"].diff(dim=0).square().mean()
