"""KMeans for many clusters of many states, in memory that grows with states and centroids, not with their product.

in:  problems, each states (N, D), and the number of clusters of each
out: a Clustering of each

One start, improved, instead of the best of several (benchmarks/README.md). Seeds are drawn by k-means++, many at once.
Lloyd's iterations compute only the distances that can matter: to the centroids that moved, and to all of them for the
states whose own moved away (Kaukoranta, Fränti and Nevalainen, "A fast exact GLA based on code vector activity
detection", IEEE Transactions on Image Processing 9, 2000). Every few iterations the clusters that gain the most are
split, and as many that lose the least are merged (`regrouping`). A last pass compares every state with every centroid.
"""

import math
from collections.abc import Sequence

import torch
from pydantic import ConfigDict, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from taskcluster.measures.clusterers.centred import Centred
from taskcluster.measures.clusterers.clusterer import Clusterer, Clustering, refuse_too_many, undefined
from taskcluster.measures.clusterers.kmeans import MAX_ITERATIONS, TOLERANCE, unresolved
from taskcluster.measures.clusterers.regrouping import regroup
from taskcluster.validation import Seed, UserError

ROUNDS = 20  # in which seeds are drawn
APART = 3  # iterations from one regrouping to the next
LEAST = 1e-4  # of the inertia: regrouping that lowers it by less is the last
OF_STATE, OF_CENTROID, BUFFERS = 120, 128, 2**26  # bytes for each state, for each number of a centroid, and besides


@dataclass(frozen=True, config=ConfigDict(strict=True))
class LargeKMeans(Clusterer):
    """KMeans from one start, improved by splitting and merging clusters, the same from the same `seed` on every call.

    Attributes:
        n_clusters: k over all tasks; None for the number of tasks.
        memory: GiB that it may take beside the states; more is refused.
        seed: of the starting centroids, and of where clusters are split.
    """

    n_clusters: PositiveInt | None
    memory: PositiveFloat
    seed: Seed

    def fit_many(self, problems: Sequence[Tensor], n_clusters: Sequence[int]) -> list[Clustering]:
        """See Clusterer.fit_many. Raises UserError for more memory than it may take."""
        refuse_too_many(problems, n_clusters)
        return [self._fit(states, k) for states, k in zip(problems, n_clusters, strict=True)]

    def _fit(self, states: Tensor, n_clusters: int) -> Clustering:
        """In float32, and in float64 where the states are or where rounding may have decided the result."""
        if states.device.type == "mps":
            states = states.cpu()
        self._refuse_too_large(states, n_clusters)
        precisions = [torch.float64] if states.dtype == torch.float64 else [torch.float32, torch.float64]
        for precision in precisions:
            centred = Centred(states, precision)
            total = float(centred.norms.double().sum())
            if not math.isfinite(total):
                continue
            random = torch.Generator().manual_seed(self.seed)
            descent = _Descent(centred, *_seeds(centred, n_clusters, random))
            labels, centroids = descent.run(random, TOLERANCE * total / len(states) / states.shape[1])
            inertia = centred.inertia(centroids, labels)
            found = Clustering(labels, centred.uncentred(centroids), inertia)
            if precision == precisions[-1] or not unresolved([states], [found], [total]):
                return found
        return undefined(states, n_clusters)

    def _refuse_too_large(self, states: Tensor, k: int) -> None:
        n, width = states.shape
        needed = (OF_STATE * n + OF_CENTROID * k * width + BUFFERS) / 2**30
        if needed > self.memory:
            raise UserError(
                f"clusterer.memory={self.memory}: {k} clusters of {n} states of width {width} may take "
                f"{needed:.2f} GiB beside the states; raise it, or lower clusterer.n_clusters or data.probe_size"
            )


