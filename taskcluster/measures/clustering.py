"""Whether states form clusters of tasks: cluster the states of every layer without labels, then score the clusters.

in:  an Observation, a position, a clusterer; k, or the number of tasks
out: clusters(): Clusters for each layer; clusters_within(): Within for each layer, Clusters for each value of x

ARI is the adjusted Rand index (Hubert and Arabie, 1985), NMI the normalized mutual information (Strehl and Ghosh,
2002). Each clustering is computed once and shared by the measures that read it. Labels and inertias are kept for as
long as the observation, centroids are not.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position
from taskcluster.measures.clusterers.clusterer import Clusterer, Clusters
from taskcluster.measures.measure import SPLITS, Measure, Values, columns, configured
from taskcluster.measures.observation import Observation
from taskcluster.measures.statistics.agreement import adjusted_rand_index, split_by_part
from taskcluster.metrics import ARI, INERTIA, NMI, Metric, at_x
from taskcluster.validation import UserError
from taskcluster.work import doing

Scored = Literal["demonstrations", "instruction_end", "input", "answer"]
Grouped = Literal["all", "within"]


class Within(NamedTuple):
    """Clusters of the states of one layer, separate for each of V values of a label.

    members: which of the N states have each value, V x (M,); parts: the clusters of each value's states.
    """

    members: Sequence[Tensor]
    parts: Sequence[Clusters]

    def telling(self, truth: Tensor) -> list[tuple[Tensor, Clusters]]:
        """Members and clusters of the values that groups `truth` (N,) divide: others say nothing about them."""
        pairs = zip(self.members, self.parts, strict=True)
        return [(rows, part) for rows, part in pairs if len(truth[rows].unique()) > 1]

    def score(self, agreement: Callable[[Tensor, Tensor], float], truth: Tensor) -> float:
        """The mean agreement of groups and clusters over values that `truth` (N,) divides, weighted by their states;
        NaN where there are none."""
        telling = self.telling(truth)
        scores = [part.score(agreement, truth[rows]) for rows, part in telling]
        return float(np.average(scores, weights=[len(rows) for rows, _ in telling])) if telling else math.nan

    def ari(self, truth: Tensor) -> float:
        return self.score(adjusted_rand_index, truth)


class Score(NamedTuple):
    """An ARI of clusters and tasks in every layer: of all states at a position; `within`, of those with each x; of a
    `demonstration`, counted from 1, those at its label."""

    metric: Metric
    position: Scored
    within: bool
    demonstration: int | None = None

    def clusters(self, seen: Observation, clusterer: Clusterer) -> Sequence[Clusters | Within]:
        if self.demonstration is not None:
            layers = clusters_within(seen, self.position, clusterer, "demonstration")
            return [layer.parts[self.demonstration - 1] for layer in layers]
        return (clusters_within if self.within else clusters)(seen, self.position, clusterer)

    def chosen(self, labels: Mapping[str, Tensor]) -> Tensor:
        """Mask of the states at the position, with these labels, that the score is about, (N,)."""
        if self.demonstration is None:
            return torch.ones_like(labels["task"], dtype=torch.bool)
        return labels["demonstration"] == self.demonstration

    def labels(self, labels: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The labels of the states that the score is about."""
        chosen = self.chosen(labels)
        return {name: values[chosen] for name, values in labels.items()}

    def aris(self, seen: Observation, clusterer: Clusterer) -> list[float]:
        tasks = self.labels(seen.labels[self.position])["task"]
        return [layer.ari(tasks) for layer in self.clusters(seen, clusterer)]


# The ARIs at each position that baselines are about. At x all states group by x first, so the ARI is computed within x.
# At demonstrations, the ARIs at the labels come first.
SCORES: dict[Scored, tuple[Score, ...]] = {
    "demonstrations": (Score(at_x("answer")[0], "answer", within=False),),
    "instruction_end": (Score(ARI, "instruction_end", within=False),),
    "input": (Score(at_x("input")[3], "input", within=True),),
    "answer": (Score(at_x("answer")[0], "answer", within=False), Score(at_x("answer")[3], "answer", within=True)),
}


