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
from taskcluster.measures.measure import Values
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
        at_separator, at_x = observation.states["instruction_end"], observation.states["input"]
        tasks, labels = observation.labels["instruction_end"]["task"], observation.labels["input"]
        found = clusters(observation, "instruction_end", self.clusterer)
        numbers = [
            (
                *_scores(of_layer, tasks),
                *silhouettes(states, [of_layer.cluster_labels, tasks]),
                told_by_neighbours(states, tasks, self._n),
                told_by_neighbours(with_x, labels["task"], self._n, among=labels["x"]),
            )
            for of_layer, states, with_x in zip(found, at_separator, at_x, strict=True)
        ]
        return dict(zip(readings.OF_CLUSTERS, map(list, zip(*numbers, strict=True)), strict=True))


def _scores(found: Clusters, truth: Tensor) -> tuple[float, float, float]:
    """AMI, homogeneity and completeness."""
    if math.isnan(found.inertia):
        return math.nan, math.nan, math.nan
    labels = found.cluster_labels
    homogeneity, completeness, _ = homogeneity_completeness_v_measure(truth, labels)
    return float(adjusted_mutual_info_score(truth, labels)), float(homogeneity), float(completeness)
