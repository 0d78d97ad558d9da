"""Other instruments than the ARI for the same states: other scores of the same clusters, distances without any
clusters, and other numbers of clusters.

AMI is the adjusted mutual information (Vinh, Epps and Bailey, 2010), homogeneity and completeness those of Rosenberg
and Hirschberg (2007), whose harmonic mean, the V-measure, equals the NMI that `clustering` gives.

Silhouettes and nearest neighbours take all N^2 distances. Of more than SAMPLE states they are the mean over SAMPLE of
them, drawn at random, each against all N: unbiased, with a standard deviation of at most 0.01.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from sklearn import config_context
from sklearn.metrics import (
    completeness_score,
    homogeneity_score,
    pairwise_distances_chunked,
    silhouette_score,
)
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from taskcluster.measures.clustering import ClusterMeasure, clusters
from taskcluster.measures.measure import Values, columns, configured
from taskcluster.measures.observation import Observation
from taskcluster.measures.statistics.agreement import adjusted_mutual_information
from taskcluster.metrics import ARI, Metric
from taskcluster.validation import UserError

MEMORY = 32  # MiB of distances held at once
SAMPLE = 10_000  # states over which a mean is taken; of fewer, over all of them


def _at_separator(key: str, name: str, label: str = "", least: float | None = None) -> Metric:
    return Metric(key, name, ARI.where, label=label, position=ARI.position, low=0, high=1, least=least)


AMI = replace(_at_separator("ami", "AMI", "AMI of clusters and tasks", least=-1), chance=0)
NEIGHBOURS = _at_separator("neighbours", "neighbours", "Tasks predicted by the nearest neighbours")

CHOSEN = Metric(
    "chosen_k",
    "number of clusters",
    "at the separator, chosen by silhouette",
    label="Number of clusters with the highest silhouette",
    axis="clusters",
    position=ARI.position,
    low=0,
)
ARI_OF_CHOSEN = replace(ARI, key="ari_of_chosen_k", where=f"{ARI.where}, k chosen by silhouette", short="")


@configured
class Instruments(ClusterMeasure):
    """The clusters at the separator by other scores (AMI, homogeneity, completeness, silhouette); and without clusters,
    the silhouette of the tasks, and whether the nearest neighbours of a state have its task: at the separator, and at x
    among the states with the same x.

    Attributes:
        n_neighbors: how many neighbours vote for the task of a state.
    """

    metrics = (
        AMI,
        _at_separator("homogeneity", "homogeneity"),
        _at_separator("completeness", "completeness"),
        _at_separator("silhouette", "silhouette", "Silhouette of the clusters", least=-1),
        _at_separator("silhouette_of_tasks", "silhouette of tasks", "Silhouette of the tasks", least=-1),
        NEIGHBOURS,
        replace(NEIGHBOURS, key="neighbours_within_x", where="at x, within each value of x", position="input"),
    )
    positions = ("instruction_end", "input")
    splits = ("val",)
    n_neighbors: PositiveInt

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        tasks, labels = observation.labels["instruction_end"]["task"], observation.labels["input"]
        return columns(
            self.metrics,
            [
                (
                    layer.score(adjusted_mutual_information, tasks),
                    layer.score(homogeneity_score, tasks),
                    layer.score(completeness_score, tasks),
                    silhouette(states, layer.cluster_labels),
                    silhouette(states, tasks),
                    neighbour_accuracy(states, tasks, self.n_neighbors),
                    neighbour_accuracy(at_x, labels["task"], self.n_neighbors, among=labels["x"]),
                )
                for layer, states, at_x in zip(
                    clusters(observation, "instruction_end", self.clusterer),
                    observation.states["instruction_end"],
                    observation.states["input"],
                    strict=True,
                )
            ],
        )


@configured
class NumberOfClusters(ClusterMeasure):
    """The number of clusters at the separator with the highest silhouette, and the ARI with this and other numbers.

    Attributes:
        multiples: the numbers of clusters to try, as multiples of the number of tasks.
    """

    positions = ("instruction_end",)
    splits = ("val",)
    multiples: Annotated[list[PositiveFloat], Field(min_length=2)]

    def __post_init__(self) -> None:
        super().__post_init__()
        n_tasks, n_states = len(self.data.family.tasks), len(self.data.probe["val"])
        if (most := _k(max(self.multiples), n_tasks)) > n_states:
            raise UserError(
                f"measures.number_of_clusters.multiples={self.multiples} asks for {most} clusters of {n_states} "
                "states; lower them, or raise data.probe_size"
            )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (CHOSEN, ARI_OF_CHOSEN, *(ari_of_multiple(m) for m in dict.fromkeys(self.multiples) if m != 1))

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        tasks = observation.labels["instruction_end"]["task"]
        numbers = {multiple: _k(multiple, observation.n_tasks) for multiple in self.multiples}
        by_k = {k: clusters(observation, "instruction_end", self.clusterer, k) for k in sorted({*numbers.values()})}
        aris: dict[float, list[float]] = {k: [layer.ari(tasks) for layer in layers] for k, layers in by_k.items()}
        chosen: list[tuple[float, float]] = []
        for layer, states in enumerate(observation.states["instruction_end"]):
            scores = {k: silhouette(states, layers[layer].cluster_labels) for k, layers in by_k.items()}
            defined = [k for k, score in scores.items() if not math.isnan(score)]
            best = max(defined, key=scores.__getitem__, default=math.nan)
            chosen.append((best, aris[best][layer] if defined else math.nan))
        return columns((CHOSEN, ARI_OF_CHOSEN), chosen) | {
            ari_of_multiple(m): aris[k] for m, k in numbers.items() if m != 1
        }


def _k(multiple: float, n_tasks: int) -> int:
    return max(2, round(multiple * n_tasks))


def ari_of_multiple(multiple: float) -> Metric:
    """The ARI with another number of clusters than the tasks."""
    return replace(
        ARI,
        key=f"ari_of_k_times_{multiple:g}".replace(".", "_"),
        where=f"{ARI.where}, k = {multiple:g} times the tasks",
        short="",
    )


def silhouette(states: Tensor, labels: Tensor) -> float:
    """The mean silhouette (Rousseeuw, 1987) of labels (N,) of states (N, D), in float64; of at most SAMPLE states. NaN
    with one cluster, or as many as states, or where a state is not finite."""
    if not bool(states.isfinite().all()) or not 1 < len(labels.unique()) < len(labels):
        return math.nan
    wide = states.cpu().double().numpy()
    with config_context(working_memory=MEMORY):
        if len(wide) <= SAMPLE:
            return float(silhouette_score(wide, labels.numpy()))
        return float(np.mean(_silhouettes(wide, labels.numpy(), sampled(len(wide)).numpy())))


def sampled(n: int) -> Tensor:
    """Which of n states a mean is taken over, (M,), the same on every call."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:SAMPLE].sort().values