def along_prompt(n_demonstrations: int) -> list[Score]:
    """The ARI at the label of each demonstration."""
    return [
        Score(
            replace(at_x("demonstrations")[0], key=f"ari_at_demonstration_{k}", where=where, short=f"ARI {where}"),
            "demonstrations",
            within=False,
            demonstration=k,
        )
        for k in range(1, n_demonstrations + 1)
        for where in [f"at demonstration {k}"]
    ]


@configured
class ClusterMeasure(Measure):
    """A measure of the run's clusters. Raises UserError for more clusters than states."""

    needs: ClassVar[tuple[str, ...]] = ("data", "clusterer")
    data: SequenceDataModule
    clusterer: Clusterer

    def __post_init__(self) -> None:
        k, fewest = self.clusterer.k(len(self.data.family.tasks)), min(map(len, self.data.probe.values()))
        if k > fewest:
            raise UserError(
                f"clusterer.n_clusters={k} exceeds the {fewest} states of the smallest probe; lower it, or raise "
                "data.probe_size"
            )


@configured
class Comparison(ClusterMeasure):
    """A baseline or control of ARIs on validation.

    Attributes:
        at: positions of the ARIs; at x, that within each x; at demonstrations, that at the label of each, and that at
            the answer.
    """

    splits = ("val",)
    at: list[Scored] = field(default_factory=lambda: ["instruction_end", "input"])

    @property
    def positions(self) -> tuple[Position, ...]:
        return tuple(dict.fromkeys(score.position for score in self.scores))

    @property
    def scores(self) -> list[Score]:
        along = along_prompt(self.data.probe["val"].n_demonstrations) if "demonstrations" in self.at else []
        return list(dict.fromkeys([*along, *(score for position in self.at for score in SCORES[position])]))


@configured
class Clustering(ClusterMeasure):
    """Clusters of the states at the separator, where the model has read only the instruction (the paper's measure): ARI
    and NMI with the task, and the inertia; where tasks have several descriptions, the ARI within a description and
    across those of a task too."""

    positions = ("instruction_end",)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        family = self.data.family
        return (ARI, NMI, INERTIA, *(split_metrics(family.words) if family.has_kinds_of_instructions else ()))

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        labels = observation.labels["instruction_end"]
        task, description = labels["task"], labels["description"]
        layers = clusters(observation, "instruction_end", self.clusterer)
        numbers: list[list[float]] = [_scores(layer, task) for layer in layers]
        if self.data.family.has_kinds_of_instructions:
            for row, layer in zip(numbers, layers, strict=True):
                undefined = math.isnan(layer.inertia)
                row += [math.nan] * 2 if undefined else split_by_part(task, description, layer.cluster_labels)
        return columns(self.metrics, numbers)


@configured
class ClusteringAtX(ClusterMeasure):
    """Clusters of the states at x, of all states as at the separator or within each value of x, where no cluster can be
    one of x: ARI with the task, and within x with y.

    Attributes:
        at: "input", the last token of x, or "answer", the token that predicts y.
        of: "all" states, those "within" each x, or both.
        train: whether the training split is measured too, and not validation alone.
    """

    at: Literal["input", "answer"] = "input"
    of: Annotated[list[Grouped], Field(min_length=1)] = field(default_factory=lambda: ["all", "within"])
    train: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        return SPLITS if self.train else ("val",)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        of_all, within = at_x(self.at)[:3], at_x(self.at)[3:]
        return of_all * ("all" in self.of) + within * ("within" in self.of)

    @property
    def positions(self) -> tuple[Position, ...]:
        return (self.at,)

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        task, y = (observation.labels[self.at][name] for name in ("task", "y"))
        numbers: list[list[float]] = [[] for _ in observation.states[self.at]]
        if "all" in self.of:
            for row, layer in zip(numbers, clusters(observation, self.at, self.clusterer), strict=True):
                row += _scores(layer, task)
        if "within" in self.of:
            for row, by_x in zip(numbers, clusters_within(observation, self.at, self.clusterer), strict=True):
                row += [by_x.ari(task), by_x.ari(y)]
        return columns(self.metrics, numbers)


