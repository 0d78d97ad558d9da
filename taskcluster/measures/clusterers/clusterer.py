"""What a clusterer is, what it returns, and how clusters are scored against known groups.

in:  sets of states (N, D), and the true group of each of the N
out: Clusters: labels, centroids and inertia, and its agreement with groups, such as the adjusted Rand index (ARI;
     Hubert and Arabie, 1985)

An option of the group `clusterer` names one: `kmeans`, `large_kmeans`, `gaussian_mixture`, `agglomerative`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor

from taskcluster.measures.statistics.agreement import adjusted_rand_index
from taskcluster.work import each


class Clusters(NamedTuple):
    """cluster_labels (N,) in 0..K-1, centroids (K, D), inertia: the summed squared distance to the nearest centroid.

    Where a state is not finite, the labels mean nothing, and the inertia and all scores are NaN.
    """

    cluster_labels: Tensor
    centroids: Tensor
    inertia: float

    def score(self, agreement: Callable[[Tensor, Tensor], float], truth: Tensor) -> float:
        """The agreement of groups (N,) and clusters."""
        return math.nan if math.isnan(self.inertia) else float(agreement(truth, self.cluster_labels.cpu()))

    def ari(self, truth: Tensor) -> float:
        return self.score(adjusted_rand_index, truth)


class Clusterer(ABC):
    """A method that clusters states, deterministic given its settings: a frozen dataclass.

    Attributes:
        n_clusters: k over all tasks; None for the number of tasks.
        seed: seed of its randomness, and of what measures draw for it.
    """

    n_clusters: int | None
    seed: int

    @abstractmethod
    def fit(self, states: Tensor, n_clusters: int) -> Clusters:
        """Cluster states (N, D) into N clusters at most."""

    def fit_many(self, problems: Sequence[Tensor], n_clusters: Sequence[int]) -> list[Clusters]:
        """Cluster each of several sets of states separately."""
        return [self.fit(*problem) for problem in each([*zip(problems, n_clusters, strict=True)])]

    def k(self, n_tasks: int) -> int:
        return self.n_clusters or n_tasks

    def seeded(self, seed: int) -> Self:
        """Return a copy with another seed."""
        return cast(Self, replace(cast(Any, self), seed=seed))


def undefined(states: Tensor, n_clusters: int) -> Clusters:
    """The clustering of states (N, D) that are not finite."""
    return Clusters(torch.zeros(len(states), dtype=torch.long, device=states.device), states[:n_clusters], math.nan)
