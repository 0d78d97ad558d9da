"""How many clusters there are, by an instrument that sees no label, and what the ARI makes of other numbers.

in:  states at the separator, and the number of tasks
out: for every layer the number of clusters with the highest silhouette, the ARI with it, and the ARI with each number
"""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position
from taskcluster.measures import readings
from taskcluster.measures.clusterer import Clusterer
from taskcluster.measures.clustering import OfClusters
from taskcluster.measures.clusters import clusters
from taskcluster.measures.geometry import silhouettes
from taskcluster.measures.measure import Values
from taskcluster.measures.observation import Observation
from taskcluster.metrics import Metric
from taskcluster.validation import UserError, validated

MULTIPLES = (0.5, 0.7, 1.0, 1.4, 2.0)


class NumberOfClusters(OfClusters):
    """The number of clusters at the separator that has the highest silhouette, and the ARI with this and with other
    numbers.

    Attributes:
        multiples: the numbers that are tried, as multiples of the number of tasks.
    """

    metrics: ClassVar[tuple[Metric, ...]] = readings.of_numbers(MULTIPLES)
    positions: ClassVar[tuple[Position, ...]] = ("instruction_end",)
    splits = ("val",)

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        clusterer: Clusterer,
        multiples: Annotated[list[PositiveFloat], Field(min_length=2)],
        every_n_steps: PositiveInt | None,
    ) -> None:
        super().__init__(data, clusterer, every_n_steps)
        n_tasks, n_states = len(data.family.tasks), len(data.probe["val"])
        self._multiples = list(dict.fromkeys(multiples))
        if (most := self._k(max(multiples), n_tasks)) > n_states:
            raise UserError(
                f"measures.number_of_clusters.multiples={multiples} asks for {most} clusters of {n_states} states; "
                "lower them, or raise data.probe_size"
            )
        self.metrics = readings.of_numbers(self._multiples)  # type: ignore[misc]  # which numbers are configured

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        tasks = observation.labels["instruction_end"]["task"]
        numbers = {multiple: self._k(multiple, observation.n_tasks) for multiple in self._multiples}
        found = {k: clusters(observation, "instruction_end", self.clusterer, k) for k in sorted({*numbers.values()})}
        chosen = []
        for layer, states in enumerate(observation.states["instruction_end"]):
            scores = silhouettes(states, [of_k[layer].cluster_labels for of_k in found.values()])
            by_k = {k: score for k, score in zip(found, scores, strict=True) if not math.isnan(score)}
            chosen.append(max(by_k, key=by_k.__getitem__) if by_k else None)
        aris = {k: [of_layer.ari(tasks) for of_layer in of_k] for k, of_k in found.items()}
        of_chosen = [math.nan if k is None else aris[k][layer] for layer, k in enumerate(chosen)]
        return {
            readings.CHOSEN: [math.nan if k is None else k for k in chosen],
            readings.ARI_OF_CHOSEN: of_chosen,
            **{readings.ari_of_multiple(m): aris[k] for m, k in numbers.items() if m != 1},
        }

    def _k(self, multiple: float, n_tasks: int) -> int:
        return max(2, round(multiple * n_tasks))
