"""Whether states form clusters of tasks: those of the states of every layer, found without labels, scored against them.

ARI is the adjusted Rand index (Hubert and Arabie, 1985), NMI the normalized mutual information, inertia the summed
squared distance of states to their centroids.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from taskcluster.data.rows import Position
from taskcluster.measures.clusters import ClusterMeasure, clusters, clusters_within
from taskcluster.measures.measure import Values, columns, configured
from taskcluster.measures.observation import Observation
from taskcluster.measures.statistics.agreement import split_by_part
from taskcluster.metrics import ARI, INERTIA, NMI, Metric, at_x


@configured
class Clustering(ClusterMeasure):
    """Clusters of the states at the separator, where the model has read an instruction and nothing else (the paper's
    measure): ARI and NMI with the task, and the inertia; where tasks have several descriptions, the ARI within a
    description and across those of a task too."""

    positions = ("instruction_end",)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        family = self.data.family
        return (ARI, NMI, INERTIA, *(split_metrics(family.words) if family.has_kinds_of_instructions else ()))

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        labels = observation.labels["instruction_end"]
        task, description = labels["task"], labels["description"]
        layers = clusters(observation, "instruction_end", self.clusterer)
        numbers: list[list[float]] = [[layer.ari(task), layer.nmi(task), layer.inertia] for layer in layers]
        if self.data.family.has_kinds_of_instructions:
            for row, layer in zip(numbers, layers, strict=True):
                row += split_by_part(task, description, layer.cluster_labels) if row[2] == row[2] else [math.nan] * 2
        return columns(self.metrics, numbers)


@configured
class ClusteringAtX(ClusterMeasure):
    """Clusters of the states at x: over all of them as at the separator, and inside each value of x, where no cluster
    can be one of x: ARI with the task, and with y.

    Attributes:
        at: "input", the last token of x, or "answer", the token that predicts y.
    """

    at: Literal["input", "answer"] = "input"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return at_x(self.at)

    @property
    def positions(self) -> tuple[Position, ...]:
        return (self.at,)

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        task, y = (observation.labels[self.at][name] for name in ("task", "y"))
        layers = clusters(observation, self.at, self.clusterer)
        within = clusters_within(observation, self.at, self.clusterer)
        return columns(
            self.metrics,
            [
                (layer.ari(task), layer.nmi(task), layer.inertia, by_x.ari(task), by_x.ari(y))
                for layer, by_x in zip(layers, within, strict=True)
            ],
        )


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
