"""All clusterers, on states whose clusters are known, on degenerate ones, and beside scikit-learn's."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import sklearn.mixture
import torch
from conftest import SMALL
from seen import seen
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from taskcluster.config import RunConfig
from taskcluster.measures.clusterers.clusterer import Clusterer, Clusters
from taskcluster.measures.clusterers.kmeans import KMeans
from taskcluster.measures.clustering import clusters, clusters_within, fit_layers, fit_layers_within
from taskcluster.operations.command_line.cli import composed
from taskcluster.training.experiment import measuring, prepare

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
def test_planted_clusters_are_found_whatever_their_scale(option: str) -> None:
    for scale in (1e-6, 1.0, 1e6):
        scores = scores_of(built(option), PLANTED[None] * scale, TASKS, 10)
        assert scores["ari"] == [1.0]
        assert scores["nmi"] == [pytest.approx(1)]
        parts = [scale * PLANTED[task == TASKS].double() for task in range(10)]
        expected = sum(float((part - part.mean(0)).square().sum()) for part in parts)
        assert scores["inertia"] == [pytest.approx(expected, rel=1e-4)]
    assert abs(scores_of(built(option), PLANTED[None], TASKS[torch.randperm(300)], 10)["ari"][0]) < 0.05


def test_layers_are_scored_as_by_scikit_learn() -> None:
    layers = torch.stack([0.05 * PLANTED + NOISE, PLANTED])
    scores = scores_of(KMeans(None, 2, 0), layers, TASKS, 10)
    for layer, states in enumerate(layers):
        labels = KMeans(None, 2, 0).fit(states, 10).cluster_labels
        assert scores["ari"][layer] == adjusted_rand_score(TASKS, labels)
        assert scores["nmi"][layer] == normalized_mutual_info_score(TASKS, labels)


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


def test_seeds_matter_only_where_something_is_random() -> None:
    ward, mixture = built("agglomerative"), built("gaussian_mixture")
    assert ward.seeded(5) == ward
    labels = [mixture.seeded(seed).fit(NOISE, 20).cluster_labels for seed in (5, 5, 6)]
    assert torch.equal(labels[0], labels[1])
    assert not torch.equal(labels[0], labels[2])


RANDOM = torch.randn(60, 16, generator=torch.Generator().manual_seed(0))
BROKEN = RANDOM.clone()
BROKEN[3, 3] = torch.nan
DEGENERATE = {
    "constant": torch.ones(60, 16),
    "two values": torch.eye(2, 16).repeat(30, 1),
    "tiny": RANDOM * 1e-30,
    "half precision": RANDOM.half(),
    "far from zero": RANDOM + 1e6,
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


@pytest.mark.parametrize("option", OPTIONS[1:])
def test_measures_take_any_of_them(option: str) -> None:
    small = [word for word in SMALL if not word.startswith("clusterer")]
    config = RunConfig.of(composed(*small, f"clusterer={option}", "measures=[clustering,kmeans_noise]"))
    data, network = prepare(config)
    measurement = measuring(config, data)
    journal = measurement(network)
    sd = measurement.controls(network)["ari_kmeans_sd"]
    assert {values[0] == journal[f"ari/val/layer_{layer}"] for layer, values in enumerate(sd)} == {True}


@dataclass(frozen=True)
class Counting(Clusterer):
    """KMeans, with the number of clusters of every problem that it is given."""

    n_clusters: int | None = None
    seed: int = 0
    asked: list[int] = field(default_factory=list, compare=False)

    def fit(self, states: torch.Tensor, n_clusters: int) -> Clusters:
        self.asked.append(n_clusters)
        return KMeans(None, 2, self.seed).fit(states, n_clusters)


def test_measures_share_the_clusters_of_equal_clusterers() -> None:
    labels = {"task": torch.arange(60) % 6, "x": torch.arange(60) // 30}
    observed = seen({"input": RANDOM.repeat(3, 1, 1)}, {"input": labels})
    first, second, other = Counting(), Counting(), Counting(seed=1)
    layers = clusters(observed, "input", first)
    assert clusters(observed, "input", second) is layers
    assert clusters(observed, "input", other) is not layers
    assert len(clusters(observed, "input", second, k=4)) == 3
    assert (first.asked, second.asked, other.asked) == ([6] * 3, [4] * 3, [6] * 3)
    assert clusters_within(observed, "input", first) is clusters_within(observed, "input", second)
    assert first.asked == [6] * 9
    kept = [layer.cluster_labels for layer in layers]  # and no state
    assert sum(labels.untyped_storage().nbytes() for labels in kept) == 8 * 3 * 60
