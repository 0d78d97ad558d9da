"""All clusterers, on states whose clusters are known, on degenerate ones, and beside scikit-learn's."""

import numpy as np
import pytest
import sklearn.mixture
import torch
from seen import seen
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from taskcluster.config import RunConfig
from taskcluster.measures.clusterers.clusterer import Clusterer
from taskcluster.measures.clusterers.kmeans import KMeans
from taskcluster.measures.clustering import clusters, clusters_within, fit_layers, fit_layers_within
from taskcluster.operations.command_line.cli import composed

RNG = np.random.default_rng(0)
TASKS = torch.arange(10).repeat_interleave(30)
CENTRES, NOISE = (torch.from_numpy(RNG.normal(size=size).astype(np.float32)) for size in ((10, 16), (300, 16)))
PLANTED = 20 * CENTRES[TASKS] + NOISE
OPTIONS = ("kmeans", "large_kmeans", "gaussian_mixture", "agglomerative")


def built(option: str, *overrides: str) -> Clusterer:
    kind: type[Clusterer] = Clusterer  # type: ignore[type-abstract]
    return RunConfig.of(composed(f"clusterer={option}", *overrides)).clusterer.build(kind)


def scores_of(clusterer: Clusterer, states: torch.Tensor, truth: torch.Tensor, k: int) -> dict[str, list[float]]:
    layers = fit_layers(states, clusterer, k)
    numbers = ((layer.ari(truth), layer.score(normalized_mutual_info_score, truth), layer.inertia) for layer in layers)
    return dict(zip(("ari", "nmi", "inertia"), map(list, zip(*numbers, strict=True)), strict=True))


@pytest.mark.parametrize("option", OPTIONS)
def test_planted_clusters_are_recovered_at_any_scale(option: str) -> None:
    for scale in (1e-6, 1.0, 1e6):
        scores = scores_of(built(option), PLANTED[None] * scale, TASKS, 10)
        assert scores["ari"] == [1.0]
        assert scores["nmi"] == [pytest.approx(1)]
        parts = [scale * PLANTED[task == TASKS].double() for task in range(10)]
        expected = sum(float((part - part.mean(0)).square().sum()) for part in parts)
        assert scores["inertia"] == [pytest.approx(expected, rel=1e-4)]
    assert abs(scores_of(built(option), PLANTED[None], TASKS[torch.randperm(300)], 10)["ari"][0]) < 0.05


@pytest.mark.parametrize("option", OPTIONS)
def test_clusters_inside_each_x_are_found_where_x_itself_dominates(option: str) -> None:
    x, y = torch.arange(3).repeat(100), TASKS % 2
    by_x = PLANTED + 1_000 * torch.eye(16)[x]
    (within,) = fit_layers_within(by_x[None], built(option), x, TASKS)
    assert within.ari(TASKS) == 1
    against_y = [adjusted_rand_score(y[x == value], TASKS[x == value]) for value in range(3)]
    assert within.ari(y) == pytest.approx(np.mean(against_y))  # each x has 100 states


def test_the_mean_over_x_is_weighted_by_states_and_leaves_out_values_with_one_group() -> None:
    x = (torch.arange(300) >= 240).long()  # 240 states of tasks 0 to 7, whose labels are kept; 60 whose are shuffled
    labels = torch.cat([TASKS[:240], TASKS[240:][torch.from_numpy(RNG.permutation(60))]])
    alone = adjusted_rand_score(labels[240:], TASKS[240:])
    (within,) = fit_layers_within(PLANTED[None], KMeans(None, 10, 0), x, TASKS)
    assert within.ari(labels) == pytest.approx(0.8 * 1 + 0.2 * alone)
    (within,) = fit_layers_within(PLANTED[None], KMeans(None, 10, 0), (TASKS < 9).long(), TASKS)  # an x of its own
    assert within.ari(TASKS) == 1
    assert np.isnan(within.ari(TASKS * 0))


@pytest.mark.parametrize("linkage", ["ward", "average", "complete", "single"])
def test_agglomerative_clusters_are_scikit_learns(linkage: str) -> None:
    states = 2 * CENTRES[TASKS] + NOISE
    peer = AgglomerativeClustering(12, linkage=linkage).fit(states.double())
    ours = built("agglomerative", f"clusterer.linkage={linkage}").fit(states, 12)
    assert adjusted_rand_score(peer.labels_, ours.cluster_labels) == 1


