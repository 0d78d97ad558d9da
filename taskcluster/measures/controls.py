"""Controls of the ARI: other seeds of the clusterer on the same states, and shuffled labels."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from taskcluster import metrics
from taskcluster.data.rows import Position
from taskcluster.measures.clusterer import Clusterer
from taskcluster.measures.clusters import clusters, clusters_within
from taskcluster.measures.measure import Control
from taskcluster.measures.observation import Observation
from taskcluster.metrics import Metric
from taskcluster.validation import validated

POSITIONS: tuple[Position, ...] = ("instruction_end", "input")

Repetitions = Mapping[Metric, Sequence[Sequence[float]]]


class KMeansNoise(Control):
    """The same states clustered with `n_seeds` seeds, the first of them the run's own; at the separator and within x.

    In the journal: the standard deviation over seeds; 0 for a clusterer in which nothing is random.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (metrics.ARI_KMEANS_SD, metrics.ARI_WITHIN_X_KMEANS_SD)
    positions = POSITIONS

    @validated
    def __init__(
        self, clusterer: Clusterer, n_seeds: Annotated[int, Field(ge=2)], every_n_steps: PositiveInt | None
    ) -> None:
        super().__init__(every_n_steps)
        self._clusterers = [clusterer.seeded((clusterer.seed + k) % 2**32) for k in range(n_seeds)]

    def repeat(self, observation: Observation) -> Repetitions:
        instructions, examples = (observation.labels[position]["task"] for position in POSITIONS)
        return {
            metrics.ARI_KMEANS_SD: [
                [found.ari(instructions) for found in clusters(observation, "instruction_end", clusterer)]
                for clusterer in self._clusterers
            ],
            metrics.ARI_WITHIN_X_KMEANS_SD: [
                [found.ari(examples) for found in clusters_within(observation, "input", clusterer)]
                for clusterer in self._clusterers
            ],
        }

    def summary(self, repeated: Sequence[float]) -> float:
        return stdev(repeated)


class Chance(Control):
    """The run's own clusters against task labels that were shuffled `n_shuffles` times; within x, among the states of
    an x.

    In the journal: the mean over shuffles.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (metrics.ARI_SHUFFLED, metrics.ARI_WITHIN_X_SHUFFLED)
    positions = POSITIONS

    @validated
    def __init__(self, clusterer: Clusterer, n_shuffles: PositiveInt, every_n_steps: PositiveInt | None) -> None:
        super().__init__(every_n_steps)
        self._clusterer, self._n = clusterer, n_shuffles

    def repeat(self, observation: Observation) -> Repetitions:
        instructions, labels = observation.labels["instruction_end"]["task"], observation.labels["input"]
        x, tasks = labels["x"], labels["task"]
        found = clusters(observation, "instruction_end", self._clusterer)
        within = clusters_within(observation, "input", self._clusterer)
        random = torch.Generator().manual_seed(self._clusterer.seed)
        everywhere = torch.zeros_like(instructions)
        shuffled = [_shuffled(instructions, everywhere, random) for _ in range(self._n)]
        shuffled_within = [_shuffled(tasks, x, random) for _ in range(self._n)]
        return {
            metrics.ARI_SHUFFLED: [[of_layer.ari(labels) for of_layer in found] for labels in shuffled],
            metrics.ARI_WITHIN_X_SHUFFLED: [
                [of_layer.ari(labels) for of_layer in within] for labels in shuffled_within
            ],
        }

    def summary(self, repeated: Sequence[float]) -> float:
        return fmean(repeated)


def _shuffled(labels: Tensor, among: Tensor, random: torch.Generator) -> Tensor:
    """Labels (N,) in random order, exchanged only where `among` (N,) agrees."""
    order = torch.randperm(len(labels), generator=random)
    mixed = torch.empty_like(labels)
    mixed[among.argsort(stable=True)] = labels[order[among[order].argsort(stable=True)]]
    return mixed
