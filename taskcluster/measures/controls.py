"""Controls of the ARI: variance across seeds of the clusterer, the ARI by chance, and clusters against other labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import stdev
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from taskcluster.measures.clusterers.clusterer import Clusters
from taskcluster.measures.clustering import Comparison, Score, Scored, Within, clusters
from taskcluster.measures.measure import Control, Values, columns, configured
from taskcluster.measures.observation import Observation
from taskcluster.measures.statistics.agreement import adjusted_rand_indices, ari_for_fixed_k, permuted
from taskcluster.metrics import ARI, Metric, at_x, control, kmeans_sd
from taskcluster.validation import UserError


@configured
class KMeansNoise(Comparison, Control):
    """Variance across KMeans seeds: the same states clustered with `n_seeds` seeds, the first of them the run's.

    The journal has the standard deviation over seeds, 0 for a deterministic clusterer.

    Attributes:
        at: positions whose ARI it is about; at x, that within each x.
    """

    n_seeds: Annotated[int, Field(ge=2)]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(kmeans_sd(score.metric) for score in self.scores)

    def repeat(self, observation: Observation) -> Mapping[Metric, Sequence[Sequence[float]]]:
        clusterers = [self.clusterer.seeded((self.clusterer.seed + k) % 2**32) for k in range(self.n_seeds)]
        return {kmeans_sd(s.metric): [s.aris(observation, seeded) for seeded in clusterers] for s in self.scores}

    def summary(self, repeated: Sequence[float]) -> float:
        return stdev(repeated)


@configured
class Chance(Comparison):
    """The ARI of the run's clusters by chance, given their number and sizes.

    The clusters against task labels in `n_shuffles` random orders, within x among the states of an x: the mean and the
    largest ARI, and the p value of a permutation test (Phipson and Smyth, "Permutation p-values should never be zero",
    2010). And the ARI corrected for the number of clusters instead of their sizes.

    Attributes:
        at: positions whose ARI it is about; at x, that within each x.
    """

    n_shuffles: PositiveInt

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(metric for score in self.scores for metric in chance_metrics(score.metric))

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        random = torch.Generator().manual_seed(self.clusterer.seed)
        numbers: dict[Metric, Values] = {}
        for score in self.scores:
            numbers |= columns(chance_metrics(score.metric), self._by_layer(observation, score, random))
        return numbers

    def _by_layer(self, seen: Observation, score: Score, random: torch.Generator) -> list[tuple[float, ...]]:
        """Return the mean and the largest ARI of shuffled labels, p, and the ARI for fixed k, of each layer."""
        labels, layers = score.labels(seen.labels[score.position]), score.clusters(seen, self.clusterer)
        tasks = labels["task"]
        shuffles = permuted(tasks, labels["x"] if score.within else torch.zeros_like(tasks), self.n_shuffles, random)
        batches = [[_aris(layer, truths) for layer in layers] for truths in shuffles]
        aris = np.array([np.concatenate(parts) for parts in zip(*batches, strict=True)])  # (L+1, 1 + R)
        measured, by_chance = aris[:, :1], aris[:, 1:]
        p = (1 + (by_chance >= measured).sum(1)) / (1 + self.n_shuffles)
        table = np.stack([by_chance.mean(1), by_chance.max(1), p], axis=1)
        table[~np.isfinite(aris).all(1)] = math.nan
        return [(*row, layer.score(ari_for_fixed_k, tasks)) for row, layer in zip(table.tolist(), layers, strict=True)]


@configured
class Nuisance(Comparison):
    """The run's clusters of all states at a position, on validation, against other labels than the task. At the
    separator: the first and the last symbol of the instruction, and its length; at x and at the answer: x and y. Where
    tasks have several descriptions, against these too. Of words, where instructions are made of words.

    Attributes:
        at: the positions.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if "demonstrations" in self.at:
            raise UserError("measures.nuisance.at=demonstrations: choose from instruction_end, input and answer")
        family = self.data.family
        several = any(len(task.descriptions) > 1 for task in family.tasks)
        self._declared = {position: nuisance_metrics(position, family.words, several) for position in self.at}
        parts = [family.parts(instruction) for _, instruction in family.instructions]
        values: dict[str, list[object]] = {
            "first": [p[:1] for p in parts],
            "last": [p[-1:] for p in parts],
            "length": [len(p) for p in parts],
        }
        # One number per instruction, equal for equal values
        self._numbers = {name: np.unique([*map(str, of)], return_inverse=True)[1] for name, of in values.items()}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(metric for declared in self._declared.values() for metric in declared.values())

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        aris: dict[Metric, Values] = {}
        for position, declared in self._declared.items():
            labels = dict(observation.labels[position])
            labels["regex"] = labels["description"]
            labels |= {name: torch.from_numpy(of)[labels["instruction"]] for name, of in self._numbers.items()}
            layers = clusters(observation, position, self.clusterer)
            aris |= {metric: [layer.ari(labels[name]) for layer in layers] for name, metric in declared.items()}
        return aris


def nuisance_metrics(position: Scored, words: bool, several: bool) -> dict[str, Metric]:
    """{label: the ARI of the clusters at a position against it}; several: whether a task has several descriptions."""
    unit = "word" if words else "symbol"
    of, stem = (ARI, "ari") if position == "instruction_end" else (at_x(position)[0], f"ari_{position}")
    labels = {"regex": "description" if words else "regex"} if several else {}
    if position == "instruction_end":
        labels |= {"first": f"first {unit}", "last": f"last {unit}", "length": "length"}
    else:
        labels |= {"x": "x", "y": "y"}
    return {
        name: replace(control(of, "", "nuisance", where), key=f"{stem}_to_{name}") for name, where in labels.items()
    }


def chance_metrics(of: Metric) -> tuple[Metric, Metric, Metric, Metric]:
    """Of permutations of the tasks: the mean and the largest ARI, and the p value; the ARI for a fixed k."""
    return (
        control(of, "shuffled", "chance", "of shuffled labels"),
        control(of, "shuffled_largest", "largest", "of shuffled labels, the largest"),
        replace(
            control(of, "p", "p", f"of the ARI {of.where}"),
            name="p",
            short="",
            label="",
            axis="",
            least=None,
            chance=None,
        ),
        replace(
            of, key=f"{of.key}_fixed_k", name="ARI for fixed k", short="", label="", axis="", low=None, least=None
        ),  # no lower bound
    )


def _aris(layer: Clusters | Within, truths: Tensor) -> np.ndarray:
    """Of clusters with each of `truths` (R, N), (R,); within an x their mean, as `Within.score` has it."""
    if isinstance(layer, Clusters):
        aris = adjusted_rand_indices(torch.searchsorted(truths[0].unique(), truths.contiguous()), layer.cluster_labels)
        return np.full_like(aris, math.nan) if math.isnan(layer.inertia) else aris
    telling = layer.telling(truths[0])
    parts = [_aris(part, truths[:, rows]) for rows, part in telling] or [np.full(len(truths), math.nan)]
    averaged: np.ndarray = np.average(parts, axis=0, weights=[len(rows) for rows, _ in telling] or None)
    return averaged
