"""States around their mean, a part at a time: what KMeans computes of them, in memory that does not grow with N x K.

in:  states (N, D) in any precision, left as they are; the precision to compute in
out: nearest centroids (N,), sums of clusters (K, D), products with a vector of each state's cluster (N,)

Half the squared distance of a state x to a centroid c is |x|^2 / 2 + rest, where rest = |c|^2 / 2 - x c is all that tells
centroids apart.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

ROOM = 2**20  # numbers held at once on a CPU: 4 or 8 MB, what its caches take
MEMORY = 2**26  # on a GPU


class Centred:
    """States (N, D) around their `mean` (D,), with their squared `norms` (N,)."""

    def __init__(self, states: Tensor, precision: torch.dtype) -> None:
        self._states, self.precision, self.device = states, precision, states.device
        self._room = ROOM if states.device.type == "cpu" else MEMORY
        self._mean = torch.zeros(states.shape[1], dtype=torch.float64, device=states.device)
        sums = [part.double().sum(0) for part in states.split(self._at_once(1))]
        self._mean = torch.stack(sums).sum(0) / len(states)
        self._shift = self._mean.to(precision)
        self.norms = torch.cat([part.square().sum(1) for _, part in self.parts()])

    def __len__(self) -> int:
        return len(self._states)

    @property
    def width(self) -> int:
        return self._states.shape[1]

    def uncentred(self, centroids: Tensor) -> Tensor:
        """Centroids (K, D) where the states are."""
        return (centroids.double() + self._mean).to(self._states.dtype)

    def rows(self, which: Tensor) -> Tensor:
        """Of the states numbered `which` (M,), (M, D)."""
        return self._states[which].to(self.precision) - self._shift

    def parts(self, which: Tensor | None = None, beside: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers (M,) and states (M, D) of all, or of those numbered `which`, M at a time; `beside`: how many numbers
        the caller holds for each of them."""
        at_once = self._at_once(beside)
        if which is None:
            for first in range(0, len(self), at_once):
                part = self._states[first : first + at_once].to(self.precision) - self._shift
                yield torch.arange(first, first + len(part), device=self.device), part
        else:
            for numbers in which.split(at_once):
                yield numbers, self.rows(numbers)

    def nearest(self, centroids: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Of all states, or of those numbered `which`: the rest of the distance to the nearest of centroids (K, D), and
        which it is, (M,) each."""
        rests, labels = [self.norms[:0]], [torch.zeros(0, dtype=torch.long, device=self.device)]
        half_norms = centroids.square().sum(1) / 2
        for _, states in self.parts(which, len(centroids)):
            found = torch.addmm(half_norms, states, centroids.T, alpha=-1).min(1)
            rests.append(found.values)
            labels.append(found.indices)
        return torch.cat(rests), torch.cat(labels)

    def products(self, vectors: Tensor, labels: Tensor, which: Tensor) -> Tensor:
        """Of the states numbered `which` with the vector of their label, out of vectors (K, D), (M,)."""
        found = [self.norms[:0]]
        for numbers, states in self.parts(which, self.width):
            found.append((states * vectors[labels[numbers]]).sum(1))
        return torch.cat(found)

    def add(self, sums: Tensor, labels: Tensor, which: Tensor | None = None, sign: int = 1) -> None:
        """Add the states numbered `which` to the sums (K, D) of their labels, out of labels (N,), or take them away."""
        for numbers, states in self.parts(which):
            if sums.device.type == "cpu":
                sums.index_add_(0, labels[numbers], states, alpha=sign)
            else:  # sorted first, so that it adds in one order
                sums.index_put_((labels[numbers],), sign * states, accumulate=True)

    def inertia(self, centroids: Tensor, labels: Tensor) -> float:
        """The summed squared distance of the states to the centroids (K, D) of their labels (N,), in float64."""
        total = 0.0
        for numbers, states in self.parts(beside=4 * self.width):
            total += float((states - centroids[labels[numbers]]).double().square().sum())
        return total

    def _at_once(self, beside: int) -> int:
        return max(1, self._room // (2 * self._states.shape[1] + beside))
