"""Clusters that follow a label of the surface, by construction."""

import pytest
import torch
from conftest import SMALL, composed
from seen import data_of, random_texts, seen
from torch import Tensor
from torch.nn.functional import one_hot

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.clustering import Clustering
from taskcluster.measures.clusters import clusters
from taskcluster.measures.kmeans import KMeans
from taskcluster.measures.nuisance import Nuisance
from taskcluster.measures.observation import Observation
from taskcluster.training.experiment import prepare


def small(*overrides: str) -> SequenceDataModule:
    return prepare(RunConfig.of(composed(*SMALL, "task.instructions_per_task=60", "data.probe_size=200", *overrides)))[
        0
    ]


def planted(data: SequenceDataModule, **of_position: Tensor) -> Observation:
    """One layer, in which states differ by these numbers alone."""
    states = {position: 10 * one_hot(of.long()).float()[None] for position, of in of_position.items()}
    return seen(states, {position: data.probe["val"].labels(position) for position in of_position})  # type: ignore[arg-type]


def told(measure: Nuisance, observed: Observation) -> dict[str, float]:
    return {metric.key: values[0] for metric, values in measure.measure(observed).items()}  # type: ignore[index]


def instructions(data: SequenceDataModule) -> list[str]:
    numbers = data.probe["val"].labels("instruction_end")["instruction"].tolist()
    return [data.family.instructions[number][1] for number in numbers]


@pytest.mark.parametrize(("key", "place"), [("ari_to_last", -1), ("ari_to_first", 0)])
def test_clusters_of_a_symbol_score_against_it(key: str, place: int) -> None:
    texts = random_texts(600)
    data = data_of(*(texts[k::4] for k in range(4)))
    symbols = torch.tensor([ord(text[place]) - ord("a") for text in instructions(data)])
    kmeans = KMeans(6, 4, 0)
    observed = planted(data, instruction_end=symbols)
    found = told(Nuisance(data, kmeans, 1, ["instruction_end"]), observed)
    assert found.pop(key) == 1
    assert max(found.values()) < 0.05
    (own,) = clusters(observed, "instruction_end", kmeans)
    assert own.ari(observed.labels["instruction_end"]["task"]) == pytest.approx(0, abs=0.03)


def test_clusters_of_lengths_score_against_them() -> None:
    data = small()
    lengths = torch.tensor([len(text) for text in instructions(data)])
    measure = Nuisance(data, KMeans(len(lengths.unique()), 4, 0), 1, ["instruction_end"])
    found = told(measure, planted(data, instruction_end=lengths))
    assert found["ari_to_length"] == 1
    assert max(found["ari_to_first"], found["ari_to_last"]) < 0.2


def test_at_x_clusters_of_x_score_against_x_and_not_y() -> None:
    data = small("task.n_mappings=4")
    x = data.probe["val"].labels("input")["x"]
    found = told(Nuisance(data, KMeans(4, 4, 0), 1, ["input"]), planted(data, input=x))
    assert found["ari_input_to_x"] == 1
    assert found["ari_input_to_y"] < 0.6


def test_with_several_regexes_a_task_regexes_are_a_label_and_the_ari_is_split() -> None:
    data = small("task.regexes_per_task=3")
    labels = data.probe["val"].labels("instruction_end")
    kmeans = KMeans(18, 4, 0)
    by_regex = planted(data, instruction_end=labels["description"])
    assert told(Nuisance(data, kmeans, 1, ["instruction_end"]), by_regex)["ari_to_regex"] == 1
    for number, within, across in (("description", 1, 0), ("task", 1, 1)):
        observed = planted(data, instruction_end=labels[number])
        measured = Clustering(data, KMeans(len(labels[number].unique()), 4, 0), 1).measure(observed)
        found = {metric.key: values[0] for metric, values in measured.items()}  # type: ignore[index]
        assert (found["ari_within_regex"], found["ari_across_regexes"] > 0) == (within, across > 0)


def test_with_one_regex_a_task_there_is_nothing_to_split() -> None:
    data = small()
    keys = [
        metric.key
        for measure in (
            Clustering(data, KMeans(None, 4, 0), 1),
            Nuisance(data, KMeans(None, 4, 0), 1, ["instruction_end"]),
        )
        for metric in measure.metrics
    ]
    assert not [key for key in keys if "regex" in key]
