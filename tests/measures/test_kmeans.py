"""KMeans on states whose clusters are known and against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn import cluster
from test_clusterers import CENTRES, NOISE, PLANTED, RANDOM, TASKS, scores_of

from taskcluster.measures.clusterers import kmeans
from taskcluster.measures.clusterers.clusterer import Clusterer
from taskcluster.measures.clusterers.kmeans import KMeans
from taskcluster.measures.clusterers.large_kmeans import LargeKMeans

KMEANS = KMeans(n_clusters=None, n_init=10, seed=0)


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_the_optimum_is_as_good_as_scikit_learns(spread: float) -> None:
    """Overlapping clusters, where restarts differ: mean inertia over seeds, whose own spread is about 0.3 %."""
    states = spread * 20 * CENTRES[TASKS] + NOISE
    ours = np.mean([KMeans(None, 10, seed).fit(states, 20).inertia for seed in range(10)])
    peers = [cluster.KMeans(20, n_init=10, random_state=seed).fit(states.numpy()) for seed in range(10)]
    assert ours < 1.004 * np.mean([peer.inertia_ for peer in peers])


def test_fewer_distinct_states_than_clusters_are_each_a_cluster() -> None:
    found = KMEANS.fit(torch.eye(2, 16).repeat(150, 1), 10)
    assert found.ari(torch.arange(300) % 2) == 1
    assert found.inertia == pytest.approx(0, abs=1e-6)


def test_states_that_do_not_fit_at_once_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    states = CENTRES[TASKS] + NOISE
    whole = KMEANS.fit(states, 12)
    monkeypatch.setattr(kmeans, "MEMORY", 3_000)
    monkeypatch.setattr(kmeans, "LOOKED_UP", 0)
    parts = KMEANS.fit(states, 12)
    assert torch.equal(parts.cluster_labels, whole.cluster_labels)
    assert parts.inertia == pytest.approx(whole.inertia, rel=1e-5)


def hierarchy(ratio: float, width: int, outlier: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Five groups of four subgroups each, `ratio` times as far apart as these, and the subgroup of each of 800 states.

    outlier: what is added to one dimension, as large models have them.
    """
    random = torch.Generator().manual_seed(0)
    groups = torch.randn(5, 1, 1, width, generator=random, dtype=torch.float64) * ratio
    subgroups = torch.randn(5, 4, 1, width, generator=random, dtype=torch.float64)
    states = groups + subgroups + 0.05 * torch.randn(5, 4, 40, width, generator=random, dtype=torch.float64)
    states[..., 0] += outlier * torch.randn(5, 4, 40, generator=random, dtype=torch.float64).sign()
    return states.flatten(0, 2).float(), torch.arange(20).repeat_interleave(40)


@pytest.mark.parametrize(("ratio", "width"), [(1e2, 16), (1e4, 128), (1e5, 768), (1e5, 16)])
@pytest.mark.parametrize("clusterer", [KMeans(None, 4, 0), LargeKMeans(None, 1.0, 0)])
def test_subgroups_are_found_however_far_apart_the_groups_are(clusterer: Clusterer, ratio: float, width: int) -> None:
    states, truth = hierarchy(ratio, width)
    found = clusterer.fit(states, 20)
    assert found.ari(truth) == 1
    peer = cluster.KMeans(20, n_init=4, random_state=0).fit(states.double().numpy())
    assert found.inertia == pytest.approx(peer.inertia_, rel=1e-3)


def test_problems_clustered_together_end_as_they_would_alone() -> None:
    needs_float64 = hierarchy(1e4, 16)[0]
    problems = {3: PLANTED[:90], 8: NOISE[:200], 20: needs_float64}
    together = KMEANS.fit_many([*problems.values()], [*problems])
    for (k, states), found in zip(problems.items(), together, strict=True):
        assert found.inertia == pytest.approx(KMEANS.fit(states, k).inertia, rel=0.02)
        assert (found.centroids.shape, len(found.cluster_labels)) == ((k, 16), len(states))
    assert together[0].ari(TASKS[:90]) == 1


def test_a_dimension_far_beyond_the_others_hides_nothing() -> None:
    states, truth = hierarchy(10, 128, outlier=1e4)
    halves = truth * 2 + (states[:, 0] > 0)
    assert KMeans(None, 8, 0).fit(states, 40).ari(halves) > 0.95


def test_constant_states_score_zero_and_one_state_per_task_scores_one() -> None:
    truth = torch.arange(60) % 6
    assert scores_of(KMEANS, torch.ones(1, 60, 16), truth, 6) == {"ari": [0], "nmi": [0], "inertia": [0]}
    assert scores_of(KMEANS, RANDOM[None, :6], truth[:6], 6)["ari"] == [1]
