"""KMeans and its scores, on states whose clusters are known and against scikit-learn's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import cluster
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from taskcluster.measures import kmeans
from taskcluster.measures.clusterer import adjusted_rand_index
from taskcluster.measures.clusters import of_layers, of_layers_within
from taskcluster.measures.kmeans import KMeans

RNG = np.random.default_rng(0)
TASKS = torch.arange(10).repeat_interleave(30)
CENTRES, NOISE = (torch.from_numpy(RNG.normal(size=size).astype(np.float32)) for size in ((10, 16), (300, 16)))
PLANTED = 20 * CENTRES[TASKS] + NOISE
KMEANS = KMeans(n_clusters=None, n_init=10, seed=0)


def shuffled(labels: torch.Tensor) -> torch.Tensor:
    return labels[torch.from_numpy(RNG.permutation(len(labels)))]


def scores_of(kmeans: KMeans, states: torch.Tensor, truth: torch.Tensor, k: int) -> dict[str, list[float]]:
    found = of_layers(states, kmeans, k)
    return {
        "ari": [own.ari(truth) for own in found],
        "nmi": [own.nmi(truth) for own in found],
        "inertia": [own.inertia for own in found],
    }


def test_planted_clusters_are_found() -> None:
    scores = scores_of(KMEANS, PLANTED[None], TASKS, 10)
    assert scores["ari"] == [1.0]
    assert scores["nmi"] == [pytest.approx(1.0)]
    own = [PLANTED[task == TASKS] for task in range(10)]
    assert scores["inertia"] == [pytest.approx(sum(float((s - s.mean(0)).square().sum()) for s in own), rel=1e-4)]


def test_shuffled_labels_score_about_zero() -> None:
    scores = scores_of(KMEANS, PLANTED[None], shuffled(TASKS), 10)
    assert abs(scores["ari"][0]) < 0.03


def test_a_clustering_is_its_labels_centroids_and_inertia() -> None:
    found = KMEANS.fit(PLANTED + 100, 7)
    distances = torch.cdist(PLANTED.double() + 100, found.centroids.double())
    assert torch.equal(distances.argmin(1), found.cluster_labels)
    assert found.inertia == pytest.approx(float(distances.min(1).values.square().sum()), rel=1e-4)
    for k in range(7):
        mean = (PLANTED + 100)[found.cluster_labels == k].mean(0)
        torch.testing.assert_close(found.centroids[k], mean, rtol=0, atol=0.05)  # within the tolerance of a step


def test_every_layer_is_scored_as_scikit_learn_scores_its_labels() -> None:
    layers = torch.stack([0.05 * PLANTED + NOISE, PLANTED])
    scores = scores_of(KMEANS, layers, TASKS, 10)
    for layer, states in enumerate(layers):
        labels = KMEANS.fit(states, 10).cluster_labels
        assert scores["ari"][layer] == adjusted_rand_score(TASKS, labels)
        assert scores["nmi"][layer] == normalized_mutual_info_score(TASKS, labels)


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_the_optimum_is_as_good_as_scikit_learns(spread: float) -> None:
    """Overlapping clusters, where restarts differ: mean inertia over seeds, whose own spread is about 0.3 %."""
    states = spread * 20 * CENTRES[TASKS] + NOISE
    ours = np.mean([KMeans(None, 10, seed).fit(states, 20).inertia for seed in range(10)])
    peers = [cluster.KMeans(20, n_init=10, random_state=seed).fit(states.numpy()) for seed in range(10)]
    theirs = np.mean([peer.inertia_ for peer in peers])
    assert ours < 1.004 * theirs


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_start() -> None:
    first, again, other = (KMeans(None, 1, seed).fit(NOISE, 20) for seed in (0, 0, 1))
    assert torch.equal(first.cluster_labels, again.cluster_labels)
    assert torch.equal(first.centroids, again.centroids)
    assert first.inertia != other.inertia


def test_fewer_distinct_states_than_clusters_are_no_trouble() -> None:
    two = torch.zeros(300, 16)
    two[:30] = 1
    found = KMEANS.fit(two, 10)
    assert adjusted_rand_score(two[:, 0], found.cluster_labels) == 1
    assert found.inertia == pytest.approx(0, abs=1e-6)


def test_clusters_inside_each_x_are_found_where_x_itself_dominates() -> None:
    x = torch.arange(3).repeat(100)
    y = TASKS % 2
    by_x = PLANTED + 1_000 * torch.eye(16)[x]
    assert scores_of(KMEANS, by_x[None], TASKS, 10)["ari"][0] < 0.5
    (found,) = of_layers_within(by_x[None], KMEANS, x, TASKS)
    assert found.ari(TASKS) == 1
    against_y = [adjusted_rand_score(y[x == value], TASKS[x == value]) for value in range(3)]
    assert found.ari(y) == pytest.approx(np.mean(against_y))  # each x has 100 states


def test_the_mean_over_x_is_weighted_by_states() -> None:
    x = (torch.arange(300) >= 240).long()  # 240 states of tasks 0 to 7, whose labels are kept; 60 whose are shuffled
    labels = torch.cat([TASKS[:240], shuffled(TASKS[240:])])
    alone = adjusted_rand_score(labels[240:], TASKS[240:])
    (found,) = of_layers_within(PLANTED[None], KMEANS, x, TASKS)
    assert found.ari(labels) == pytest.approx(0.8 * 1 + 0.2 * alone)


def test_values_of_x_with_one_group_say_nothing() -> None:
    x = (TASKS < 9).long()  # task 9 has a value of x to itself
    (found,) = of_layers_within(PLANTED[None], KMEANS, x, TASKS)
    assert found.ari(TASKS) == 1
    assert np.isnan(found.ari(TASKS * 0))


def test_more_clusters_than_states_are_refused() -> None:
    with pytest.raises(ValueError, match="n_clusters=301 exceeds the 300 states"):
        KMEANS.fit(PLANTED, 301)


def test_problems_clustered_together_end_as_they_would_alone() -> None:
    problems = [PLANTED[:90], NOISE[:200], PLANTED[100:290]]
    together = KMEANS.fit_many(problems, [3, 8, 7])
    for states, k, found in zip(problems, [3, 8, 7], together, strict=True):
        alone = KMEANS.fit(states, k)
        assert found.inertia == pytest.approx(alone.inertia, rel=0.02)
        assert found.centroids.shape == (k, 16)
        assert len(found.cluster_labels) == len(states)
    assert adjusted_rand_index(TASKS[:90], together[0].cluster_labels) == 1


def test_states_that_do_not_fit_at_once_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    states = 0.05 * 20 * CENTRES[TASKS] + NOISE
    whole = KMEANS.fit(states, 12)
    monkeypatch.setattr(kmeans, "MEMORY", 3_000)
    monkeypatch.setattr(kmeans, "LOOKED_UP", 0)
    parts = KMEANS.fit(states, 12)
    assert torch.equal(parts.cluster_labels, whole.cluster_labels)
    assert parts.inertia == pytest.approx(whole.inertia, rel=1e-5)


@settings(max_examples=200, deadline=None)
@given(labels=st.lists(st.tuples(st.integers(-3, 9), st.integers(0, 5)), min_size=1, max_size=80))
def test_the_adjusted_rand_index_is_scikit_learns(labels: list[tuple[int, int]]) -> None:
    truth, found = torch.tensor(labels).T
    assert adjusted_rand_index(truth, found) == adjusted_rand_score(truth, found)


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


@pytest.mark.parametrize("ratio", [1e2, 1e4, 1e5])
@pytest.mark.parametrize("width", [16, 128, 768])
def test_subgroups_are_found_however_far_apart_the_groups_are(ratio: float, width: int) -> None:
    states, truth = hierarchy(ratio, width)
    found = KMeans(None, 4, 0).fit(states, 20)
    assert found.clusters.ari(truth) == 1
    peer = cluster.KMeans(20, n_init=4, random_state=0).fit(states.double().numpy())
    assert found.inertia == pytest.approx(peer.inertia_, rel=1e-3)


def test_a_problem_that_needs_float64_leaves_the_others_as_they_are() -> None:
    plain, wide = hierarchy(10, 16)[0], hierarchy(1e4, 16)[0]
    alone, (beside, _) = KMeans(None, 4, 0).fit(plain, 20), KMeans(None, 4, 0).fit_many([plain, wide], [20, 20])
    assert torch.equal(alone.centroids, beside.centroids)
    assert alone.inertia == pytest.approx(beside.inertia, rel=1e-12)  # threads may add in another order


def test_a_dimension_far_beyond_the_others_hides_nothing() -> None:
    states, truth = hierarchy(10, 128, outlier=1e4)
    halves = truth * 2 + (states[:, 0] > 0)
    assert KMeans(None, 8, 0).fit(states, 40).clusters.ari(halves) > 0.95


RANDOM = torch.randn(60, 16, generator=torch.Generator().manual_seed(0))
DEGENERATE = {
    "constant": torch.ones(60, 16),
    "two values": torch.eye(2, 16).repeat(30, 1),
    "tiny": RANDOM * 1e-30,
    "huge": RANDOM * 1e30,
    "half precision": RANDOM.half(),
    "brain float": RANDOM.bfloat16(),
    "far from zero": RANDOM + 1e6,
}


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("n_clusters", [1, 6, 60])
def test_degenerate_states_have_defined_numbers(kind: str, n_clusters: int) -> None:
    states, truth = DEGENERATE[kind], torch.arange(60) % 6
    scores = scores_of(KMeans(None, 3, 0), states[None], truth, n_clusters)
    assert all(np.isfinite(values).all() for values in scores.values())
    assert scores["inertia"][0] >= 0
    (within,) = of_layers_within(states[None], KMeans(None, 3, 0), torch.arange(60) // 30, truth)
    assert np.isfinite(within.ari(truth))


def test_constant_states_say_nothing_and_one_state_a_task_says_it_all() -> None:
    truth = torch.arange(60) % 6
    assert scores_of(KMeans(None, 3, 0), torch.ones(1, 60, 16), truth, 6) == {"ari": [0], "nmi": [0], "inertia": [0]}
    assert scores_of(KMeans(None, 3, 0), RANDOM[None, :6], truth[:6], 6)["ari"] == [1]
    one = scores_of(KMeans(None, 3, 0), RANDOM[None, :1], truth[:1], 1)
    assert (one["ari"], one["inertia"]) == ([1], [0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_states_that_are_not_finite_have_no_score_and_spoil_no_others(value: float) -> None:
    broken = RANDOM.clone()
    broken[3, 3] = value
    truth = torch.arange(60) % 6
    scores = scores_of(KMeans(None, 3, 0), torch.stack([RANDOM, broken]), truth, 6)
    for values in scores.values():
        assert np.isfinite(values[0])
        assert np.isnan(values[1])
    assert scores["ari"][0] == scores_of(KMeans(None, 3, 0), RANDOM[None], truth, 6)["ari"][0]
