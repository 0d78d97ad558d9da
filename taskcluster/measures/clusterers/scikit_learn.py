"""Gaussian mixtures and agglomerative clustering by scikit-learn, on float64.

in:  states (N, D), and the number of clusters
out: their Clusters
"""

import warnings
from abc import abstractmethod
from dataclasses import field
from typing import Literal

import numpy as np
import sklearn.mixture
import torch
from pydantic import ConfigDict, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from sklearn.cluster import AgglomerativeClustering
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from taskcluster.measures.clusterers.clusterer import Clusterer, Clusters, undefined
from taskcluster.validation import Seed


class UnitScaleClusterer(Clusterer):
    """A clusterer of arrays around their mean, divided by their root mean square: thresholds that are numbers mean the
    same in every layer."""

    @abstractmethod
    def labels(self, states: np.ndarray, n_clusters: int) -> np.ndarray:
        """The cluster (N,) of each of finite states (N, D), N at least 2."""

    def fit(self, states: Tensor, n_clusters: int) -> Clusters:
        wide = states.detach().cpu().double()
        if not bool(wide.isfinite().all()):
            return undefined(states, n_clusters)
        centred = wide.numpy() - wide.numpy().mean(0)
        scaled = centred / (np.sqrt(np.mean(centred**2)) or 1.0)
        labels = torch.as_tensor(self.labels(scaled, n_clusters) if len(states) > 1 else [0]).long()
        sizes = torch.bincount(labels, minlength=n_clusters)[:, None]
        sums = wide.new_zeros(n_clusters, wide.shape[1]).index_add_(0, labels, wide)
        centroids = torch.where(sizes > 0, sums / sizes.clamp(min=1), wide.mean(0))  # an empty cluster gets the mean
        inertia = (wide - centroids[labels]).square().sum()
        return Clusters(labels.to(states.device), centroids.to(states), float(inertia))


@dataclass(frozen=True, config=ConfigDict(strict=True))
class Agglomerative(UnitScaleClusterer):
    """Hierarchical clustering (Ward, "Hierarchical Grouping to Optimize an Objective Function", 1963), cut at k.

    Attributes:
        n_clusters: k over all tasks; None for the number of tasks.
        linkage: "ward" joins the two clusters whose union adds the least inertia; "average", "complete" and "single"
            those whose mean, largest or smallest distance between states is the least.
        seed: of what measures draw. The clustering is deterministic, so clusterers of all seeds are equal.
    """

    n_clusters: PositiveInt | None
    linkage: Literal["ward", "average", "complete", "single"]
    seed: Seed = field(compare=False)

    def labels(self, states: np.ndarray, n_clusters: int) -> np.ndarray:
        return np.asarray(AgglomerativeClustering(n_clusters, linkage=self.linkage).fit_predict(states))


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
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct states than clusters
            return np.asarray(mixture.fit_predict(states))
