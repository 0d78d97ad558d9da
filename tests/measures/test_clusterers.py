"""Other clusterers than KMeans: what they find in states whose clusters are known, and that they are scikit-learn's."""

import numpy as np
import pytest
import sklearn.mixture
import torch
from conftest import SMALL
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from taskcluster.cli import composed
from taskcluster.config import RunConfig
from taskcluster.measures.clusterer import Clusterer
from taskcluster.measures.clusters import of_layers, of_layers_within
from taskcluster.training.experiment import measuring, prepare

RNG = np.random.default_rng(0)
TASKS = torch.arange(10).repeat_interleave(30)
CENTRES, NOISE = (torch.from_numpy(RNG.normal(size=size).astype(np.float32)) for size in ((10, 16), (300, 16)))
PLANTED = 20 * CENTRES[TASKS] + NOISE
OPTIONS = ("kmeans", "large_kmeans", "gaussian_mixture", "agglomerative")


def built(option: str, *overrides: str) -> Clusterer:
    kind: type[Clusterer] = Clusterer  # type: ignore[type-abstract]
    return RunConfig.of(composed(f"clusterer={option}", *overrides)).clusterer.build(kind)


def scores_of(option: str, states: torch.Tensor, truth: torch.Tensor, k: int) -> dict[str, list[float]]:
    found = of_layers(states, built(option), k)
    numbers = ((own.ari(truth), own.nmi(truth), own.inertia) for own in found)
    return dict(zip(("ari", "nmi", "inertia"), map(list, zip(*numbers, strict=True)), strict=True))


@pytest.mark.parametrize("option", OPTIONS)
def test_planted_clusters_are_found_whatever_their_scale(option: str) -> None:
    for scale in (1e-6, 1.0, 1e6):
        scores = scores_of(option, PLANTED[None] * scale, TASKS, 10)
        assert scores["ari"] == [1.0]
        own = [scale * PLANTED[task == TASKS].double() for task in range(10)]
        expected = sum(float((s - s.mean(0)).square().sum()) for s in own)
        assert scores["inertia"] == [pytest.approx(expected, rel=1e-4)]


@pytest.mark.parametrize("option", OPTIONS)
def test_clusters_inside_each_x_are_found_where_x_itself_dominates(option: str) -> None:
    x = torch.arange(3).repeat(100)
    by_x = PLANTED + 1_000 * torch.eye(16)[x]
    (found,) = of_layers_within(by_x[None], built(option), x, TASKS)
    assert found.ari(TASKS) == 1


@pytest.mark.parametrize("option", OPTIONS)
def test_more_clusters_than_states_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match="n_clusters=301 exceeds the 300 states"):
        built(option).fit(PLANTED, 301)


@pytest.mark.parametrize("linkage", ["ward", "average", "complete", "single"])
def test_agglomerative_clusters_are_scikit_learns(linkage: str) -> None:
    states = 2 * CENTRES[TASKS] + NOISE
    peer = AgglomerativeClustering(12, linkage=linkage).fit(states.double())
    found = built("agglomerative", f"clusterer.linkage={linkage}").fit(states, 12)
    assert adjusted_rand_score(peer.labels_, found.cluster_labels) == 1


@pytest.mark.parametrize("covariance", ["spherical", "diag", "tied", "full"])
def test_a_mixture_is_scikit_learns_on_states_of_unit_scale(covariance: str) -> None:
    states = 2 * CENTRES[TASKS] + NOISE
    scaled = (states - states.mean(0)).double()
    scaled = scaled / scaled.square().mean().sqrt()
    peer = sklearn.mixture.GaussianMixture(8, covariance_type=covariance, reg_covar=0.01, random_state=3)
    found = built("gaussian_mixture", f"clusterer.covariance={covariance}", "seeds.kmeans=3").fit(states, 8)
    assert adjusted_rand_score(peer.fit_predict(scaled), found.cluster_labels) == 1


def test_seeds_matter_only_where_something_is_random() -> None:
    ward, mixture = built("agglomerative"), built("gaussian_mixture")
    assert ward.seeded(5) == ward
    labels = [mixture.seeded(seed).fit(NOISE, 20).cluster_labels for seed in (5, 5, 6)]
    assert torch.equal(labels[0], labels[1])
    assert not torch.equal(labels[0], labels[2])


RANDOM = torch.randn(60, 16, generator=torch.Generator().manual_seed(0))
BROKEN = RANDOM.clone()
BROKEN[3, 3] = torch.nan


@pytest.mark.parametrize("option", OPTIONS[1:])
@pytest.mark.parametrize("n_clusters", [1, 6, 60])
@pytest.mark.parametrize("states", [torch.ones(60, 16), torch.eye(2, 16).repeat(30, 1), RANDOM * 1e-30, RANDOM.half()])
def test_degenerate_states_have_defined_numbers(option: str, n_clusters: int, states: torch.Tensor) -> None:
    truth = torch.arange(60) % 6
    scores = scores_of(option, states[None], truth, n_clusters)
    assert all(np.isfinite(values).all() for values in scores.values())
    one = scores_of(option, states[None, :1], truth[:1], 1)
    assert (one["ari"], one["inertia"]) == ([1], [0])


@pytest.mark.parametrize("option", OPTIONS[1:])
def test_states_that_are_not_finite_have_no_score_and_spoil_no_others(option: str) -> None:
    scores = scores_of(option, torch.stack([RANDOM, BROKEN]), torch.arange(60) % 6, 6)
    assert {tuple(np.isnan(values)) for values in scores.values()} == {(False, True)}


@pytest.mark.parametrize("option", OPTIONS[1:])
def test_measures_take_any_of_them(option: str) -> None:
    small = [word for word in SMALL if not word.startswith("clusterer")]
    config = RunConfig.of(composed(*small, f"clusterer={option}"))
    data, network = prepare(config)
    measurement = measuring(config, data)
    journal = measurement(network)
    assert -0.5 <= journal["ari/val/layer_2"] <= 1
    sd = measurement.controls(network)["ari_kmeans_sd"]
    assert {values[0] == journal[f"ari/val/layer_{layer}"] for layer, values in enumerate(sd)} == {True}
