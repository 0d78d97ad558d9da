"""KMeans on hidden states, scored against known groups. Tensors in, numbers out.

in:  states (L+1, N, D) and the true group of each of the N
out: for every layer the adjusted Rand index (ARI; Hubert and Arabie, 1985), the normalized mutual information (NMI) and
     the inertia

The clustering is that of scikit-learn's KMeans: greedy k-means++ seeding, Lloyd's iterations to the same tolerance, the
best of several restarts. Two things make it fast without a worse optimum (benchmarks/README.md): all restarts, and all
problems of a kind, go through one matrix product; and restarts that fall behind are given up (successive halving;
Jamieson and Talwalkar, 2016), which pays for more of them. The quality of the optimum is part of the result: fewer
restarts, or seeding without the greedy choice, find lower ARI.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

TOLERANCE = 1e-4  # of the mean variance of a feature: smaller shifts of the centroids end the iterations
MAX_ITERATIONS = 300
RUNG = 3  # iterations after which the worse half of the restarts is given up, again and again until FINALISTS are left
FINALISTS = 2
ROOM = 2**21  # distances held at once on a CPU, about what its caches take; a GPU is given a hundred times that


class Clustering(NamedTuple):
    """cluster_labels (N,) in 0..K-1, centroids (K, D), inertia: the summed squared distance to the own centroid."""

    cluster_labels: Tensor
    centroids: Tensor
    inertia: float


@dataclass(frozen=True)
class Clusterer:
    """KMeans with `n_init` restarts, the same from the same `seed` on every call."""

    n_init: int
    seed: int

    def fit(self, states: Tensor, n_clusters: int) -> Clustering:
        """Cluster states (N, D). Raises ValueError for more clusters than states."""
        return self.fit_many([states], [n_clusters])[0]

    def fit_many(self, problems: Sequence[Tensor], n_clusters: Sequence[int]) -> list[Clustering]:
        """Cluster each of several sets of states, (N, D) each, by itself; quickest where they are of one size."""
        for states, k in zip(problems, n_clusters, strict=True):
            if k > len(states):
                raise ValueError(f"n_clusters={k} exceeds the {len(states)} states to cluster; lower it")
        most = max(map(len, problems)) * max(n_clusters) * self.n_init
        room = ROOM if problems[0].device.type == "cpu" else 100 * ROOM
        together = max(1, room // most)
        found: list[Clustering] = []
        for first in range(0, len(problems), together):
            part = slice(first, first + together)
            found += _Batch(problems[part], n_clusters[part]).fit(self.n_init, self.seed)
        return found

    def score_layers(self, states: Tensor, truth: Tensor, n_clusters: int) -> dict[str, list[float]]:
        """{"ari", "nmi", "inertia"}: one number a layer, for states (L+1, N, D) and true groups (N,)."""
        found = self.fit_many(list(states), [n_clusters] * len(states))
        return {
            "ari": [adjusted_rand_score(truth, clustering.cluster_labels.cpu()) for clustering in found],
            "nmi": [normalized_mutual_info_score(truth, clustering.cluster_labels.cpu()) for clustering in found],
            "inertia": [clustering.inertia for clustering in found],
        }

    def score_layers_within(
        self, states: Tensor, within: Tensor, n_clusters_from: Tensor, truths: Mapping[str, Tensor]
    ) -> dict[str, list[float]]:
        """ARI inside each value of `within`, against every labelling of `truths`: one number a layer and labelling.

        Each value has its own KMeans, with as many clusters as `n_clusters_from` has groups among its states; the mean
        over values is weighted by their states. Values on which a labelling has one group only say nothing about it
        and are left out; with none left the number is NaN.
        """
        members = [(within == value).nonzero().squeeze(1) for value in within.unique()]
        n_clusters = [len(n_clusters_from[rows].unique()) for rows in members]
        problems = [layer[rows.to(layer.device)] for layer in states for rows in members]
        found = iter(self.fit_many(problems, n_clusters * len(states)))
        labels = [[next(found).cluster_labels.cpu() for _ in members] for _ in states]

        def score(truth: Tensor, of_layer: list[Tensor]) -> float:
            telling = [
                (rows, own) for rows, own in zip(members, of_layer, strict=True) if len(truth[rows].unique()) > 1
            ]
            weights = [len(rows) for rows, _ in telling]
            aris = [adjusted_rand_score(truth[rows], own) for rows, own in telling]
            return float(np.average(aris, weights=weights)) if telling else float("nan")

        return {name: [score(truth, of_layer) for of_layer in labels] for name, truth in truths.items()}


class _Batch:
    """P problems at once, padded to the largest: states (P, N, D) around their means, `there` (P, 1, N) where real."""

    def __init__(self, problems: Sequence[Tensor], n_clusters: Sequence[int]) -> None:
        device = problems[0].device
        self.sizes, self.n_clusters = [len(states) for states in problems], n_clusters
        self.means = [states.mean(0) for states in problems]  # products of centred states lose the fewest digits
        self.states = pad_sequence(
            [states - mean for states, mean in zip(problems, self.means, strict=True)], batch_first=True
        )
        sizes = torch.tensor(self.sizes, device=device)
        self.there = (torch.arange(self.states.shape[1], device=device) < sizes[:, None])[:, None].to(self.states.dtype)
        unused = torch.arange(max(n_clusters), device=device) >= torch.tensor(n_clusters, device=device)[:, None]
        self.unused = torch.where(unused, torch.inf, 0.0)[
            :, None
        ]  # (P, 1, K): keeps clusters that a problem lacks empty
        self.norms = self.states.square().sum(2)  # (P, N)
        self.tolerance = TOLERANCE * self.norms.sum(1) / sizes / self.states.shape[2]  # (P,)

    def fit(self, n_init: int, seed: int) -> list[Clustering]:
        centroids = self._descend(self._greedy_seeds(n_init, torch.Generator().manual_seed(seed)))
        labels = self._assign(centroids)[1][:, 0]
        own = centroids[:, 0].take_along_dim(labels[:, :, None], 1)
        inertias = ((self.states - own).double().square().sum(2) * self.there[:, 0]).sum(1).tolist()
        return [
            Clustering(labels[p, :size], centroids[p, 0, :k] + self.means[p], inertias[p])
            for p, (size, k) in enumerate(zip(self.sizes, self.n_clusters, strict=True))
        ]

    def _greedy_seeds(self, n_init: int, generator: torch.Generator) -> Tensor:
        """Centroids to start from, (P, R, K, D): states drawn by k-means++ (Arthur and Vassilvitskii, 2007), each the
        best of 2 + log K draws."""
        device, n_clusters = self.states.device, max(self.n_clusters)
        n_draws = 2 + int(np.log(n_clusters))
        problems = torch.arange(len(self.states), device=device)[:, None]
        sizes = torch.tensor(self.sizes, device=device)[:, None]
        first = (torch.rand(n_init, generator=generator).to(device) * sizes).long()  # (P, R)
        draws = torch.rand(n_clusters - 1, n_init, n_draws, generator=generator).to(device)
        transposed = self.states.transpose(1, 2)

        def squared_distances(rows: Tensor) -> Tensor:
            """(P, M) states -> (P, M, N); never from what is only padding."""
            products = torch.baddbmm(self.norms[:, None], self.states[problems, rows], transposed, alpha=-2)
            return products.add_(self.norms[problems, rows][:, :, None]).clamp_(min=0)

        seeds = [first]
        nearest = squared_distances(first) * self.there  # (P, R, N): to the closest seed so far
        for draw in draws:
            mass = nearest.cumsum(2)
            rows = torch.searchsorted(mass, draw * mass[:, :, -1:]).minimum(sizes[:, :, None] - 1)  # (P, R, draws)
            closer = squared_distances(rows.flatten(1)).view(*rows.shape, -1)
            torch.minimum(closer, nearest[:, :, None], out=closer)
            best = closer.sum(3).argmin(2, keepdim=True)  # (P, R, 1): the draw that leaves the least distance
            seeds.append(rows.take_along_dim(best, 2).squeeze(2))
            nearest = closer.take_along_dim(best[:, :, :, None], 2).squeeze(2)
        return self.states[problems[:, :, None], torch.stack(seeds, dim=2)]

    def _descend(self, centroids: Tensor) -> Tensor:
        """Lloyd's iterations from centroids (P, R, K, D); the best restart's, (P, 1, K, D)."""
        moving = torch.ones(centroids.shape[:2], dtype=torch.bool, device=centroids.device)
        for iteration in range(MAX_ITERATIONS):
            distances, labels = self._assign(centroids)
            if iteration and iteration % RUNG == 0 and centroids.shape[1] > FINALISTS:
                ahead = distances.sum(2).argsort(dim=1)[:, : max(FINALISTS, centroids.shape[1] // 2)]
                centroids, labels, moving = (_take(t, ahead) for t in (centroids, labels, moving))
            new = self._means(labels, centroids)
            shift = (new - centroids).square().sum((2, 3))
            centroids = torch.where(moving[:, :, None, None], new, centroids)
            moving &= shift > self.tolerance[:, None]
            if not moving.any() and centroids.shape[1] <= FINALISTS:
                break
        return _take(centroids, self._assign(centroids)[0].sum(2).argmin(1, keepdim=True))

    def _assign(self, centroids: Tensor) -> tuple[Tensor, Tensor]:
        """Half the squared distance to the nearest of centroids (P, R, K, D), less a constant, and which, (P, R, N)."""
        half_norms = (centroids.square().sum(3) / 2 + self.unused).flatten(1)[:, :, None]
        products = torch.baddbmm(half_norms, centroids.flatten(1, 2), self.states.transpose(1, 2), alpha=-1)
        nearest, labels = products.view(*centroids.shape[:3], -1).min(2)
        return nearest * self.there, labels

    def _means(self, labels: Tensor, centroids: Tensor) -> Tensor:
        """The mean of every cluster's states, (P, R, K, D); an empty one keeps its centroid."""
        member = self.states.new_zeros(*centroids.shape[:3], labels.shape[2])
        member.scatter_(2, labels[:, :, None], self.there[:, None].expand(*labels.shape[:2], 1, -1))
        sizes = member.sum(3)[..., None]
        sums = torch.bmm(member.flatten(1, 2), self.states).view_as(centroids)
        return torch.where(sizes > 0, sums / sizes.clamp(min=1), centroids)


def _take(values: Tensor, restarts: Tensor) -> Tensor:
    """For every problem the restarts (P, R') out of values (P, R, ...)."""
    return values[torch.arange(len(values), device=values.device)[:, None], restarts]
