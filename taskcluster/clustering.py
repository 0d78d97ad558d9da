"""KMeans on hidden states, scored against known groups. Tensors in, numbers out.

in:  states (L+1, N, D) and the true group of each of the N
out: for every layer the adjusted Rand index (ARI; Hubert and Arabie, 1985), the normalized mutual information (NMI) and
     the inertia

The clustering is that of scikit-learn's KMeans (greedy k-means++ seeding, Lloyd's iterations to the same tolerance, the
best of several restarts), with all restarts in one matrix product: the same inertia in a quarter of the time
(benchmarks/README.md). The quality of the optimum is part of the result: fewer restarts, or seeding without the greedy
choice, find lower ARI.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor

TOLERANCE = 1e-4  # of the mean variance of a feature: smaller shifts of the centroids end the iterations
MAX_ITERATIONS = 300


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
        if n_clusters > len(states):
            raise ValueError(f"n_clusters={n_clusters} exceeds the {len(states)} states to cluster; lower it")
        mean = states.mean(0)
        centred = states - mean  # products of centred states lose the fewest digits
        generator = torch.Generator().manual_seed(self.seed)
        seeds = _greedy_seeds(centred, n_clusters, self.n_init, generator)
        labels, centroids = _iterate(centred, centred[seeds])
        inertias = [float((centred - c[own]).double().square().sum()) for own, c in zip(labels, centroids, strict=True)]
        best = int(np.argmin(inertias))
        return Clustering(labels[best], centroids[best] + mean, inertias[best])

    def score_layers(self, states: Tensor, truth: Tensor, n_clusters: int) -> dict[str, list[float]]:
        """{"ari", "nmi", "inertia"}: one number a layer, for states (L+1, N, D) and true groups (N,)."""

        def score(layer: Tensor) -> dict[str, float]:
            found = self.fit(layer, n_clusters)
            return {
                "ari": adjusted_rand_score(truth, found.cluster_labels.cpu()),
                "nmi": normalized_mutual_info_score(truth, found.cluster_labels.cpu()),
                "inertia": found.inertia,
            }

        return _by_layer(score, states)

    def score_layers_within(
        self, states: Tensor, within: Tensor, n_clusters_from: Tensor, truths: Mapping[str, Tensor]
    ) -> dict[str, list[float]]:
        """ARI inside each value of `within`, against every labelling of `truths`: one number a layer and labelling.

        Each value has its own KMeans, with as many clusters as `n_clusters_from` has groups among its states; the mean
        over values is weighted by their states. Values on which a labelling has one group only say nothing about it
        and are left out; with none left the number is NaN.
        """
        members = [(within == value).nonzero().squeeze(1) for value in within.unique()]

        def score(layer: Tensor) -> dict[str, float]:
            total, weight = dict.fromkeys(truths, 0.0), dict.fromkeys(truths, 0)
            for rows in members:
                found = self.fit(layer[rows.to(layer.device)], len(n_clusters_from[rows].unique()))
                for name, truth in truths.items():
                    if len(truth[rows].unique()) > 1:
                        total[name] += len(rows) * adjusted_rand_score(truth[rows], found.cluster_labels.cpu())
                        weight[name] += len(rows)
            return {name: total[name] / weight[name] if weight[name] else float("nan") for name in truths}

        return _by_layer(score, states)


def _greedy_seeds(states: Tensor, n_clusters: int, n_init: int, generator: torch.Generator) -> Tensor:
    """Rows to start from, (R, K): k-means++ (Arthur and Vassilvitskii, 2007), each seed the best of 2 + log K draws."""
    n_draws = 2 + int(np.log(n_clusters))
    norms = states.square().sum(1)

    def squared_distances(rows: Tensor) -> Tensor:
        """(M,) rows -> (M, N)."""
        return torch.addmm(norms, states[rows], states.T, alpha=-2).add_(norms[rows, None]).clamp_(min=0)

    seeds = torch.randint(len(states), (n_init, 1), generator=generator).to(states.device)
    nearest = squared_distances(seeds[:, 0])  # (R, N): to the closest seed so far
    for _ in range(n_clusters - 1):
        mass = nearest.cumsum(1)
        drawn = torch.rand(n_init, n_draws, generator=generator).to(states.device) * mass[:, -1:]
        rows = torch.searchsorted(mass, drawn).clamp_(max=len(states) - 1)
        closer = squared_distances(rows.flatten()).view(n_init, n_draws, -1)
        torch.minimum(closer, nearest[:, None], out=closer)
        best = closer.sum(2).argmin(1)[:, None]  # (R, 1): the draw that leaves the least distance
        seeds = torch.cat([seeds, rows.gather(1, best)], dim=1)
        nearest = closer.take_along_dim(best[:, :, None], 1).squeeze(1)
    return seeds


def _iterate(states: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Lloyd's iterations from centroids (R, K, D), each restart until it converges: labels (R, N), centroids."""
    n_init, n_clusters, _ = centroids.shape
    tolerance = TOLERANCE * states.var(0, correction=0).mean()
    centroids = centroids.clone()
    labels = torch.full((n_init, len(states)), -1, device=states.device)
    active = torch.arange(n_init, device=states.device)
    for _ in range(MAX_ITERATIONS):
        old = centroids[active]  # (R', K, D): those that still move
        assigned = _assign(states, old)
        member = torch.zeros(len(active), n_clusters, len(states), device=states.device, dtype=states.dtype)
        member.scatter_(1, assigned[:, None], 1)
        sizes = member.sum(2, keepdim=True)
        means = (member.flatten(0, 1) @ states).view_as(old) / sizes.clamp(min=1)
        new = torch.where(sizes > 0, means, old)  # an empty cluster keeps its centroid
        moving = (assigned != labels[active]).any(1) & ((new - old).square().sum((1, 2)) > tolerance)
        labels[active], centroids[active] = assigned, new
        active = active[moving]
        if not len(active):
            break
    return torch.cat([_assign(states, c[None]) for c in centroids]), centroids


def _assign(states: Tensor, centroids: Tensor) -> Tensor:
    """The nearest of centroids (R, K, D) for every state, (R, N)."""
    half_norms = centroids.square().sum(2).flatten()[:, None] / 2
    products = torch.addmm(half_norms, centroids.flatten(0, 1), states.T, alpha=-1)
    return products.view(*centroids.shape[:2], len(states)).argmin(1)


def _by_layer(score: Callable[[Tensor], dict[str, float]], states: Tensor) -> dict[str, list[float]]:
    layers = [score(layer) for layer in states]
    return {name: [layer[name] for layer in layers] for name in layers[0]}
