"""Instruments beside the ARI on states whose clusters are known, and against scikit-learn's numbers."""

import math

import pytest
import torch
from conftest import SMALL
from seen import seen
from sklearn.metrics import (
    adjusted_mutual_info_score,
    homogeneity_completeness_v_measure,
    normalized_mutual_info_score,
    silhouette_score,
)

from taskcluster.cli import composed
from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures import readings
from taskcluster.measures.instruments import Instruments
from taskcluster.measures.kmeans import KMeans
from taskcluster.measures.measure import Values
from taskcluster.measures.number_of_clusters import NumberOfClusters
from taskcluster.metrics import Metric
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
    """Six tasks, as the states below have."""
    return prepare(RunConfig.of(composed(*SMALL)))[0]


def observed(states: torch.Tensor) -> dict[str, object]:
    labels = {"task": TASKS, "x": X, "y": TASKS % 2}
    return {
        "states": {"instruction_end": states, "input": states},
        "labels": {"instruction_end": labels, "input": labels},
    }


def of(measured: object, metric: Metric) -> list[float]:
    assert isinstance(measured, dict)
    values: Values = measured[metric]
    assert not isinstance(values, float)
    return list(values)


def test_scores_are_those_of_scikit_learn_for_the_clusters_of_clustering(data: SequenceDataModule) -> None:
    observation = seen(**observed(LAYERS))  # type: ignore[arg-type]
    measured = Instruments(data, KMEANS, 3, 1).measure(observation)
    for layer, states in enumerate(LAYERS):
        found = KMEANS.fit(states, 6).cluster_labels
        homogeneity, completeness, v_measure = homogeneity_completeness_v_measure(TASKS, found)
        expected = {
            readings.AMI: adjusted_mutual_info_score(TASKS, found),
            readings.HOMOGENEITY: homogeneity,
            readings.COMPLETENESS: completeness,
            readings.SILHOUETTE: silhouette_score(states.double(), found),
            readings.SILHOUETTE_OF_TASKS: silhouette_score(states.double(), TASKS),
        }
        for metric, value in expected.items():
            assert of(measured, metric)[layer] == pytest.approx(value, abs=1e-9), metric.key
        assert v_measure == pytest.approx(normalized_mutual_info_score(TASKS, found))  # so it is not given twice
    for metric in (readings.AMI, readings.NEIGHBOURS, readings.NEIGHBOURS_WITHIN_X):
        assert of(measured, metric)[2] == pytest.approx(1)
        assert of(measured, metric)[0] < 0.4
    assert 0.7 < of(measured, readings.NEIGHBOURS)[1] < 1


def test_a_layer_that_is_not_finite_has_no_number_and_spoils_no_other(data: SequenceDataModule) -> None:
    broken = LAYERS.clone()
    broken[1, 3, 3] = torch.nan
    for measure in (Instruments(data, KMEANS, 3, 1), NumberOfClusters(data, KMEANS, [0.5, 1.0], None)):
        for values in measure.measure(seen(**observed(broken))).values():  # type: ignore[arg-type]
            assert isinstance(values, list | tuple)
            assert [math.isnan(value) for value in values] == [False, True, False]


@pytest.mark.parametrize(("planted", "tasks"), [(3, TASKS // 2), (6, TASKS), (12, TASKS)])
def test_the_planted_number_of_clusters_is_chosen_without_labels(
    planted: int, tasks: torch.Tensor, data: SequenceDataModule
) -> None:
    clusters = {3: TASKS // 2, 6: TASKS, 12: TASKS + 6 * (X == 0)}[planted]
    observation = seen(**observed((CENTRES[clusters] + NOISE)[None]))  # type: ignore[arg-type]
    measure = NumberOfClusters(data, KMEANS, [0.5, 0.7, 1.0, 1.4, 2.0], None)
    measured = measure.measure(observation)
    assert of(measured, readings.CHOSEN) == [planted]
    aris = {
        multiple: KMEANS.fit(observation.states["input"][0], round(6 * multiple)).clusters.ari(TASKS)
        for multiple in (0.5, 0.7, 1.0, 1.4, 2.0)
    }
    assert of(measured, readings.ARI_OF_CHOSEN) == [aris[planted / 6]]
    for multiple in (0.5, 0.7, 1.4, 2.0):
        assert of(measured, readings.ari_of_multiple(multiple)) == [aris[multiple]]


def test_more_clusters_than_states_are_refused_before_training(data: SequenceDataModule) -> None:
    with pytest.raises(UserError, match=r"multiples=\[1.0, 20.0\] asks for 120 clusters of 24 states"):
        NumberOfClusters(data, KMEANS, [1.0, 20.0], None)