def _seeds(states: Centred, n_clusters: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """States to start from by k-means++ (Arthur and Vassilvitskii, 2007), a twentieth of them drawn at a time.

    Gives the centroids (K, D), and of each state the nearest and the rest of the distance to it, (N,).
    """
    n, at_once = len(states), math.ceil(n_clusters / ROUNDS)
    seeds = torch.randint(n, (1,), generator=random).to(states.device)
    rests, labels = states.nearest(states.rows(seeds))
    while len(seeds) < n_clusters:
        mass = (2 * rests + states.norms).clamp(min=0).cpu().double().cumsum(0)
        if mass[-1] > 0:
            drawn = torch.rand(min(at_once, n_clusters - len(seeds)), generator=random, dtype=torch.float64)
            new = torch.searchsorted(mass, drawn * mass[-1], right=True).clamp(max=n - 1).unique().to(states.device)
        else:  # every state is a seed, or equal to one
            new = torch.arange(n_clusters - len(seeds), device=states.device)
        closer, nearest = states.nearest(states.rows(new))
        labels = torch.where(closer < rests, nearest + len(seeds), labels)
        rests = torch.minimum(rests, closer)
        seeds = torch.cat([seeds, new])
    return states.rows(seeds), labels, rests


class _Descent:
    """Lloyd's iterations. `rests` (N,): of the distances to the own centroid when it was last the nearest."""

    def __init__(self, states: Centred, centroids: Tensor, labels: Tensor, rests: Tensor) -> None:
        self.states, self.centroids, self.labels, self.rests = states, centroids, labels, rests
        self.sums = torch.zeros_like(centroids)
        states.add(self.sums, labels)
        self.sizes = torch.bincount(labels, minlength=len(centroids)).to(centroids)

    def run(self, random: torch.Generator, tolerance: float) -> tuple[Tensor, Tensor]:
        """Labels (N,) and centroids (K, D)."""
        for iteration in range(1, MAX_ITERATIONS + 1):
            moved, shift = self._centre()
            at_rest = not self._assign(moved) or shift <= tolerance
            if at_rest or iteration % APART == 0:
                errors = (2 * self.rests + self.states.norms).clamp(min=0)
                lowered = regroup(self.states, self.labels, self.sums, self.sizes, errors, random)
                if at_rest and lowered <= LEAST * float(errors.double().sum()):
                    break
        self._centre()
        return self.states.nearest(self.centroids)[1], self.centroids

    def _centre(self) -> tuple[Tensor, float]:
        """Move the centroids to the means. Which of them moved, (K,), and the summed squares of how far."""
        means = torch.where(self.sizes[:, None] > 0, self.sums / self.sizes.clamp(min=1)[:, None], self.centroids)
        shift = means - self.centroids
        self.centroids = means
        return (shift != 0).any(1), float(shift.square().sum())

    def _assign(self, moved: Tensor) -> int:
        """Find the nearest centroid of every state, given which moved, (K,). How many states change clusters."""
        labels, which = self.labels.clone(), moved[self.labels].nonzero().squeeze(1)
        half_norms = self.centroids.square().sum(1) / 2
        rests = half_norms[labels[which]] - self.states.products(self.centroids, labels, which)
        away = rests > self.rests[which]  # then one that did not move may have become the nearest
        everywhere = torch.zeros_like(labels, dtype=torch.bool)
        everywhere[which[away]] = True
        self.rests[which] = rests
        some, numbers = (~everywhere).nonzero().squeeze(1), moved.nonzero().squeeze(1)
        if len(numbers):
            closest, nearest = self.states.nearest(self.centroids[numbers], some)
            better = closest < self.rests[some]
            labels[some[better]], self.rests[some[better]] = numbers[nearest[better]], closest[better]
        which = which[away]
        self.rests[which], labels[which] = self.states.nearest(self.centroids, which)
        changed = (labels != self.labels).nonzero().squeeze(1)
        self.states.add(self.sums, self.labels, changed, sign=-1)
        self.states.add(self.sums, labels, changed)
        k = len(self.sizes)
        came, left = (torch.bincount(of[changed], minlength=k) for of in (labels, self.labels))
        self.sizes += came - left
        self.labels = labels
        return len(changed)
