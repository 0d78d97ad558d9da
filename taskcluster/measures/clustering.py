"""Whether states form clusters of tasks: KMeans on the states of every layer, which sees no label, scored against them.

ARI is the adjusted Rand index (Hubert and Arabie, 1985), NMI the normalized mutual information, inertia the summed
squared distance of states to their centroids.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import PositiveInt
from torch import Tensor

from taskcluster import metrics
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position
from taskcluster.measures.kmeans import KMeans
from taskcluster.measures.measure import Measure, Values, by_layer
from taskcluster.measures.observation import Observation
from taskcluster.metrics import Metric
from taskcluster.validation import UserError, validated


class _Clustering(Measure):
    """With the run's KMeans. Raises UserError for more clusters than there are states."""

    @validated
    def __init__(self, data: SequenceDataModule, clusterer: KMeans, every_n_steps: PositiveInt | None) -> None:
        super().__init__(every_n_steps)
        self.clusterer = clusterer
        k = clusterer.k(len(data.family.tasks))
        fewest = min(len(rows) for rows in data.probe.values())
        if k > fewest:
            raise UserError(
                f"clusterer.n_clusters={k} exceeds the {fewest} states of the smallest probe; lower it, or raise "
                "data.probe_size"
            )

    def _scores(self, states: Tensor, seen: Observation, tasks: Tensor) -> dict[str, list[float]]:
        k = self.clusterer.k(seen.n_tasks)
        return by_layer(states, lambda part: self.clusterer.score_layers(part, tasks, k))


class Clustering(_Clustering):
    """Clusters of the states at the separator, where the model has read an instruction and nothing else (the paper's
    measure): ARI and NMI with the task, and the inertia."""

    metrics: ClassVar[tuple[Metric, ...]] = (metrics.ARI, metrics.NMI, metrics.INERTIA)
    positions: ClassVar[tuple[Position, ...]] = ("instruction_end",)

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        states, labels = observation.states["instruction_end"], observation.labels["instruction_end"]
        scores = self._scores(states, observation, labels["task"])
        return {metrics.ARI: scores["ari"], metrics.NMI: scores["nmi"], metrics.INERTIA: scores["inertia"]}


class ClusteringAtX(_Clustering):
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
        clusterer: KMeans,
        every_n_steps: PositiveInt | None,
        at: Literal["input", "answer"] = "input",
    ) -> None:
        super().__init__(data, clusterer, every_n_steps)
        self.positions, self.metrics = (at,), tuple(metrics.at_x(at))  # type: ignore[misc]  # where is configured

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        (at,) = self.positions
        states, labels = observation.states[at], observation.labels[at]
        tasks, truths = labels["task"], {"task": labels["task"], "y": labels["y"]}
        found = self._scores(states, observation, tasks)
        within = by_layer(states, lambda part: self.clusterer.score_layers_within(part, labels["x"], tasks, truths))
        values = (found["ari"], found["nmi"], found["inertia"], within["task"], within["y"])
        return dict(zip(metrics.at_x(at), values, strict=True))