@configured
class ClusteringAlongPrompt(Comparison):
    """Clusters of the states along few-shot prompts: at the label of each demonstration, and at the answer. The state
    of a label is at its last token; it has read the label, and depends on no query."""

    at: list[Scored] = field(default_factory=lambda: ["demonstrations"])

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(score.metric for score in self.scores)

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        return {score.metric: score.aris(observation, self.clusterer) for score in self.scores}


def _scores(layer: Clusters, task: Tensor) -> list[float]:
    return [layer.ari(task), layer.score(normalized_mutual_info_score, task), layer.inertia]


def split_metrics(words: bool) -> tuple[Metric, Metric]:
    """The ARI at the separator over all pairs of states but those of one task and two of its regexes, and over all but
    those of one regex."""
    one, several = ("description", "descriptions") if words else ("regex", "regexes")
    within, across = f"within a {one}", f"across {several}"
    metric = replace(ARI, least=-1)
    return (
        replace(metric, key="ari_within_regex", where=f"{ARI.where}, {within}", short=f"ARI {within}"),
        replace(metric, key="ari_across_regexes", where=f"{ARI.where}, {across} of a task", short=f"ARI {across}"),
    )


def clusters(seen: Observation, position: Position, clusterer: Clusterer, k: int | None = None) -> list[Clusters]:
    """Cluster all states at a position, in every layer; k: by default the clusterer's own for the number of tasks."""
    n_clusters = clusterer.k(seen.n_tasks) if k is None else k
    work = partial(fit_layers, clusterer=clusterer, n_clusters=n_clusters)
    key = ("clusters", position, clusterer, n_clusters)
    return seen.once(key, lambda: seen.by_layer(seen.states[position], work))


def clusters_within(seen: Observation, position: Position, clusterer: Clusterer, label: str = "x") -> list[Within]:
    """Cluster the states of each value of a label, into as many clusters as they have tasks, in every layer."""
    labels = seen.labels[position]
    work = partial(fit_layers_within, clusterer=clusterer, among=labels[label], tasks=labels["task"])
    key = ("clusters within", position, clusterer, label)
    return seen.once(key, lambda: seen.by_layer(seen.states[position], work))


def fit_layers(states: Tensor, clusterer: Clusterer, n_clusters: int) -> list[Clusters]:
    """Cluster states (L+1, N, D), layer by layer."""
    with doing("layer", len(states)):
        return _on_cpu(clusterer.fit_many(list(states), [n_clusters] * len(states)))


def fit_layers_within(states: Tensor, clusterer: Clusterer, among: Tensor, tasks: Tensor) -> list[Within]:
    """Cluster states (L+1, N, D) for each value of `among` (N,), into as many clusters as they have `tasks` (N,)."""
    members = [(among == value).nonzero().squeeze(1) for value in among.unique()]
    n_clusters = [len(tasks[rows].unique()) for rows in members]
    order = torch.cat(members).to(states.device, non_blocking=True)
    problems = [part for layer in states for part in layer[order].split([len(rows) for rows in members])]
    with doing("layer", len(states)):
        fitted = iter(_on_cpu(clusterer.fit_many(problems, n_clusters * len(states))))
    return [Within(members, [next(fitted) for _ in members]) for _ in states]


def _on_cpu(fitted: Sequence[Clusters]) -> list[Clusters]:
    """Return clusters without centroids; all labels leave the device in one transfer."""
    labels = torch.cat([clusters.cluster_labels for clusters in fitted]).cpu()
    parts = labels.split([len(clusters.cluster_labels) for clusters in fitted])
    return [Clusters(part.clone(), torch.empty(0), c.inertia) for part, c in zip(parts, fitted, strict=True)]
