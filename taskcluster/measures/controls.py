"""Controls of the ARI: other seeds of the clusterer on the same states, and what it is by chance."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import stdev
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from taskcluster.data.rows import Position
from taskcluster.measures.agreement import adjusted_rand_indices, permuted
from taskcluster.measures.clusterer import Clusterer, Clusters
from taskcluster.measures.clusters import Within, clusters_scored
from taskcluster.measures.comparisons import AT, Score, Scored, of_chance, scores
from taskcluster.measures.measure import Control, Measure, Values
from taskcluster.measures.observation import Observation
from taskcluster.metrics import Metric, kmeans_sd
from taskcluster.validation import validated

Repetitions = Mapping[Metric, Sequence[Sequence[float]]]


class KMeansNoise(Control):
    """The same states clustered with `n_seeds` seeds, the first of them the run's own.

    In the journal: the standard deviation over seeds; 0 for a clusterer in which nothing is random.

    Attributes:
        at: positions whose ARI it is about; at x, that within each x.
    """

    metrics: ClassVar[tuple[Metric, ...]] = tuple(kmeans_sd(s.metric) for s in scores(AT))
    positions: ClassVar[tuple[Position, ...]] = AT

    @validated
    def __init__(
        self,
        clusterer: Clusterer,
        n_seeds: Annotated[int, Field(ge=2)],
        every_n_steps: PositiveInt | None,
        at: Sequence[Scored] = AT,
    ) -> None:
        super().__init__(every_n_steps)
        self._clusterers = [clusterer.seeded((clusterer.seed + k) % 2**32) for k in range(n_seeds)]
        self._scores = scores(at)
        declared = (kmeans_sd(score.metric) for score in self._scores)
        self.positions, self.metrics = tuple(at), tuple(declared)  # type: ignore[misc]  # configured

    def repeat(self, observation: Observation) -> Repetitions:
        return {
            kmeans_sd(score.metric): [
                [
                    own.ari(observation.labels[score.position]["task"])
                    for own in clusters_scored(observation, score, seeded)
                ]
                for seeded in self._clusterers
            ]
            for score in self._scores
        }

    def summary(self, repeated: Sequence[float]) -> float:
        return stdev(repeated)


class Chance(Measure):
    """What the ARI of the run's own clusters is by chance, for their number and sizes as KMeans made them.

    The clusters against task labels in `n_shuffles` random orders, within x among the states of an x: the mean and the
    largest ARI, and the p value of a permutation test (Phipson and Smyth, "Permutation p-values should never be zero",
    2010). And the ARI corrected for the number of clusters instead of their sizes.

    Attributes:
        at: positions whose ARI it is about; at x, that within each x.
    """

    metrics: ClassVar[tuple[Metric, ...]] = tuple(chain.from_iterable(of_chance(s.metric) for s in scores(AT)))
    positions: ClassVar[tuple[Position, ...]] = AT
    splits = ("val",)

    @validated
    def __init__(
        self,
        clusterer: Clusterer,
        n_shuffles: PositiveInt,
        every_n_steps: PositiveInt | None,
        at: list[Scored],
    ) -> None:
        super().__init__(every_n_steps)
        self._clusterer, self._n, self._scores = clusterer, n_shuffles, scores(at)
        declared = (of_chance(score.metric) for score in self._scores)
        self.positions, self.metrics = tuple(at), tuple(chain.from_iterable(declared))  # type: ignore[misc]

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        random = torch.Generator().manual_seed(self._clusterer.seed)
        found: dict[Metric, Values] = {}
        for score in self._scores:
            of_score = self._of(observation, score, random)
            found |= dict(zip(of_chance(score.metric), zip(*of_score, strict=True), strict=True))
        return found

    def _of(self, seen: Observation, score: Score, random: torch.Generator) -> list[tuple[float, float, float, float]]:
        """Mean, largest, p and the ARI for fixed k, of each layer."""
        labels = seen.labels[score.position]
        tasks, among = labels["task"], labels["x"] if score.within else torch.zeros_like(labels["task"])
        found = clusters_scored(seen, score, self._clusterer)
        aris: list[list[np.ndarray]] = [[] for _ in found]
        for truths in permuted(_numbered(tasks, among), among, self._n, random):
            for of_layer, own in zip(aris, found, strict=True):
                of_layer.append(_aris_within(own, truths) if isinstance(own, Within) else _aris(own, truths))
        fixed = [
            own.mean(tasks, Clusters.ari_for_fixed_k) if isinstance(own, Within) else own.ari_for_fixed_k(tasks)
            for own in found
        ]
        return [(*self._chance(np.concatenate(a)), f) for a, f in zip(aris, fixed, strict=True)]

    def _chance(self, aris: np.ndarray) -> tuple[float, float, float]:
        """Of the ARI itself and those of shuffled labels, (1 + R,): mean and largest of the latter, and p."""
        own, by_chance = aris[0], aris[1:]
        if not np.isfinite(aris).all():
            return math.nan, math.nan, math.nan
        return float(by_chance.mean()), float(by_chance.max()), (1 + int((by_chance >= own).sum())) / (1 + self._n)


def _numbered(tasks: Tensor, among: Tensor) -> Tensor:
    """Tasks (N,) numbered from 0, separately for each value of `among` (N,)."""
    numbers = torch.empty(len(tasks), dtype=torch.long)
    for value in among.unique():
        numbers[among == value] = tasks[among == value].unique(return_inverse=True)[1]
    return numbers


def _aris(own: Clusters, truths: Tensor) -> np.ndarray:
    """Of clusters of all states with each of `truths` (R, N), (R,)."""
    aris = adjusted_rand_indices(truths, own.cluster_labels)
    return np.full_like(aris, math.nan) if math.isnan(own.inertia) else aris


def _aris_within(own: Within, truths: Tensor) -> np.ndarray:
    """The mean over values, as `Within.mean` has it, with each of `truths` (R, N), (R,)."""
    telling = own.telling(truths[0])
    if not telling:
        return np.full(len(truths), math.nan)
    aris = [_aris(clusters, truths[:, rows]) for rows, clusters in telling]
    averaged: np.ndarray = np.average(aris, axis=0, weights=[len(rows) for rows, _ in telling])
    return averaged
