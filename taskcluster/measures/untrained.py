"""A baseline of the ARI: the same clustering of the states of the same network with random weights."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import PositiveInt

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.clusterer import Clusterer
from taskcluster.measures.clusters import clusters_scored
from taskcluster.measures.comparisons import AT, Scored, of_untrained, scores
from taskcluster.measures.measure import Measure, Values
from taskcluster.measures.observation import Observation, observe
from taskcluster.metrics import Metric
from taskcluster.models.from_scratch import with_random_weights
from taskcluster.validation import Seed, validated


class Untrained(Measure):
    """A network of the same architecture with random weights, on the probe set of validation. For a run from scratch,
    with the run's own seed, its states are those of step 0. It is there while it is measured: the weights once more.

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
        network = with_random_weights(observation.network, self._seed)
        seen, found = observe(network, self._data, observation.split, self._at), dict[Metric, Values]()
        for score in self._scores:
            tasks = seen.labels[score.position]["task"]
            found[of_untrained(score.metric)] = [
                own.ari(tasks) for own in clusters_scored(seen, score, self._clusterer)
            ]
        return found
