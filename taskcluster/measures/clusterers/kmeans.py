"""KMeans on hidden states.

in:  problems, each states (N, D), and the number of clusters of each
out: Clusters of each

The clustering is that of scikit-learn's KMeans on float64: greedy k-means++ seeding, Lloyd's iterations to the same
tolerance, the best of several restarts. Two things make it fast without a worse optimum (benchmarks/README.md): all
restarts, and all problems of a kind, go through one matrix product; and restarts that fall behind are given up
(successive halving; Jamieson and Talwalkar, 2016), which pays for more of them. The quality of the optimum is part of
the result: fewer restarts, or seeding without the greedy choice, find lower ARI.

States are clustered in their own precision, and again in float64 where rounding may have decided the result. Beside the
states it holds a copy of them, R x K x D numbers a few times for the centroids of R restarts, a few numbers for each
restart and state, and MEMORY distances a few times. `large_kmeans` needs less.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import chain

import numpy as np
import torch
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from taskcluster.measures.clusterers.clusterer import Clusterer, Clusters
from taskcluster.validation import Seed
from taskcluster.work import each

TOLERANCE = 1e-4  # relative to the mean variance of a feature; smaller shifts of the centroids end the iterations
MAX_ITERATIONS = 300
RUNG = 3  # iterations after which the worse half of the restarts is given up, again and again until FINALISTS are left
FINALISTS = 2
RESOLVED = 1e-3  # share of the squared distances to the mean; float32 keeps 1e-7 of them and resolves a larger inertia
LOOK = 4  # iterations between looks at whether any centroid still moves, each of which waits for a GPU
LOOKED_UP = 4096  # states of whose pairs all distances are kept while seeds are drawn
ROOM = 2**18  # distances held at once on a CPU, what its caches take beside their operands; a GPU is given more
FINE = 2.0**40  # what the largest weight of a draw counts on a GPU, where weights are integers
MEMORY = 2**26  # distances held at once at most: 256 MB


@dataclass(frozen=True, config=ConfigDict(strict=True))
class KMeans(Clusterer):
    """KMeans with `n_init` restarts, the same from the same `seed` on every call.

    Attributes:
        n_clusters: k over all tasks; None for the number of tasks.
        n_init: number of restarts.
        seed: of the starting centroids.
    """

    n_clusters: PositiveInt | None
    n_init: PositiveInt
    seed: Seed

    def fit(self, states: Tensor, n_clusters: int) -> Clusters:
        return self.fit_many([states], [n_clusters])[0]

    def fit_many(self, problems: Sequence[Tensor], n_clusters: Sequence[int]) -> list[Clusters]:
        """See Clusterer.fit_many; quickest where the problems are of one size.

        Half-precision states are clustered in float32, and those on MPS, which has no float64, on the CPU.
        """
        problems = [states.cpu() if states.device.type == "mps" else states for states in problems]
        problems = [states if states.dtype == torch.float64 else states.float() for states in problems]
        fitted = self._fit_in_parts(problems, n_clusters)
        coarse = [p for p, states in enumerate(problems) if unresolved(states, *fitted[p])]
        if coarse:
            finer = self._fit_in_parts([problems[p].double() for p in coarse], [n_clusters[p] for p in coarse])
            for p, (clusters, total) in zip(coarse, finer, strict=True):
                fitted[p] = clusters._replace(centroids=clusters.centroids.to(problems[p].dtype)), total
        return [c if math.isfinite(c.inertia) else c._replace(inertia=math.nan) for c, _ in fitted]

    def _fit_in_parts(self, problems: Sequence[Tensor], n_clusters: Sequence[int]) -> list[tuple[Clusters, float]]:
        """The clusters of each problem, and the summed squared distance of its states to their mean."""
        most = max(map(len, problems)) * max(n_clusters) * self.n_init
        together = max(1, (ROOM if problems[0].device.type == "cpu" else 2**10 * ROOM) // most)
        parts = [slice(first, first + together) for first in range(0, len(problems), together)]
        return [*chain(*(_Batch(problems[p], n_clusters[p]).fit(self.n_init, self.seed) for p in each(parts)))]


class _Batch:
    """P problems at once, padded to the largest: states (P, N, D) around their means, `there` (P, 1, N) where real."""

    def __init__(self, problems: Sequence[Tensor], n_clusters: Sequence[int]) -> None:
        device = problems[0].device
        self.sizes, self.n_clusters = [len(states) for states in problems], n_clusters
        self.means = [states.mean(0) for states in problems]  # products of centred states lose the fewest digits
        centred = [states - mean for states, mean in zip(problems, self.means, strict=True)]
        self.states = pad_sequence(centred, batch_first=True) if len(centred) > 1 else centred[0][None]
        self.rows = max(1, MEMORY // (len(problems) * self.states.shape[2]))  # states of every problem copied at once
        self.there_are = sizes = torch.tensor(self.sizes).to(device, non_blocking=True)
        self.there = (torch.arange(self.states.shape[1], device=device) < sizes[:, None])[:, None].to(self.states.dtype)
        self.unused = torch.where(  # (P, 1, K): no state is near these
            torch.arange(max(n_clusters), device=device) >= torch.tensor(n_clusters).to(device)[:, None], torch.inf, 0.0
        )[:, None]
        self.norms = torch.cat([part.square().sum(2) for part in self.states.split(self.rows, 1)], 1)  # (P, N)
        self.totals = self.norms.sum(1)  # (P,)
        self.tolerance = TOLERANCE * self.totals / sizes / self.states.shape[2]  # (P,)

    def fit(self, n_init: int, seed: int) -> list[tuple[Clusters, float]]:
        """The clusters of each problem, and the summed squared distance of its states to their mean."""
        seeds, labels = self._greedy_seeds(n_init, torch.Generator().manual_seed(seed))
        centroids = self._descend(seeds, labels)
        labels = self._assign(centroids)[1][:, 0]
        parts = zip(self.states.split(self.rows, 1), labels.split(self.rows, 1), strict=True)
        errors = torch.cat(
            [(states - _take(centroids[:, 0], assigned)).double().square().sum(2) for states, assigned in parts], 1
        )
        inertias, totals = torch.stack([(errors * self.there[:, 0]).sum(1), self.totals.double()]).tolist()
        return [
            (Clusters(labels[p, :size], centroids[p, 0, :k] + self.means[p], inertias[p]), totals[p])
            for p, (size, k) in enumerate(zip(self.sizes, self.n_clusters, strict=True))
        ]

    def _greedy_seeds(self, n_init: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """States to start from, drawn by k-means++ (Arthur and Vassilvitskii, 2007), each the best of 2 + log K draws.

        Gives the centroids (P, R, K, D) and which of them each state is nearest to, (P, R, N).
        """
        n_problems, n_states, _ = self.states.shape
        device, n_clusters = self.states.device, max(self.n_clusters)
        sizes, n_draws = self.there_are[:, None], 2 + int(np.log(n_clusters))
        draws = torch.rand(n_clusters, n_init, n_draws, generator=generator).to(device, non_blocking=True)
        squared_distances = self._squared_distances
        if n_states <= LOOKED_UP:
            table = squared_distances(torch.arange(n_states, device=device).expand(n_problems, -1))
            squared_distances = partial(_take, table)
        seeds = [(draws[0, :, 0] * sizes).long()]  # (P, R) each
        nearest = squared_distances(seeds[0]) * self.there  # (P, R, N): to the closest seed; 0 where only padding is
        labels = torch.zeros(nearest.shape, dtype=torch.long, device=device)
        for k in range(1, n_clusters):
            drawn = _drawn(nearest, draws[k]).minimum(sizes[:, :, None] - 1)  # (P, R, S)
            closer = squared_distances(drawn.flatten(1)).view(*drawn.shape, -1)
            torch.minimum(closer, nearest[:, :, None], out=closer)
            best = closer.sum(3).argmin(2, keepdim=True)
            closest = _take(closer.flatten(0, 1), best.flatten(0, 1)).view(nearest.shape)
            labels.masked_fill_(closest < nearest, k)
            nearest = closest
            seeds.append(drawn.gather(2, best).squeeze(2))
        return _take(self.states, torch.stack(seeds, dim=2).flatten(1)).view(n_problems, n_init, n_clusters, -1), labels

    def _squared_distances(self, rows: Tensor) -> Tensor:
        """Of the states numbered `rows` (P, M) to all, (P, M, N)."""
        products = torch.baddbmm(self.norms[:, None], _take(self.states, rows), self.states.transpose(1, 2), alpha=-2)
        return products.add_(_take(self.norms, rows)[:, :, None]).clamp_(min=0)

    def _descend(self, centroids: Tensor, labels: Tensor) -> Tensor:
        """Lloyd's iterations from centroids (P, R, K, D) and labels (P, R, N); the best restart's, (P, 1, K, D)."""
        moving = torch.ones(centroids.shape[:2], dtype=torch.bool, device=centroids.device)
        sums, sizes = torch.zeros_like(centroids), centroids.new_zeros(centroids.shape[:3])
        on_cpu = centroids.device.type == "cpu"
        self._move(sums, sizes, None, labels)
        for iteration in range(1, MAX_ITERATIONS + 1):
            means = torch.where(sizes[..., None] > 0, sums / sizes[..., None].clamp(min=1), centroids)
            shift = torch.linalg.vector_norm(means - centroids, dim=(2, 3)).square()
            centroids = torch.where(moving[:, :, None, None], means, centroids)  # an empty cluster keeps its centroid
            moving &= shift > self.tolerance[:, None]
            n_init = centroids.shape[1]
            if n_init <= FINALISTS and (on_cpu or iteration % LOOK == 0) and not moving.any():
                break
            distances, assigned = self._assign(centroids)
            if iteration % RUNG == 0 and n_init > FINALISTS:
                ahead = distances.sum(2).argsort(dim=1)[:, : max(FINALISTS, n_init // 2)]
                centroids, labels, assigned, moving, sums, sizes = (
                    _take(values, ahead) for values in (centroids, labels, assigned, moving, sums, sizes)
                )
            self._move(sums, sizes, labels, assigned)
            labels = assigned
        return _take(centroids, self._assign(centroids)[0].sum(2).argmin(1, keepdim=True))

    def _move(self, sums: Tensor, sizes: Tensor, old: Tensor | None, new: Tensor) -> None:
        """Bring every cluster's summed states (P, R, K, D) and their number (P, R, K) from labels `old` to `new`."""
        columns_of = torch.arange(new.shape[2], device=new.device)
        at_once = min(max(1, MEMORY // sizes.numel()), self.rows)
        if old is not None and (new.device.type == "cpu" or len(columns_of) > at_once):
            columns_of = (old != new).any(0).any(0).nonzero().squeeze(1)
        for columns in columns_of.split(at_once):
            one = self.there[:, None, :, columns].expand(*new.shape[:2], 1, -1)
            member = sums.new_zeros(*sizes.shape, len(columns)).scatter_(2, new[:, :, None, columns], one)
            if old is not None:
                member -= torch.zeros_like(member).scatter_(2, old[:, :, None, columns], one)
            sums += torch.bmm(member.flatten(1, 2), self.states[:, columns]).view_as(sums)
            sizes += member.sum(3)

    def _assign(self, centroids: Tensor) -> tuple[Tensor, Tensor]:
        """Half the squared distance to the nearest of centroids (P, R, K, D), less a constant, and which, (P, R, N)."""
        half_norms = (centroids.square().sum(3) / 2 + self.unused).flatten(1)[:, :, None]
        products = (
            torch.baddbmm(half_norms, centroids.flatten(1, 2), states.transpose(1, 2), alpha=-1)
            for states in self.states.split(max(1, MEMORY // half_norms.numel()), dim=1)
        )
        parts = [part.view(*centroids.shape[:3], -1).min(2) for part in products]
        return torch.cat([part.values for part in parts], 2) * self.there, torch.cat(
            [part.indices for part in parts], 2
        )


def unresolved(states: Tensor, clusters: Clusters, total: float) -> bool:
    """Whether float32 did not tell states apart well enough, given their summed squared distance to the mean.

    Distances are differences of squares, so each is off by some 1e-7 of the squares; so must be little beside the
    inertia, with neither under- nor overflow. Clusters of identical states cannot be better.
    """
    (labels, centroids, inertia), precision = clusters, torch.finfo(states.dtype)
    large = precision.tiny / precision.eps * len(states) < total and RESOLVED * total < inertia < math.inf
    if states.dtype == torch.float64 or large:
        return False
    members = labels.new_zeros(len(centroids)).scatter(0, labels, torch.arange(len(labels), device=labels.device))
    parts = zip(states.split(LOOKED_UP), labels.split(LOOKED_UP), strict=True)
    alike = all(torch.equal(states[members[assigned]], part) for part, assigned in parts)
    return not (alike and math.isfinite(inertia))


def _drawn(weights: Tensor, draws: Tensor) -> Tensor:
    """Which of N states is drawn by each of `draws` (R, M), uniform in [0, 1), with weights (P, R, N): (P, R, M), or N.

    A GPU's sums of floating-point numbers are not the same to the bit each time; those of integers are.
    """
    if weights.device.type == "cpu":
        mass = weights.cumsum(2)
        return torch.searchsorted(mass, draws * mass[:, :, -1:])
    largest = weights.amax(2, keepdim=True).double().clamp(min=torch.finfo(torch.float64).tiny)
    mass = (weights / largest * FINE).long().cumsum(2)
    return torch.searchsorted(mass, (draws * mass[:, :, -1:].double()).long(), right=True)


def _take(values: Tensor, chosen: Tensor) -> Tensor:
    """For every problem the entries `chosen`, (P, M), out of values (P, N, ...)."""
    first = torch.arange(len(values), device=values.device)[:, None] * values.shape[1]
    rows = values.flatten(0, 1).index_select(0, (chosen + first).flatten())  # a third of the time of values[p, chosen]
    return rows.view(*chosen.shape, *values.shape[2:])
