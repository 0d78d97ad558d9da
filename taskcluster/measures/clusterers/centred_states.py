"""The computations of KMeans on centred states, in parts, so that memory does not grow with N x K.

in:  states (N, D) in any precision, left as they are; the precision to compute in
out: nearest centroids (N,), sums of clusters (K, D), products with a vector of each state's cluster (N,)

Half the squared distance of a state x to a centroid c is |x|^2 / 2 + rest, where rest = |c|^2 / 2 - x c is all that
tells centroids apart.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

ROOM = 2**20  # numbers held at once on a CPU: 4 or 8 MB, what its caches take
MEMORY = 2**26  # on a GPU


class CentredStates:
    """States (N, D) around their mean, with their squared `norms` (N,)."""

    def __init__(self, states: Tensor, precision: torch.dtype) -> None:
        self._states, self.precision, self.device, self.shape = states, precision, states.device, states.shape
        self._mean = torch.zeros(states.shape[1], dtype=torch.float64, device=states.device)
        for part in states.split(self._at_once(1)):
            self._mean += part.double().sum(0) / len(states)
        self.norms = torch.cat([part.square().sum(1) for _, part in self.parts()])

    def uncentred(self, centroids: Tensor) -> Tensor:
        """Centroids (K, D) where the states are."""
        return (centroids.double() + self._mean).to(self._states.dtype)

    def rows(self, which: Tensor) -> Tensor:
        """The centred states numbered `which` (M,), (M, D)."""
        return self._states[which].to(self.precision) - self._mean.to(self.precision)

    def parts(self, which: Tensor | None = None, beside: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers (M,) and states (M, D) of all, or of those numbered `which`, M at a time; `beside`: how many numbers
        the caller holds for each of them."""
        every = torch.arange(self.shape[0], device=self.device) if which is None else which
        for numbers in every.split(self._at_once(beside)):
            yield numbers, self.rows(numbers)

    def nearest(self, centroids: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Of all states, or of those numbered `which`: the rest of the distance to the nearest of centroids (K, D), and
        which it is, (M,) each."""
        half_norms, k = centroids.square().sum(1) / 2, len(centroids)
        table = self.norms.new_empty(self._at_once(k), k)  # kept, as a new one each time would fragment memory
        parts = [
            torch.addmm(half_norms, states, centroids.T, alpha=-1, out=table[: len(states)]).min(1)
            for _, states in self.parts(which, k)
        ]
        return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])

    def joining(
        self, centroids: Tensor, sizes: Tensor, clusters: Tensor, labels: Tensor, which: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of the states numbered `which`: by how much the inertia rises where it rises the least if the state joins one
        of the clusters numbered `clusters` that is neither empty nor its own, out of centroids (K, D), sizes (K,) and
        labels (N,), and which cluster that is, (M,) each. A state at distance d raises that of n others by
        d^2 n / (n + 1)."""
        shares, k = (sizes / (sizes + 1))[clusters], len(clusters)
        scaled = torch.cat([centroids[clusters], centroids.new_full((k, 1), -1)], 1) * shares[:, None]
        half_norms = torch.where(shares > 0, shares * centroids[clusters].square().sum(1) / 2, torch.inf)
        column = torch.full_like(sizes, -1, dtype=torch.long).index_copy_(0, clusters, torch.arange(k).to(clusters))
        table, rises, joined = self.norms.new_empty(self._at_once(k), k), [], []
        for numbers, states in self.parts(which, k):
            with_norms = torch.cat([states, self.norms[numbers, None] / 2], 1)
            half = torch.addmm(half_norms, with_norms, scaled.T, alpha=-1, out=table[: len(states)])
            own = column[labels[numbers]]
            there = (own >= 0).nonzero().squeeze(1)
            half[there, own[there]] = torch.inf
            least = half.min(1)
            rises.append(2 * least.values)
            joined.append(clusters[least.indices])
        return torch.cat(rises), torch.cat(joined)

    def products(self, vectors: Tensor, labels: Tensor, which: Tensor) -> Tensor:
        """Of the states numbered `which` with the vector of their label, out of vectors (K, D), (M,)."""
        return torch.cat(
            [(states * vectors[labels[numbers]]).sum(1) for numbers, states in self.parts(which, self.shape[1])]
        )

    def add(self, sums: Tensor, labels: Tensor, which: Tensor | None = None, sign: int = 1) -> None:
        """Add the states numbered `which` to the sums (K, D) of their labels, out of labels (N,), or take them away."""
        for numbers, states in self.parts(which):
            add_to(sums, labels[numbers], sign * states)

    def inertia(self, centroids: Tensor, labels: Tensor) -> float:
        """The summed squared distance of the states to the centroids (K, D) of their labels (N,), in float64."""
        return sum(
            float((states - centroids[labels[numbers]]).double().square().sum())
            for numbers, states in self.parts(beside=4 * self.shape[1])
        )

    def _at_once(self, beside: int) -> int:
        return max(1, (ROOM if self.device.type == "cpu" else MEMORY) // (2 * self.shape[1] + beside))


def add_to(sums: Tensor, labels: Tensor, values: Tensor) -> None:
    """Add values (M, ...) to the sums (K, ...) of their labels (M,), in the same order every time."""
    if sums.device.type == "cpu":
        sums.index_add_(0, labels, values)
    else:
        sums.index_put_((labels,), values, accumulate=True)  # which a GPU sorts first
