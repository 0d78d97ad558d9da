"""A baseline of the ARI: the same clustering of the states of the same network with random weights."""

from collections.abc import Mapping

from taskcluster.measures.clusters import Comparison
from taskcluster.measures.measure import Values, configured
from taskcluster.measures.observation import Observation, observe
from taskcluster.metrics import Metric, control
from taskcluster.models.from_scratch import with_random_weights
from taskcluster.validation import Seed


@configured
class Untrained(Comparison):
    """A network of the same architecture with random weights, on the probe set of validation. For a run from scratch,
    with the run's own seed, its states are those of step 0. It takes memory while it is measured: the weights once
    more.

    Attributes:
        at: positions whose ARI it is a baseline of.
        seed: of the weights.
    """

    seed: Seed
    positions = ()  # of the trained network

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(untrained_metric(score.metric) for score in self.scores)

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        network = with_random_weights(observation.network, self.seed)
        seen = observe(network, self.data, observation.split, self.at, **observation.workers)
        return {untrained_metric(score.metric): score.aris(seen, self.clusterer) for score in self.scores}


def untrained_metric(of: Metric) -> Metric:
    return control(of, "untrained", "baseline", "untrained network")
