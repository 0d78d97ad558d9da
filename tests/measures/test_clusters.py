"""Clusters that several measures read: each clustering is computed once for an observation."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from seen import seen

from taskcluster.measures.clusterer import Clusterer, Clustering
from taskcluster.measures.clusters import clusters, clusters_within
from taskcluster.measures.kmeans import KMeans
from taskcluster.measures.observation import Observation

TASKS, X = torch.arange(60) % 6, torch.arange(60) // 30
STATES = torch.randn(3, 60, 4, generator=torch.Generator().manual_seed(0)) + 20 * torch.eye(6, 4)[TASKS]


@dataclass(frozen=True)
class Counting(Clusterer):
    """KMeans, with the number of clusters of every problem that it is given."""

    n_clusters: int | None = None
    seed: int = 0
    asked: list[int] = field(default_factory=list, compare=False)

    def fit_many(self, problems: Sequence[torch.Tensor], n_clusters: Sequence[int]) -> list[Clustering]:
        self.asked.extend(n_clusters)
        return KMeans(None, 2, self.seed).fit_many(problems, n_clusters)


@pytest.fixture
def observed() -> Observation:
    return seen({"input": STATES}, {"input": {"task": TASKS, "x": X, "y": TASKS % 2}})


def test_equal_clusterers_share_what_is_computed(observed: Observation) -> None:
    first, second, other = Counting(), Counting(), Counting(seed=1)
    found = clusters(observed, "input", first)
    assert clusters(observed, "input", second) is found
    assert clusters(observed, "input", second, k=6) is found
    assert (first.asked, second.asked) == ([6] * 3, [])
    assert clusters(observed, "input", other) is not found
    assert len(clusters(observed, "input", second, k=4)) == 3
    assert (other.asked, second.asked) == ([6] * 3, [4] * 3)


def test_those_within_a_label_are_shared_by_label(observed: Observation) -> None:
    kmeans = Counting()
    by_x = clusters_within(observed, "input", kmeans)
    assert clusters_within(observed, "input", kmeans) is by_x
    assert kmeans.asked == [6] * 6
    assert clusters_within(observed, "input", kmeans, "y") is not by_x
    assert kmeans.asked == [6] * 6 + [3] * 6


def test_no_state_is_kept(observed: Observation) -> None:
    clusters(observed, "input", Counting())
    clusters_within(observed, "input", Counting())
    (over_all, within) = observed.kept.values()
    held = [own.cluster_labels for own in over_all] + [own.cluster_labels for of in within for own in of.parts]
    storages = {labels.untyped_storage().data_ptr(): labels.untyped_storage().nbytes() for labels in held}
    assert sum(labels.numel() for labels in held) == 2 * 3 * 60
    assert sum(storages.values()) == 8 * 2 * 3 * 60
