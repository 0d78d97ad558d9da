"""A baseline of the ARI: the same clustering of the states of a network that was not trained."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import PositiveInt

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.clusterer import Clusterer
from taskcluster.measures.clusters import clusters, clusters_within
from taskcluster.measures.comparisons import AT, Scored, of_untrained, scores
from taskcluster.measures.measure import Measure, Values
from taskcluster.measures.observation import Observation, observe
from taskcluster.metrics import Metric
from taskcluster.models.from_scratch import fresh
from taskcluster.validation import Seed, validated


class Untrained(Measure):
    """A network of the same architecture with fresh weights, on the probe set of validation. For a run from scratch,
    with the run's own seed, its states are those of step 0.

    Attributes:
        at: positions whose ARI it is a baseline of.
    """

    metrics: ClassVar[tuple[Metric, ...]] = tuple(of_untrained(s.metric) for s in scores(AT))
    splits = ("val",)

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        clusterer: Clusterer,
        every_n_steps: PositiveInt | None,
        seed: Seed,
        at: list[Scored],
    ) -> None:
        super().__init__(every_n_steps)
        self._data, self._clusterer, self._seed, self._at = data, clusterer, seed, at
        self._scores = scores(at)
        self.metrics = tuple(of_untrained(score.metric) for score in self._scores)  # type: ignore[misc]

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        trained = observation.network
        network = fresh(type(trained), trained.config, self._seed)
        network.to(trained.device)  # type: ignore[arg-type]  # transformers wraps it without types
        seen, found = observe(network, self._data, observation.split, self._at), dict[Metric, Values]()
        for score in self._scores:
            tasks, of = seen.labels[score.position]["task"], clusters_within if score.within else clusters
            found[of_untrained(score.metric)] = [own.ari(tasks) for own in of(seen, score.position, self._clusterer)]
        return found
