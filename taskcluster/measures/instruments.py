"""What instruments beside the ARI say of the same states: other scores of the same clusters, and geometry without any.

AMI is the adjusted mutual information (Vinh, Epps and Bailey, 2010), homogeneity and completeness those of Rosenberg
and Hirschberg (2007), whose harmonic mean, the V-measure, equals the NMI that `clustering` gives.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

from pydantic import PositiveInt
from sklearn.metrics import adjusted_mutual_info_score, homogeneity_completeness_v_measure
from torch import Tensor

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position
from taskcluster.measures import readings
from taskcluster.measures.clusterer import Clusterer, Clusters
from taskcluster.measures.clustering import OfClusters
from taskcluster.measures.clusters import clusters
from taskcluster.measures.geometry import silhouettes, told_by_neighbours
from taskcluster.measures.measure import Values, by_layer
from taskcluster.measures.observation import Observation
from taskcluster.metrics import Metric
from taskcluster.validation import validated


class Instruments(OfClusters):
    """The clusters at the separator by other scores (AMI, homogeneity, completeness, silhouette); and without clusters,
    the silhouette of the tasks, and whether the nearest neighbours of a state have its task: at the separator, and at x
    among the states with the same x.

    Attributes:
        n_neighbors: of a state, that vote.
    """

    metrics: ClassVar[tuple[Metric, ...]] = readings.OF_CLUSTERS
    positions: ClassVar[tuple[Position, ...]] = ("instruction_end", "input")
    splits = ("val",)

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        clusterer: Clusterer,
        n_neighbors: PositiveInt,
        every_n_steps: PositiveInt | None,
    ) -> None:
        super().__init__(data, clusterer, every_n_steps)
        self._n = n_neighbors

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        tasks, at_x = observation.labels["instruction_end"]["task"], observation.labels["input"]
        found = clusters(observation, "instruction_end", self.clusterer)
        scores = [_scores(of_layer, tasks) for of_layer in found]
        silhouette, of_tasks, neighbours = self._geometry(observation, found, tasks)
        within_x = by_layer(
            observation.states["input"],
            lambda part: {"": [told_by_neighbours(layer, at_x["task"], self._n, at_x["x"]) for layer in part]},
        )[""]
        columns = (*zip(*scores, strict=True), silhouette, of_tasks, neighbours, within_x)
        return dict(zip(readings.OF_CLUSTERS, columns, strict=True))

    def _geometry(
        self, seen: Observation, found: list[Clusters], tasks: Tensor
    ) -> tuple[list[float], list[float], list[float]]:
        """Silhouettes of the clusters and of the tasks, and the neighbours, each one number a layer."""
        numbers = []
        for states, of_layer in zip(seen.states["instruction_end"], found, strict=True):
            by_labels = silhouettes(states, [of_layer.cluster_labels, tasks])
            numbers.append((*by_labels, told_by_neighbours(states, tasks, self._n)))
        clusters_, of_tasks, neighbours = zip(*numbers, strict=True)
        return list(clusters_), list(of_tasks), list(neighbours)


def _scores(found: Clusters, truth: Tensor) -> tuple[float, float, float]:
    """AMI, homogeneity and completeness."""
    if math.isnan(found.inertia):
        return math.nan, math.nan, math.nan
    labels = found.cluster_labels
    homogeneity, completeness, _ = homogeneity_completeness_v_measure(truth, labels)
    return float(adjusted_mutual_info_score(truth, labels)), float(homogeneity), float(completeness)
