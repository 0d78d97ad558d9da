"""Agglomerative clustering: states joined bottom-up, without a random start. scikit-learn's, on float64.

in:  problems, each states (N, D), and the number of clusters of each
out: a Clustering of each
"""

from typing import Literal, Self

import numpy as np
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass
from sklearn.cluster import AgglomerativeClustering

from taskcluster.measures.clusterers.clusterer import UnitScaleClusterer
from taskcluster.validation import Seed


@dataclass(frozen=True, config=ConfigDict(strict=True))
class Agglomerative(UnitScaleClusterer):
    """Hierarchical clustering (Ward, "Hierarchical Grouping to Optimize an Objective Function", 1963), cut at k.

    Attributes:
        n_clusters: k over all tasks; None for the number of tasks.
        linkage: "ward" joins the two clusters whose union adds the least inertia; "average", "complete" and "single"
            those whose mean, largest or smallest distance between states is the least.
        seed: of what measures draw. Nothing is random in the clustering.
    """

    n_clusters: PositiveInt | None
    linkage: Literal["ward", "average", "complete", "single"]
    seed: Seed

    def labels(self, states: np.ndarray, n_clusters: int) -> np.ndarray:
        labels: np.ndarray = AgglomerativeClustering(n_clusters, linkage=self.linkage).fit(states).labels_
        return labels

    def seeded(self, seed: int) -> Self:
        """Itself: another seed finds the same clusters."""
        return self
