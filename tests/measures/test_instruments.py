"""Other scores than the ARI on states whose clusters are known, and against scikit-learn's numbers."""

import math
from typing import Any

import pytest
import torch
from conftest import SMALL, composed
from seen import seen
from sklearn.metrics import (
    adjusted_mutual_info_score,
    completeness_score,
    homogeneity_score,
    silhouette_samples,
    silhouette_score,
)
from sklearn.neighbors import NearestNeighbors

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures import instruments
from taskcluster.measures.clusterers.kmeans import KMeans
from taskcluster.measures.instruments import Instruments, NumberOfClusters, neighbour_accuracy, sampled, silhouette
from taskcluster.measures.measure import Measure
from taskcluster.training.experiment import prepare
from taskcluster.validation import UserError

RANDOM = torch.Generator().manual_seed(0)
TASKS, X = torch.arange(60) % 6, torch.arange(60) // 30
CENTRES, NOISE = 20 * torch.eye(14, 16), torch.randn(60, 16, generator=RANDOM)
KMEANS = KMeans(None, 4, 0)
CLUMPED = torch.where(TASKS < 2, 0, TASKS)  # of the layer in which two tasks are one cluster
LAYERS = torch.stack([NOISE, CENTRES[CLUMPED] + NOISE, CENTRES[TASKS] + NOISE])


@pytest.fixture(scope="module")
def data() -> SequenceDataModule:
    """Six tasks, as the states have."""
    return prepare(RunConfig.of(composed(*SMALL)))[0]


def numbers(measure: Measure, states: torch.Tensor) -> dict[str, Any]:
    labels = {"task": TASKS, "x": X, "y": TASKS % 2}
    observed = seen({"instruction_end": states, "input": states}, {"instruction_end": labels, "input": labels})
    return {metric.key: values for metric, values in measure.measure(observed).items()}


def test_scores_are_scikit_learns_for_the_clusters_of_clustering(data: SequenceDataModule) -> None:
    found = numbers(Instruments(data=data, clusterer=KMEANS, n_neighbors=3), LAYERS)
    for layer, states in enumerate(LAYERS):
        labels = KMEANS.fit(states, 6).cluster_labels
        expected = {
            "ami": adjusted_mutual_info_score(TASKS, labels),
            "homogeneity": homogeneity_score(TASKS, labels),
            "completeness": completeness_score(TASKS, labels),
            "silhouette": silhouette_score(states.double(), labels),
            "silhouette_of_tasks": silhouette_score(states.double(), TASKS),
        }
        assert {key: found[key][layer] for key in expected} == pytest.approx(expected, abs=1e-9)
    for key in ("ami", "neighbours", "neighbours_within_x"):
        assert found[key][2] == pytest.approx(1)
        assert found[key][0] < 0.4
    assert 0.7 < found["neighbours"][1] < 1


def test_a_layer_that_is_not_finite_has_no_number_and_spoils_no_other(data: SequenceDataModule) -> None:
    broken = LAYERS.clone()
    broken[1, 3, 3] = torch.nan
    instruments = Instruments(data=data, clusterer=KMEANS, n_neighbors=3)
    for measure in (instruments, NumberOfClusters(data=data, clusterer=KMEANS, multiples=[0.5, 1.0])):
        for values in numbers(measure, broken).values():
            assert [math.isnan(value) for value in values] == [False, True, False]


@pytest.mark.parametrize("planted", [3, 6, 12])
def test_the_planted_number_of_clusters_is_chosen_without_labels(planted: int, data: SequenceDataModule) -> None:
    states = CENTRES[{3: TASKS // 2, 6: TASKS, 12: TASKS + 6 * (X == 0)}[planted]] + NOISE
    multiples = {0.5: "0_5", 0.7: "0_7", 1.0: "1", 1.4: "1_4", 2.0: "2"}
    found = numbers(NumberOfClusters(data=data, clusterer=KMEANS, multiples=[*multiples]), states[None])
    aris = {multiple: KMEANS.fit(states, round(6 * multiple)).ari(TASKS) for multiple in multiples}
    assert found.pop("chosen_k") == [planted]
    assert found.pop("ari_of_chosen_k") == [aris[planted / 6]]
    assert found == {f"ari_of_k_times_{multiples[m]}": [ari] for m, ari in aris.items() if m != 1}


def test_more_clusters_than_states_are_refused_before_training(data: SequenceDataModule) -> None:
    with pytest.raises(UserError, match=r"multiples=\[1.0, 20.0\] asks for 120 clusters of 24 states"):
        NumberOfClusters(data=data, clusterer=KMEANS, multiples=[1.0, 20.0])
    with pytest.raises(UserError, match=r"clusterer.n_clusters=25 exceeds the 24 states of the smallest probe"):
        Instruments(data=data, clusterer=KMeans(25, 4, 0), n_neighbors=3)


def test_a_silhouette_needs_two_clusters_and_fewer_than_states() -> None:
    for labels in (TASKS * 0, torch.arange(60)):
        assert math.isnan(silhouette(NOISE, labels))
    assert silhouette(torch.ones(60, 4), TASKS) == 0


def test_of_many_states_a_sample_is_scored_against_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruments, "SAMPLE", 23)
    states = (0.1 * CENTRES[TASKS] + NOISE).double()
    labels = torch.where(torch.arange(60) == sampled(60)[5], 99, TASKS)  # a cluster of one state, whose silhouette is 0
    which = sampled(60)
    assert len(which.unique()) == 23
    expected = silhouette_samples(states, labels)[which].mean()
    assert silhouette(states, labels) == pytest.approx(expected, abs=1e-9)
    other = NearestNeighbors(n_neighbors=2).fit(states).kneighbors(states)[1][:, 1]
    assert neighbour_accuracy(states, TASKS, 1) == float((TASKS[other] == TASKS)[which].double().mean())


def test_one_neighbour_is_scikit_learns_nearest_other() -> None:
    states = (0.1 * CENTRES[TASKS] + NOISE).double().numpy()
    other = NearestNeighbors(n_neighbors=2).fit(states).kneighbors(states)[1][:, 1]
    expected = float((TASKS.numpy()[other] == TASKS.numpy()).mean())
    assert 0.2 < expected < 0.9
    assert neighbour_accuracy(torch.from_numpy(states), TASKS, 1) == expected


def test_within_x_neighbours_share_x_however_far_they_are() -> None:
    by_task = LAYERS[2] + 1_000 * torch.eye(16)[TASKS % 3] * (X[:, None] == 0)
    assert neighbour_accuracy(by_task, TASKS, 3, among=X) == 1
    closest = 1_000 * torch.eye(16)[X] + NOISE  # states of an x are together and say nothing else
    assert neighbour_accuracy(closest, X, 3) == 1
    assert neighbour_accuracy(closest, TASKS, 3, among=X) < 0.4


def test_votes_of_a_tie_go_to_the_nearest_and_counts_come_first() -> None:
    line, labels = torch.tensor([[0.0], [1.0], [2.1], [3.3]]), torch.tensor([0, 0, 1, 1])
    # Of the first: 0, 1, 1, so 1 with three votes, and 0 with two, of which the nearest is one.
    assert neighbour_accuracy(line, labels, 3) == 0
    assert neighbour_accuracy(torch.tensor([[0.0], [1.0], [50.0], [51.0]]), labels, 2) == 1


def test_a_state_without_another_of_its_label_is_left_out() -> None:
    assert neighbour_accuracy(LAYERS[2], torch.where(torch.arange(60) == 7, 99, TASKS), 3) == 1
    assert math.isnan(neighbour_accuracy(LAYERS[2], torch.arange(60), 1))
