"""What a clusterer is, what it finds, and how clusters are scored against known groups.

in:  sets of states (N, D), and the true group of each of the N
out: Clustering: labels, centroids and inertia; of its Clusters the adjusted Rand index (ARI; Hubert and Arabie, 1985)
     and the normalized mutual information (NMI)

An option of the group `clusterer` names one: `taskcluster.measures.kmeans`, `gaussian_mixture`, `agglomerative`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self, cast

import numpy as np
import torch
from torch import Tensor

from taskcluster.measures.agreement import (
    adjusted_rand_index,
    ari_for_fixed_k,
    normalized_mutual_information,
    split_by_part,
)


class Clusters(NamedTuple):
    """What is scored of a clustering: cluster_labels (N,) in 0..K-1, on the CPU, and the inertia.

    Where a state is not finite, the labels mean nothing, and the inertia and all scores are NaN.
    """

    cluster_labels: Tensor
    inertia: float

    def ari(self, truth: Tensor) -> float:
        """The adjusted Rand index against groups (N,)."""
        return math.nan if math.isnan(self.inertia) else adjusted_rand_index(truth, self.cluster_labels)

    def ari_split(self, truth: Tensor, parts: Tensor) -> tuple[float, float]:
        """The ARI within the parts (N,) of groups (N,), and across them; see `split_by_part`."""
        return (math.nan, math.nan) if math.isnan(self.inertia) else split_by_part(truth, parts, self.cluster_labels)

    def ari_for_fixed_k(self, truth: Tensor) -> float:
        """The same, corrected for the number of clusters instead of their sizes."""
        return math.nan if math.isnan(self.inertia) else ari_for_fixed_k(truth, self.cluster_labels)

    def nmi(self, truth: Tensor) -> float:
        """The normalized mutual information with groups (N,)."""
        if math.isnan(self.inertia):
            return math.nan
        return normalized_mutual_information(truth, self.cluster_labels)


class Clustering(NamedTuple):
    """cluster_labels (N,) in 0..K-1, centroids (K, D), inertia: the summed squared distance to the own centroid."""

    cluster_labels: Tensor
    centroids: Tensor
    inertia: float

    @property
    def clusters(self) -> Clusters:
        return Clusters(self.cluster_labels.cpu(), self.inertia)


def read(found: Sequence[Clustering]) -> list[Clusters]:
    """The clusters of each clustering, whose labels come from the device together."""
    labels = torch.cat([own.cluster_labels for own in found]).cpu().split([len(own.cluster_labels) for own in found])
    return [Clusters(of_one.clone(), own.inertia) for of_one, own in zip(labels, found, strict=True)]


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


def refuse_too_many(problems: Sequence[Tensor], n_clusters: Sequence[int]) -> None:
    """Raise ValueError for more clusters than states."""
    for states, k in zip(problems, n_clusters, strict=True):
        if k > len(states):
            raise ValueError(f"n_clusters={k} exceeds the {len(states)} states to cluster; lower it")


def in_unit_scale(states: Tensor) -> np.ndarray | None:
    """States (N, D) around their mean, divided by their root mean square, in float64; None where one is not finite.

    So thresholds of a clusterer that are numbers mean the same in every layer. Constant states are zeros.
    """
    centred = states.detach().cpu().double().numpy()
    if not np.isfinite(centred).all():
        return None
    centred = centred - centred.mean(0)
    size = np.abs(centred).max()
    if size == 0:
        return centred
    centred = centred / size
    scaled: np.ndarray = centred / np.sqrt(np.mean(centred**2))
    return scaled


def of_labels(states: Tensor, cluster_labels: np.ndarray | None, n_clusters: int) -> Clustering:
    """The clustering that labels (N,) make of states (N, D), None for states that are not finite. The centroid of a
    cluster without states is the mean of all."""
    if cluster_labels is None:
        return Clustering(torch.zeros(len(states)).to(states.device).long(), states[:n_clusters], math.nan)
    labels, wide = torch.as_tensor(cluster_labels, dtype=torch.long), states.detach().cpu().double()
    sizes = torch.bincount(labels, minlength=n_clusters)[:, None]
    sums = wide.new_zeros(n_clusters, wide.shape[1]).index_add_(0, labels, wide)
    centroids = torch.where(sizes > 0, sums / sizes.clamp(min=1), wide.mean(0))
    inertia = float((wide - centroids[labels]).square().sum())
    return Clustering(labels.to(states.device), centroids.to(states), inertia)
