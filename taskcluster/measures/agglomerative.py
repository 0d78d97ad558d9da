"""Agglomerative clustering: states joined bottom-up, without a random start. scikit-learn's, on float64.

in:  problems, each states (N, D), and the number of clusters of each
out: a Clustering of each
"""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor

from taskcluster.measures.clusterer import Clusterer, Clustering, in_unit_scale, of_labels, refuse_too_many
from taskcluster.validation import Seed


@dataclass(frozen=True, config=ConfigDict(strict=True))
class Agglomerative(Clusterer):
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

    def fit_many(self, problems: Sequence[Tensor], n_clusters: Sequence[int]) -> list[Clustering]:
        refuse_too_many(problems, n_clusters)
        return [self._fit(states, k) for states, k in zip(problems, n_clusters, strict=True)]

    def seeded(self, seed: int) -> Self:
        """Itself: another seed finds the same clusters."""
        return self

    def _fit(self, states: Tensor, n_clusters: int) -> Clustering:
        scaled = in_unit_scale(states)
        if scaled is None or len(states) == 1:
            return of_labels(states, None if scaled is None else scaled[:, 0] * 0, n_clusters)
        found = AgglomerativeClustering(n_clusters, linkage=self.linkage).fit(scaled)
        return of_labels(states, found.labels_, n_clusters)