def _silhouettes(states: np.ndarray, labels: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The silhouettes of the states numbered `which` (M,) among all (N, D), with labels (N,)."""
    order = labels.argsort(kind="stable")
    starts, clusters, sizes = np.unique(labels[order], return_index=True, return_inverse=True, return_counts=True)[1:]
    place, cluster = np.empty_like(order), np.empty_like(order)
    place[order], cluster[order] = np.arange(len(order)), clusters

    def of_rows(distances: np.ndarray, start: int) -> np.ndarray:
        rows, numbers = np.arange(len(distances)), which[start : start + len(distances)]
        distances[rows, place[numbers]] = 0  # of a state to itself
        means, own = np.add.reduceat(distances, starts, axis=1), cluster[numbers]
        within = means[rows, own] / np.maximum(sizes[own] - 1, 1)
        means /= sizes
        means[rows, own] = np.inf
        other = means.min(1)
        silhouettes: np.ndarray = (other - within) / np.maximum(np.maximum(within, other), np.finfo(float).tiny)
        return silhouettes * (sizes[own] > 1)

    return np.concatenate([*pairwise_distances_chunked(states[which], states[order], reduce_func=of_rows)])


def neighbour_accuracy(states: Tensor, labels: Tensor, n_neighbors: int, among: Tensor | None = None) -> float:
    """The share of states (N, D) whose label (N,) is that of most of their nearest others (leave-one-out), in float64;
    of at most SAMPLE states.

    Ties go to the label of the nearest. among (N,): neighbours are those for which it agrees. States that have no other
    of their label there cannot be right and are left out; NaN with none left, or where a state is not finite.
    """
    if not bool(states.isfinite().all()):
        return math.nan
    wide, correct = states.detach().cpu().double(), [torch.empty(0, dtype=torch.bool)]
    group = torch.zeros_like(labels) if among is None else among
    asked = torch.zeros_like(labels, dtype=torch.bool).index_fill(0, sampled(len(labels)), True)
    for rows in (group[:, None] == group.unique()).T:
        k, classes = min(n_neighbors, int(rows.sum()) - 1), labels[rows].unique(return_inverse=True)[1]
        which = asked[rows].nonzero().squeeze(1)
        if k == 0 or len(which) == 0:
            continue
        with config_context(working_memory=MEMORY):
            near = NearestNeighbors(n_neighbors=k + 1).fit(wide[rows].numpy())
            nearest = torch.as_tensor(near.kneighbors(wide[rows][which].numpy(), return_distance=False))
        others = nearest != which[:, None]
        others[others.all(1), 0] = False  # as many states are equal to it
        voters = classes[nearest[others].view(-1, k)]
        # The nearest outweighs all others of a tie, and none outweighs a vote.
        votes = 1 + 0.5 ** torch.arange(2, k + 2).double()
        elected = ((voters[:, :, None] == voters[:, None]) * votes).sum(2).argmax(1, keepdim=True)
        right = voters.gather(1, elected).squeeze(1) == classes[which]
        correct.append(right[torch.bincount(classes)[classes[which]] > 1])
    return float(torch.cat(correct).double().mean())
