"""Controls of the ARI: other seeds of the clusterer, what it is by chance, and the clusters against other labels."""

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


@configured
class KMeansNoise(Comparison, Control):
    """The same states clustered with `n_seeds` seeds, the first of them the run's own.

    In the journal: the standard deviation over seeds; 0 for a clusterer in which nothing is random.

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
    """What the ARI of the run's own clusters is by chance, for their number and sizes as KMeans made them.

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
        """Mean, largest, p and the ARI for fixed k, of each layer."""
        labels, layers = seen.labels[score.position], score.clusters(seen, self.clusterer)
        tasks, among = labels["task"], labels["x"] if score.within else torch.zeros_like(labels["task"])
        aris: list[list[np.ndarray]] = [[] for _ in layers]
        for truths in permuted(_numbered(tasks, among), among, self.n_shuffles, random):
            for of_layer, layer in zip(aris, layers, strict=True):
                of_layer.append(_aris(layer, truths))
        fixed = [layer.score(ari_for_fixed_k, tasks) for layer in layers]
        return [(*self._chance(np.concatenate(a)), f) for a, f in zip(aris, fixed, strict=True)]

    def _chance(self, aris: np.ndarray) -> tuple[float, float, float]:
        """Of the ARI itself and those of shuffled labels, (1 + R,): mean and largest of the latter, and p."""
        measured, by_chance = aris[0], aris[1:]
        if not np.isfinite(aris).all():
            return math.nan, math.nan, math.nan
        p = (1 + int((by_chance >= measured).sum())) / (1 + self.n_shuffles)
        return float(by_chance.mean()), float(by_chance.max()), p


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
        family = self.data.family
        several = any(len(task.descriptions) > 1 for task in family.tasks)
        self.declared = {position: nuisance_metrics(position, family.words, several) for position in self.at}
        parts = [family.parts(instruction) for _, instruction in family.instructions]
        self.of_text = {
            "first": _equal_numbers([part[:1] for part in parts]),
            "last": _equal_numbers([part[-1:] for part in parts]),
            "length": torch.tensor([len(part) for part in parts]),
        }

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(metric for declared in self.declared.values() for metric in declared.values())

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        aris: dict[Metric, Values] = {}
        for position, declared in self.declared.items():
            labels = observation.labels[position]
            known = {**labels, "regex": labels["description"]}
            known |= {name: values[labels["instruction"]] for name, values in self.of_text.items()}
            layers = clusters(observation, position, self.clusterer)
            aris |= {metric: [layer.ari(known[name]) for layer in layers] for name, metric in declared.items()}
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


def _equal_numbers(values: list[list[str]]) -> Tensor:
    """Equal numbers for equal values."""
    return torch.from_numpy(np.unique([" ".join(value) for value in values], return_inverse=True)[1])


def chance_metrics(of: Metric) -> tuple[Metric, Metric, Metric, Metric]:
    """Of permutations of the tasks: the mean and the largest ARI, and the p value; the ARI for a fixed k."""
    p = control(of, "p", "p", f"of the ARI {of.where}")
    fixed_k = replace(of, key=f"{of.key}_fixed_k", name="ARI for fixed k", short="", label="", axis="")
    return (
        control(of, "shuffled", "chance", "of shuffled labels"),
        control(of, "shuffled_largest", "largest", "of shuffled labels, the largest"),
        replace(p, name="p", short="p", label="p", axis="p", least=None, chance=None),
        replace(fixed_k, low=None, least=None),  # it has no lower bound
    )


def _numbered(tasks: Tensor, among: Tensor) -> Tensor:
    """Tasks (N,) numbered from 0, separately for each value of `among` (N,)."""
    numbers = torch.empty(len(tasks), dtype=torch.long)
    for value in among.unique():
        numbers[among == value] = tasks[among == value].unique(return_inverse=True)[1]
    return numbers


def _aris(layer: Clusters | Within, truths: Tensor) -> np.ndarray:
    """Of clusters with each of `truths` (R, N), (R,); within an x their mean, as `Within.score` has it."""
    if isinstance(layer, Clusters):
        aris = adjusted_rand_indices(truths, layer.cluster_labels)
        return np.full_like(aris, math.nan) if math.isnan(layer.inertia) else aris
    telling = layer.telling(truths[0])
    if not telling:
        return np.full(len(truths), math.nan)
    parts = [_aris(part, truths[:, rows]) for rows, part in telling]
    averaged: np.ndarray = np.average(parts, axis=0, weights=[len(rows) for rows, _ in telling])
    return averaged
