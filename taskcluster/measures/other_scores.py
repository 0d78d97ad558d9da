"""Other scores of the same states than the ARI: of the same clusters, and by distances, without any clusters.

AMI is the adjusted mutual information (Vinh, Epps and Bailey, 2010), homogeneity and completeness those of Rosenberg
and Hirschberg (2007), whose harmonic mean, the V-measure, equals the NMI that `clustering` gives.
"""

from collections.abc import Mapping
from dataclasses import replace

from pydantic import PositiveInt
from sklearn.metrics import adjusted_mutual_info_score, completeness_score, homogeneity_score

from taskcluster.measures.clusters import ClusterMeasure, clusters
from taskcluster.measures.geometry import neighbour_accuracy, silhouette
from taskcluster.measures.measure import Values, columns, configured
from taskcluster.measures.observation import Observation
from taskcluster.metrics import ARI, Metric


def _at_separator(key: str, name: str, label: str = "", least: float | None = None) -> Metric:
    return Metric(key, name, ARI.where, label=label, position=ARI.position, low=0, high=1, least=least)


AMI = replace(_at_separator("ami", "AMI", "AMI of clusters and tasks", least=-1), chance=0)
HOMOGENEITY = _at_separator("homogeneity", "homogeneity")
COMPLETENESS = _at_separator("completeness", "completeness")
SILHOUETTE = _at_separator("silhouette", "silhouette", "Silhouette of the clusters", least=-1)
SILHOUETTE_OF_TASKS = _at_separator("silhouette_of_tasks", "silhouette of tasks", "Silhouette of the tasks", least=-1)
NEIGHBOURS = _at_separator("neighbours", "neighbours", "Tasks predicted by the nearest neighbours")
NEIGHBOURS_WITHIN_X = replace(
    NEIGHBOURS, key="neighbours_within_x", where="at x, within each value of x", position="input"
)


@configured
class Instruments(ClusterMeasure):
    """The clusters at the separator by other scores (AMI, homogeneity, completeness, silhouette); and without clusters,
    the silhouette of the tasks, and whether the nearest neighbours of a state have its task: at the separator, and at x
    among the states with the same x.

    Attributes:
        n_neighbors: of a state, that vote.
    """

    metrics = (AMI, HOMOGENEITY, COMPLETENESS, SILHOUETTE, SILHOUETTE_OF_TASKS, NEIGHBOURS, NEIGHBOURS_WITHIN_X)
    positions = ("instruction_end", "input")
    splits = ("val",)
    n_neighbors: PositiveInt

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        tasks, labels = observation.labels["instruction_end"]["task"], observation.labels["input"]
        layers = zip(
            clusters(observation, "instruction_end", self.clusterer),
            observation.states["instruction_end"],
            observation.states["input"],
            strict=True,
        )
        numbers = [
            (
                found.score(adjusted_mutual_info_score, tasks),
                found.score(homogeneity_score, tasks),
                found.score(completeness_score, tasks),
                silhouette(states, found.cluster_labels),
                silhouette(states, tasks),
                neighbour_accuracy(states, tasks, self.n_neighbors),
                neighbour_accuracy(at_x, labels["task"], self.n_neighbors, among=labels["x"]),
            )
            for found, states, at_x in layers
        ]
        return columns(self.metrics, numbers)
