"""Mixtures of Gaussians: clusters that differ in extent. scikit-learn's, on float64.

in:  problems, each states (N, D), and the number of clusters of each
out: a Clustering of each
"""

import warnings
from typing import Literal

import numpy as np
import sklearn.mixture
from pydantic import ConfigDict, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from sklearn.exceptions import ConvergenceWarning

from taskcluster.measures.clusterers.clusterer import UnitScaleClusterer
from taskcluster.validation import Seed


@dataclass(frozen=True, config=ConfigDict(strict=True))
class GaussianMixture(UnitScaleClusterer):
    """A mixture fitted by expectation maximization (Dempster, Laird and Rubin, 1977) from KMeans' clusters; a state
    belongs to its most probable component.

    Attributes:
        n_clusters: k over all tasks; None for the number of tasks.
        covariance: of a component: "spherical", one variance; "diag", one for each dimension; "full"; "tied", one full
            matrix for all.
        regularization: added to variances, of states whose mean variance is 1.
        n_init: number of restarts.
        seed: of the starting centroids.
    """

    n_clusters: PositiveInt | None
    covariance: Literal["spherical", "diag", "full", "tied"]
    regularization: PositiveFloat
    n_init: PositiveInt
    seed: Seed

    def labels(self, states: np.ndarray, n_clusters: int) -> np.ndarray:
        mixture = sklearn.mixture.GaussianMixture(
            n_clusters,
            covariance_type=self.covariance,
            reg_covar=self.regularization,
            n_init=self.n_init,
            random_state=self.seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer distinct states than clusters
            found: np.ndarray = mixture.fit_predict(states)
        return found
