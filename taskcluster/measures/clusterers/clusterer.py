"""What a clusterer is, what it returns, and how clusters are scored against known groups.

in:  sets of states (N, D), and the true group of each of the N
out: Clustering: labels, centroids and inertia; of its Clusters the adjusted Rand index (ARI; Hubert and Arabie, 1985)
     and the normalized mutual information (NMI; Strehl and Ghosh, 2002)

An option of the group `clusterer` names one: `kmeans`, `gaussian_mixture`, `agglomerative`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self, cast

import numpy as np
import torch
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from taskcluster.measures.statistics.agreement import adjusted_rand_index


class Clusters(NamedTuple):
    """What is scored of a clustering: cluster_labels (N,) in 0..K-1, on the CPU, and the inertia.

    Where a state is not finite, the labels mean nothing, and the inertia and all scores are NaN.
    """

    cluster_labels: Tensor
    inertia: float

    def score(self, agreement: Callable[[Tensor, Tensor], float], truth: Tensor) -> float:
        """The agreement of groups (N,) and clusters."""
        return math.nan if math.isnan(self.inertia) else float(agreement(truth, self.cluster_labels))

    def ari(self, truth: Tensor) -> float:
        """The adjusted Rand index against groups (N,)."""
        return self.score(adjusted_rand_index, truth)

    def nmi(self, truth: Tensor) -> float:
        """The normalized mutual information with groups (N,)."""
        return self.score(normalized_mutual_info_score, truth)


class Clustering(NamedTuple):
    """cluster_labels (N,) in 0..K-1, centroids (K, D), inertia: the summed squared distance to the nearest centroid."""

    cluster_labels: Tensor
    centroids: Tensor
    inertia: float

    @property
    def clusters(self) -> Clusters:
        return Clusters(self.cluster_labels.cpu(), self.inertia)


class Clusterer(ABC):
    """Something that finds clusters in states, the same from the same settings on every call: a frozen dataclass.

    Attributes:
        n_clusters: k over all tasks; None for the number of tasks.
        seed: of what is random in it, and of what measures draw for it.
    """

    n_clusters: int | None
    seed: int

    @abstractmethod
    def fit_many(self, problems: Sequence[Tensor], n_clusters: Sequence[int]) -> list[Clustering]:
        """Cluster each of several sets of states, (N, D) each, by itself.

        Raises ValueError for more clusters than states.
        """

    def k(self, n_tasks: int) -> int:
        return self.n_clusters or n_tasks

    def fit(self, states: Tensor, n_clusters: int) -> Clustering:
        """Cluster states (N, D). Raises ValueError for more clusters than states."""
        return self.fit_many([states], [n_clusters])[0]

    def seeded(self, seed: int) -> Self:
        """The same with another seed."""
        return cast(Self, replace(cast(Any, self), seed=seed))


class UnitScaleClusterer(Clusterer):
    """A clusterer of arrays, each around its mean and divided by its root mean square, in float64: thresholds that are
    numbers mean the same in every layer."""

    @abstractmethod
    def labels(self, states: np.ndarray, n_clusters: int) -> np.ndarray:
        """The cluster (N,) of each of finite states (N, D), N at least 2."""

    def fit_many(self, problems: Sequence[Tensor], n_clusters: Sequence[int]) -> list[Clustering]:
        refuse_too_many(problems, n_clusters)
        return [self._fit(states, k) for states, k in zip(problems, n_clusters, strict=True)]

    def _fit(self, states: Tensor, n_clusters: int) -> Clustering:
        wide = states.detach().cpu().double()
        if not bool(wide.isfinite().all()):
            return undefined(states, n_clusters)
        scaled = _unit_scale(wide.numpy())
        labels = torch.zeros(1) if len(states) == 1 else torch.as_tensor(self.labels(scaled, n_clusters))
        labels = labels.long()
        sizes = torch.bincount(labels, minlength=n_clusters)[:, None]
        sums = wide.new_zeros(n_clusters, wide.shape[1]).index_add_(0, labels, wide)
        centroids = torch.where(sizes > 0, sums / sizes.clamp(min=1), wide.mean(0))  # of an empty cluster the mean
        inertia = float((wide - centroids[labels]).square().sum())
        return Clustering(labels.to(states.device), centroids.to(states), inertia)


def _unit_scale(states: np.ndarray) -> np.ndarray:
    """States (N, D) around their mean, divided by their root mean square. Constant states are zeros."""
    centred = states - states.mean(0)
    scaled: np.ndarray = centred / (np.sqrt(np.mean(centred**2)) or 1.0)
    return scaled


def undefined(states: Tensor, n_clusters: int) -> Clustering:
    """The clustering of states (N, D) that are not finite."""
    return Clustering(torch.zeros(len(states), dtype=torch.long, device=states.device), states[:n_clusters], math.nan)


def refuse_too_many(problems: Sequence[Tensor], n_clusters: Sequence[int]) -> None:
    """Raise ValueError for more clusters than states."""
    for states, k in zip(problems, n_clusters, strict=True):
        if k > len(states):
            raise ValueError(f"n_clusters={k} exceeds the {len(states)} states to cluster; lower it")
