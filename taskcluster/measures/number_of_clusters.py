"""How many clusters there are, by a score that sees no label, and what the ARI makes of other numbers.

in:  states at the separator, and the number of tasks
out: for every layer the number of clusters with the highest silhouette, the ARI with it, and the ARI with each number
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import Field, PositiveFloat

from taskcluster.measures.clusters import ClusterMeasure, clusters
from taskcluster.measures.geometry import silhouette
from taskcluster.measures.measure import Values, columns, configured
from taskcluster.measures.observation import Observation
from taskcluster.metrics import ARI, Metric
from taskcluster.validation import UserError

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
class NumberOfClusters(ClusterMeasure):
    """The number of clusters at the separator that has the highest silhouette, and the ARI with this and with other
    numbers.

    Attributes:
        multiples: the numbers that are tried, as multiples of the number of tasks.
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
        aris = {k: [layer.ari(tasks) for layer in layers] for k, layers in by_k.items()}
        chosen: list[tuple[float, float]] = []
        for layer, states in enumerate(observation.states["instruction_end"]):
            scores = {k: silhouette(states, layers[layer].cluster_labels) for k, layers in by_k.items()}
            defined = [k for k, score in scores.items() if not math.isnan(score)]
            best = max(defined, key=scores.__getitem__, default=None)
            chosen.append((math.nan, math.nan) if best is None else (best, aris[best][layer]))
        others = {ari_of_multiple(m): aris[k] for m, k in numbers.items() if m != 1}
        return columns((CHOSEN, ARI_OF_CHOSEN), chosen) | others


def _k(multiple: float, n_tasks: int) -> int:
    return max(2, round(multiple * n_tasks))


def ari_of_multiple(multiple: float) -> Metric:
    """The ARI with another number of clusters than the tasks."""
    where = f"{ARI.where}, k = {multiple:g} times the tasks"
    return replace(ARI, key=f"ari_of_k_times_{f'{multiple:g}'.replace('.', '_')}", where=where, short="")
