"""KMeans and its scores on states whose clusters are known."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from taskcluster.clustering import Clusterer

RNG = np.random.default_rng(0)
TASKS = np.repeat(np.arange(10), 30)
PLANTED = (RNG.normal(size=(10, 16))[TASKS] * 20 + RNG.normal(size=(300, 16))).astype(np.float32)
CLUSTERER = Clusterer(n_init=5, seed=0)


def test_planted_clusters_are_found() -> None:
    scores = CLUSTERER.score_layers(PLANTED[None], TASKS, 10)
    assert scores["ari"] == [1.0]
    assert scores["nmi"] == [pytest.approx(1.0)]
    within = sum(((PLANTED[TASKS == t] - PLANTED[TASKS == t].mean(0)) ** 2).sum() for t in range(10))
    assert scores["inertia"] == [pytest.approx(within, rel=1e-4)]


def test_shuffled_labels_score_about_zero() -> None:
    scores = CLUSTERER.score_layers(PLANTED[None], RNG.permutation(TASKS), 10)
    assert abs(scores["ari"][0]) < 0.03


def test_layers_are_scored_one_by_one_as_scikit_learn_would() -> None:
    layers = np.stack([PLANTED * 0, RNG.normal(size=PLANTED.shape), PLANTED]).astype(np.float32)
    layers[0, 0] = 1  # two distinct states: fewer than clusters
    scores = CLUSTERER.score_layers(layers, TASKS, 10)
    for layer in (1, 2):
        labels = KMeans(10, n_init=5, random_state=0).fit(layers[layer]).labels_
        assert scores["ari"][layer] == adjusted_rand_score(TASKS, labels)
        assert scores["nmi"][layer] == normalized_mutual_info_score(TASKS, labels)
    assert scores["ari"][0] == pytest.approx(0, abs=0.01)


def test_the_same_seed_gives_the_same_bits() -> None:
    noise = RNG.normal(size=(3, 300, 16)).astype(np.float32)
    assert CLUSTERER.score_layers(noise, TASKS, 10) == CLUSTERER.score_layers(noise, TASKS, 10)


def test_clusters_inside_each_x_are_found_where_x_itself_dominates() -> None:
    x = np.tile(np.arange(3), 100)
    by_x = PLANTED + 1_000 * np.eye(16, dtype=np.float32)[x]
    y = TASKS % 2
    assert CLUSTERER.score_layers(by_x[None], TASKS, 10)["ari"][0] < 0.5
    scores = CLUSTERER.score_layers_within(by_x[None], x, n_clusters_from=TASKS, truths={"task": TASKS, "y": y})
    assert scores["task"] == [1.0]
    expected = np.average(
        [adjusted_rand_score(y[x == v], TASKS[x == v]) for v in range(3)], weights=[(x == v).sum() for v in range(3)]
    )
    assert scores["y"] == [pytest.approx(expected)]


def test_values_of_x_with_one_task_say_nothing() -> None:
    x = (TASKS < 1).astype(int)  # one value of x belongs to a single task
    scores = CLUSTERER.score_layers_within(
        PLANTED[None], x, n_clusters_from=TASKS, truths={"task": RNG.permutation(TASKS), "constant": TASKS * 0}
    )
    assert np.isnan(scores["constant"][0])
    alone = CLUSTERER.score_layers_within(PLANTED[None, :30], x[:30], TASKS[:30], {"task": TASKS[:30]})
    assert np.isnan(alone["task"][0])


def test_more_clusters_than_states_are_refused() -> None:
    with pytest.raises(ValueError, match="n_clusters=301 exceeds the 300 states"):
        CLUSTERER.fit(PLANTED, 301)
