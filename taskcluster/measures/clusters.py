"""The clusters of every layer of an observation, each clustering computed once and shared by the measures that read it.

in:  an Observation, a position, a clusterer; k, or the number of tasks
out: clusters(): Clusters for each layer; clusters_within(): Within for each layer, a clustering for each value of x

Only labels and inertias are kept, for as long as the observation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taskcluster.data.rows import Position
from taskcluster.measures.clusterer import Clusterer, Clusters, read
from taskcluster.measures.comparisons import Score
from taskcluster.measures.measure import by_layer
from taskcluster.measures.observation import Observation


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
        return [(rows, own) for rows, own in pairs if len(truth[rows].unique()) > 1]

    def ari(self, truth: Tensor) -> float:
        """The mean of the ARI against groups (N,); see `mean`."""
        return self.mean(truth, Clusters.ari)

    def mean(self, truth: Tensor, score: Callable[[Clusters, Tensor], float]) -> float:
        """The mean of a score of clusters and groups (M,) over values that `truth` (N,) divides, weighted by their
        states; NaN where there are none."""
        telling = self.telling(truth)
        scores = [score(own, truth[rows]) for rows, own in telling]
        return float(np.average(scores, weights=[len(rows) for rows, _ in telling])) if telling else float("nan")


def clusters(seen: Observation, position: Position, clusterer: Clusterer, k: int | None = None) -> list[Clusters]:
    """Of all states at a position, in every layer; k: by default the clusterer's own for the number of tasks."""
    n_clusters = clusterer.k(seen.n_tasks) if k is None else k

    def compute() -> list[Clusters]:
        states = seen.states[position]
        return by_layer(states, lambda part: {"": of_layers(part, clusterer, n_clusters)})[""]

    return seen.once(("clusters", position, clusterer, n_clusters), compute)


def clusters_within(seen: Observation, position: Position, clusterer: Clusterer, label: str = "x") -> list[Within]:
    """Of the states with each value of a label, with as many clusters as there are tasks among them, in every layer."""

    def compute() -> list[Within]:
        labels = seen.labels[position]
        states, among, tasks = seen.states[position], labels[label], labels["task"]
        return by_layer(states, lambda part: {"": of_layers_within(part, clusterer, among, tasks)})[""]

    return seen.once(("clusters within", position, clusterer, label), compute)


def clusters_scored(seen: Observation, score: Score, clusterer: Clusterer) -> Sequence[Clusters | Within]:
    """Those that a score is of, in every layer."""
    return (clusters_within if score.within else clusters)(seen, score.position, clusterer)


def of_layers(states: Tensor, clusterer: Clusterer, n_clusters: int) -> list[Clusters]:
    """Of states (L+1, N, D), one for each layer."""
    return read(clusterer.fit_many(list(states), [n_clusters] * len(states)))


def of_layers_within(states: Tensor, clusterer: Clusterer, among: Tensor, tasks: Tensor) -> list[Within]:
    """Of states (L+1, N, D) with each value of `among` (N,), as many clusters as they have `tasks` (N,)."""
    members = [(among == value).nonzero().squeeze(1) for value in among.unique()]
    n_clusters = [len(tasks[rows].unique()) for rows in members]
    order = torch.cat(members).to(states.device, non_blocking=True)
    problems = [part for layer in states for part in layer[order].split([len(rows) for rows in members])]
    found = iter(read(clusterer.fit_many(problems, n_clusters * len(states))))
    return [Within(members, [next(found) for _ in members]) for _ in states]
