"""Whether states form clusters of tasks: those of the states of every layer, found without labels, scored against them.

ARI is the adjusted Rand index (Hubert and Arabie, 1985), NMI the normalized mutual information, inertia the summed
squared distance of states to their centroids.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import PositiveInt

from taskcluster import metrics
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position
from taskcluster.measures.clusterer import Clusterer
from taskcluster.measures.clusters import clusters, clusters_within
from taskcluster.measures.comparisons import of_split
from taskcluster.measures.measure import Measure, Values
from taskcluster.measures.observation import Observation
from taskcluster.metrics import Metric
from taskcluster.validation import UserError, validated


class OfClusters(Measure):
    """A measure of what the run's clusterer finds. Raises UserError for more clusters than there are states."""

    @validated
    def __init__(self, data: SequenceDataModule, clusterer: Clusterer, every_n_steps: PositiveInt | None) -> None:
        super().__init__(every_n_steps)
        self.clusterer = clusterer
        k = clusterer.k(len(data.family.tasks))
        fewest = min(len(rows) for rows in data.probe.values())
        if k > fewest:
            raise UserError(
                f"clusterer.n_clusters={k} exceeds the {fewest} states of the smallest probe; lower it, or raise "
                "data.probe_size"
            )

    def _scores(self, seen: Observation, at: Position) -> tuple[list[float], list[float], list[float]]:
        """ARI and NMI with the task, and inertia, of the clusters of all states at a position."""
        found, tasks = clusters(seen, at, self.clusterer), seen.labels[at]["task"]
        return [own.ari(tasks) for own in found], [own.nmi(tasks) for own in found], [own.inertia for own in found]


class Clustering(OfClusters):
    """Clusters of the states at the separator, where the model has read an instruction and nothing else (the paper's
    measure): ARI and NMI with the task, and the inertia; where tasks have several descriptions, the ARI within a
    description and across those of a task too."""

    metrics: ClassVar[tuple[Metric, ...]] = (metrics.ARI, metrics.NMI, metrics.INERTIA)
    positions: ClassVar[tuple[Position, ...]] = ("instruction_end",)

    @validated
    def __init__(self, data: SequenceDataModule, clusterer: Clusterer, every_n_steps: PositiveInt | None) -> None:
        super().__init__(data, clusterer, every_n_steps)
        if data.family.has_kinds_of_instructions:
            self.metrics = (*Clustering.metrics, *of_split(data.family.words))  # type: ignore[misc]  # as the tasks are

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        values: list[list[float]] = [*self._scores(observation, "instruction_end")]
        if len(self.metrics) > len(values):
            labels = observation.labels["instruction_end"]
            found = clusters(observation, "instruction_end", self.clusterer)
            split = [own.ari_split(labels["task"], labels["description"]) for own in found]
            values += [list(kind) for kind in zip(*split, strict=True)]
        return dict(zip(self.metrics, values, strict=True))


class ClusteringAtX(OfClusters):
    """Clusters of the states at x: over all of them as at the separator, and inside each value of x, where no cluster
    can be one of x: ARI with the task, and with y.

    Attributes:
        at: "input", the last token of x, or "answer", the token that predicts y.
    """

    metrics: ClassVar[tuple[Metric, ...]] = tuple(metrics.at_x("input"))

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        clusterer: Clusterer,
        every_n_steps: PositiveInt | None,
        at: Literal["input", "answer"] = "input",
    ) -> None:
        super().__init__(data, clusterer, every_n_steps)
        self.positions, self.metrics = (at,), tuple(metrics.at_x(at))  # type: ignore[misc]  # where is configured

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        (at,) = self.positions
        labels, within = observation.labels[at], clusters_within(observation, at, self.clusterer)
        to_task, to_y = ([of_layer.ari(labels[name]) for of_layer in within] for name in ("task", "y"))
        return dict(zip(metrics.at_x(at), (*self._scores(observation, at), to_task, to_y), strict=True))
