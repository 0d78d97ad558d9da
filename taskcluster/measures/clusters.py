"""The clusters of every layer of an observation, each clustering computed once and shared by the measures that read it.

in:  an Observation, a position, a clusterer; k, or the number of tasks
out: clusters(): Clusters for each layer; clusters_within(): Within for each layer, a clustering for each value of x

Only labels and inertias are kept, for as long as the observation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position
from taskcluster.measures.clusterers.clusterer import Clusterer, Clustering, Clusters
from taskcluster.measures.measure import Measure, configured
from taskcluster.measures.observation import Observation
from taskcluster.measures.statistics.agreement import adjusted_rand_index
from taskcluster.metrics import ARI, Metric, at_x
from taskcluster.validation import UserError

Scored = Literal["instruction_end", "input", "answer"]

AT: tuple[Scored, ...] = ("instruction_end", "input")  # positions of the default run's ARIs


@dataclass(frozen=True)
class Within:
    """Clusters of the states of one layer, separate for each of V values of a label.

    Attributes:
        members: which of the N states have each value, V x (M,).
        parts: the clusters of each value's states.
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
        return float(np.average(scores, weights=[len(rows) for rows, _ in telling])) if telling else float("nan")

    def ari(self, truth: Tensor) -> float:
        """The mean of the ARI against groups (N,); see `score`."""
        return self.score(adjusted_rand_index, truth)


class Score(NamedTuple):
    """An ARI of clusters and tasks: of all states at a position, or, `within`, of those with each x by themselves."""

    metric: Metric
    position: Scored
    within: bool

    def clusters(self, seen: Observation, clusterer: Clusterer) -> Sequence[Clusters | Within]:
        """Those that it scores, in every layer."""
        return (clusters_within if self.within else clusters)(seen, self.position, clusterer)

    def aris(self, seen: Observation, clusterer: Clusterer) -> list[float]:
        """Of every layer."""
        tasks = seen.labels[self.position]["task"]
        return [layer.ari(tasks) for layer in self.clusters(seen, clusterer)]


def scores(at: Sequence[Scored]) -> list[Score]:
    """The ARIs at positions that baselines are about: over all states but at x, where the states group by x first, and
    within each x."""
    found = []
    for position in dict.fromkeys(at):
        if position == "instruction_end":
            found.append(Score(ARI, position, within=False))
        if position == "answer":
            found.append(Score(at_x(position)[0], position, within=False))
        if position != "instruction_end":
            found.append(Score(at_x(position)[3], position, within=True))
    return found


@configured
class ClusterMeasure(Measure):
    """A measure of what the run's clusterer finds. Raises UserError for more clusters than there are states."""

    needs = ("data", "clusterer")
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
    """A measure of what ARIs on validation are compared with.

    Attributes:
        at: positions of the ARIs; at x, that within each x.
    """

    splits = ("val",)
    at: list[Scored] = field(default_factory=lambda: [*AT])

    @property
    def positions(self) -> tuple[Position, ...]:
        return tuple(self.at)

    @property
    def scores(self) -> list[Score]:
        return scores(self.at)


def clusters(seen: Observation, position: Position, clusterer: Clusterer, k: int | None = None) -> list[Clusters]:
    """Of all states at a position, in every layer; k: by default the clusterer's own for the number of tasks."""
    n_clusters = clusterer.k(seen.n_tasks) if k is None else k
    work = partial(fit_layers, clusterer=clusterer, n_clusters=n_clusters)
    key = ("clusters", position, clusterer, n_clusters)
    return seen.once(key, lambda: seen.by_layer(seen.states[position], work))


def clusters_within(seen: Observation, position: Position, clusterer: Clusterer) -> list[Within]:
    """Of the states with each value of x, with as many clusters as there are tasks among them, in every layer."""
    labels = seen.labels[position]
    work = partial(fit_layers_within, clusterer=clusterer, among=labels["x"], tasks=labels["task"])
    return seen.once(("clusters within", position, clusterer), lambda: seen.by_layer(seen.states[position], work))


def fit_layers(states: Tensor, clusterer: Clusterer, n_clusters: int) -> list[Clusters]:
    """Of states (L+1, N, D), one for each layer."""
    return _read(clusterer.fit_many(list(states), [n_clusters] * len(states)))


def fit_layers_within(states: Tensor, clusterer: Clusterer, among: Tensor, tasks: Tensor) -> list[Within]:
    """Of states (L+1, N, D) with each value of `among` (N,), as many clusters as they have `tasks` (N,)."""
    members = [(among == value).nonzero().squeeze(1) for value in among.unique()]
    n_clusters = [len(tasks[rows].unique()) for rows in members]
    order = torch.cat(members).to(states.device, non_blocking=True)
    problems = [part for layer in states for part in layer[order].split([len(rows) for rows in members])]
    found = iter(_read(clusterer.fit_many(problems, n_clusters * len(states))))
    return [Within(members, [next(found) for _ in members]) for _ in states]


def _read(found: Sequence[Clustering]) -> list[Clusters]:
    """The clusters of each clustering, whose labels come from the device together."""
    sizes = [len(clustering.cluster_labels) for clustering in found]
    labels = torch.cat([clustering.cluster_labels for clustering in found]).cpu().split(sizes)
    return [Clusters(own.clone(), clustering.inertia) for own, clustering in zip(labels, found, strict=True)]
