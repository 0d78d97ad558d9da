"""KMeans for many clusters of many states. Memory grows with states plus centroids, not with their product.

in:  states (N, D), and the number of clusters
out: Clusters

One start, improved, instead of the best of several (benchmarks/README.md). Seeds are drawn by k-means++, many at once.
A state then joins another cluster where this lowers the inertia, given how both centroids move (Hartigan and Wong,
"Algorithm AS 136: A K-Means Clustering Algorithm", Applied Statistics 28, 1979): with few states a cluster, it often
does although the state's own centroid is the nearest. Only the distances that can matter are computed: to the centroids
that moved, and to all of them for the states whose centroid moved away (Kaukoranta, Fränti and Nevalainen, "A fast
exact GLA based on code vector activity detection", IEEE Transactions on Image Processing 9, 2000).
Every few iterations the clusters that gain the most are split, and as many that lose the least are merged
(`split_and_merge`). A last pass compares all states and centroids.
"""

import math

import torch
from pydantic import ConfigDict, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from taskcluster.measures.clusterers.centred_states import CentredStates
from taskcluster.measures.clusterers.clusterer import Clusterer, Clusters, undefined
from taskcluster.measures.clusterers.kmeans import MAX_ITERATIONS, unresolved
from taskcluster.measures.clusterers.split_and_merge import split_and_merge
from taskcluster.validation import Seed, UserError

ROUNDS = 20  # in which seeds are drawn
SHARE = 0.8  # of the exchanges found in an iteration that are made: of all, some would undo each other for ever
APART = 3  # iterations from one regrouping to the next
LEAST = 1e-3  # share of the inertia; the last regrouping, and the iterations before it, lowered it by no more
OF_STATE, OF_CENTROID, BUFFERS = 120, 128, 2**26  # bytes for each state, for each number of a centroid, and besides


@dataclass(frozen=True, config=ConfigDict(strict=True))
class LargeKMeans(Clusterer):
    """KMeans from one start, improved by splitting and merging clusters, the same from the same `seed` on every call.

    Attributes:
        n_clusters: k over all tasks; None for the number of tasks.
        memory: GiB it may use in addition to the states; more is refused.
        seed: of the starting centroids, and of where clusters are split.
    """

    n_clusters: PositiveInt | None
    memory: PositiveFloat
    seed: Seed

    def fit(self, states: Tensor, n_clusters: int) -> Clusters:
        """Cluster in float32; in float64 for float64 states, and where rounding may have decided the result.

        Raises UserError for more memory than it may take.
        """
        states = states.cpu() if states.device.type == "mps" else states
        n, width = states.shape
        needed = (OF_STATE * n + OF_CENTROID * n_clusters * width + BUFFERS) / 2**30
        if needed > self.memory:
            raise UserError(
                f"clusterer.memory={self.memory}: {n_clusters} clusters of {n} states of width {width} may take "
                f"{needed:.2f} GiB in addition to the states; raise it, or lower clusterer.n_clusters or "
                "data.probe_size"
            )
        clusters = undefined(states, n_clusters)
        for precision in (torch.float64,) if states.dtype == torch.float64 else (torch.float32, torch.float64):
            centred = CentredStates(states, precision)
            total = float(centred.norms.double().sum())
            if math.isfinite(total):
                random = torch.Generator().manual_seed(self.seed)
                labels, centroids = _Descent(centred, *_seeds(centred, n_clusters, random)).run(random)
                clusters = Clusters(labels, centred.uncentred(centroids), centred.inertia(centroids, labels))
                if not unresolved(states, clusters, total):
                    break
        return clusters


def _seeds(states: CentredStates, n_clusters: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """States to start from by k-means++ (Arthur and Vassilvitskii, 2007), a twentieth of them drawn at a time.

    Gives the centroids (K, D), and of each state the nearest, (N,).
    """
    n, at_once = states.shape[0], math.ceil(n_clusters / ROUNDS)
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
    return states.rows(seeds), labels


class _Descent:
    """Exchanges of single states, and regrouping. `rises` (N,): by how much each state raised the inertia of its
    cluster when it would have raised that of no other by less; -inf where it may be better off elsewhere."""

    def __init__(self, states: CentredStates, centroids: Tensor, labels: Tensor) -> None:
        self.states, self.centroids, self.labels = states, centroids, labels
        self.rises = torch.full_like(states.norms, -torch.inf)
        self.sums = torch.zeros_like(centroids)
        states.add(self.sums, labels)
        self.sizes = torch.bincount(labels, minlength=len(centroids)).to(centroids)

    def run(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Labels (N,) and centroids (K, D)."""
        every, inertia = torch.arange(len(self.labels), device=self.labels.device), math.inf
        for iteration in range(1, MAX_ITERATIONS + 1):
            moved = self._centre()
            if not moved.any() or not self._exchange(moved, random) or iteration % APART == 0:
                errors = self._errors(every)
                before, inertia = inertia, float(errors.double().sum())
                lowered = split_and_merge(self.states, self.labels, self.sums, self.sizes, errors, random)
                if max(lowered, before - inertia) <= LEAST * inertia:
                    break
        self._centre()
        return self.states.nearest(self.centroids)[1], self.centroids

    def _centre(self) -> Tensor:
        """Move the centroids to the means. Which of them moved, (K,)."""
        means = torch.where(self.sizes[:, None] > 0, self.sums / self.sizes.clamp(min=1)[:, None], self.centroids)
        moved = (means != self.centroids).any(1)
        self.centroids = means
        return moved

    def _errors(self, which: Tensor) -> Tensor:
        """Squared distances of the states numbered `which` to the centroids of their clusters, (M,)."""
        norms = self.states.norms[which] + self.centroids.square().sum(1)[self.labels[which]]
        return (norms - 2 * self.states.products(self.centroids, self.labels, which)).clamp(min=0)

    def _exchange(self, moved: Tensor, random: torch.Generator) -> bool:
        """Let states join other clusters if that lowers the inertia, given which centroids moved, (K,). Whether any
        does."""
        which = (moved[self.labels] | (self.rises == -torch.inf)).nonzero().squeeze(1)
        n = self.sizes[self.labels[which]]
        rises = self._errors(which) * n / (n - 1).clamp(min=1)
        away = torch.zeros_like(self.labels, dtype=torch.bool)
        away[which[rises > self.rises[which]]] = True  # then a cluster that did not move may have become the best
        self.rises[which] = rises
        labels, every = self.labels.clone(), torch.ones_like(moved)
        for searched, clusters in ((away, every), (~away, moved)):
            which, numbers = searched.nonzero().squeeze(1), clusters.nonzero().squeeze(1)
            rises, joined = self.states.joining(self.centroids, self.sizes, numbers, self.labels, which)
            better = rises < self.rises[which]
            drawn = better & (torch.rand(len(which), generator=random) < SHARE).to(better.device)
            self.rises[which[better]] = torch.where(drawn, rises, -torch.inf)[better]
            labels[which[drawn]] = joined[drawn]
        changed = (labels != self.labels).nonzero().squeeze(1)
        self.states.add(self.sums, self.labels, changed, sign=-1)
        self.states.add(self.sums, labels, changed)
        self.sizes = torch.bincount(labels, minlength=len(self.sizes)).to(self.sizes)
        self.labels = labels
        return len(changed) > 0