@pytest.mark.parametrize("covariance", ["spherical", "diag", "tied", "full"])
def test_a_mixture_is_scikit_learns_on_states_of_unit_scale(covariance: str) -> None:
    states = 2 * CENTRES[TASKS] + NOISE
    scaled = (states - states.mean(0)).double()
    scaled = scaled / scaled.square().mean().sqrt()
    peer = sklearn.mixture.GaussianMixture(8, covariance_type=covariance, reg_covar=0.01, random_state=3)
    ours = built("gaussian_mixture", f"clusterer.covariance={covariance}", "seeds.kmeans=3").fit(states, 8)
    assert adjusted_rand_score(peer.fit_predict(scaled), ours.cluster_labels) == 1


@pytest.mark.parametrize("option", OPTIONS[:3])
def test_the_same_seed_gives_the_same_bits_and_another_seed_another_start(option: str) -> None:
    first, beside, other = (
        built(option).seeded(seed).fit_many([PLANTED[:90], NOISE], [3, 20])[1] for seed in (5, 5, 6)
    )
    assert torch.equal(first.cluster_labels, beside.cluster_labels)
    assert torch.equal(first.centroids, beside.centroids)
    assert first.inertia == beside.inertia != other.inertia


def test_agglomerative_clusters_are_the_same_for_all_seeds() -> None:
    assert built("agglomerative").seeded(5) == built("agglomerative")


@pytest.mark.parametrize("option", OPTIONS[:2])
@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_every_state_is_in_the_nearest_cluster_and_centroids_are_means(option: str, spread: float) -> None:
    states = 50 + CENTRES[TASKS] + spread * NOISE
    found = built(option).fit(states, 12)
    distances = torch.cdist(states.double(), found.centroids.double())
    assert torch.equal(distances.argmin(1), found.cluster_labels)
    assert found.inertia == pytest.approx(float(distances.min(1).values.square().sum()), rel=1e-4)
    means = torch.stack([states[found.cluster_labels == k].mean(0) for k in range(12)])
    torch.testing.assert_close(found.centroids, means, rtol=0, atol=0.1)  # within the tolerance of a step


RANDOM = torch.randn(60, 16, generator=torch.Generator().manual_seed(0))
BROKEN = RANDOM.clone()
BROKEN[3, 3] = torch.nan
DEGENERATE = {
    "constant": torch.ones(60, 16),
    "two values": torch.eye(2, 16).repeat(30, 1),
    "tiny": RANDOM * 1e-30,
    "half precision": RANDOM.half(),
    "far from zero": RANDOM + 1e6,
    "huge": RANDOM * 1e30,
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_states_have_defined_numbers(option: str, kind: str) -> None:
    clusterer, states, truth = built(option), DEGENERATE[kind], torch.arange(60) % 6
    for k in (1, 6, 60):
        scores = scores_of(clusterer, states[None], truth, k)
        assert all(np.isfinite(values).all() for values in scores.values())
    one = scores_of(clusterer, states[None, :1], truth[:1], 1)
    assert (one["ari"], one["inertia"]) == ([1], [0])
    (within,) = fit_layers_within(states[None], clusterer, torch.arange(60) // 30, truth)
    assert np.isfinite(within.ari(truth))


@pytest.mark.parametrize("option", OPTIONS)
def test_states_that_are_not_finite_have_no_score_and_spoil_no_others(option: str) -> None:
    scores = scores_of(built(option), torch.stack([RANDOM, BROKEN]), torch.arange(60) % 6, 6)
    assert {tuple(np.isnan(values)) for values in scores.values()} == {(False, True)}


def test_measures_share_the_clusters_of_equal_clusterers() -> None:
    labels = {"task": torch.arange(60) % 6, "x": torch.arange(60) // 30}
    observed = seen({"input": RANDOM.repeat(3, 1, 1)}, {"input": labels})
    first, same, other = KMeans(None, 2, 0), KMeans(None, 2, 0), KMeans(None, 2, 1)
    layers = clusters(observed, "input", first)
    assert clusters(observed, "input", same, k=6) is layers
    assert clusters(observed, "input", same, k=4) is not layers
    assert clusters(observed, "input", other) is not layers
    assert clusters_within(observed, "input", first) is clusters_within(observed, "input", same)
    kept = [values for layer in layers for values in (layer.cluster_labels, layer.centroids)]  # and no state
    assert sum(values.untyped_storage().nbytes() for values in kept) == 8 * 3 * 60
