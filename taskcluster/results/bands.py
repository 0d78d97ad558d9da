"""Bands that cover all means of a family at once with 95 %: the steps of a curve, the layers of a step, a map.

in:  values of runs in the family's cells, (R, K)
out: how many standard errors the band is wide on each side of the means

From MANY runs on the sup-t band, which uses the dependence between cells: the 95 % quantile of the largest |t| of as
many normal runs with the correlations that were estimated (Montiel Olea and Plagborg-Moller, "Simultaneous Confidence
Bands", Journal of Applied Econometrics 2019). The correlations are shrunk towards none (Schafer and Strimmer, "A
Shrinkage Approach to Large-Scale Covariance Matrix Estimation", 2005), as those of few runs are too strong. Below MANY
runs, Bonferroni's, which is hardly wider there.
"""

from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np

from taskcluster.results.bootstrap import MANY, labels_of
from taskcluster.results.statistics import CONFIDENCE, FEWEST, Moments, critical

DRAWS = 2000


def together(
    values: np.ndarray, labels: np.ndarray, found: Moments, families: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray]:
    """For the columns of values (R, M): how many standard errors wide the band of each one's family is, and how many
    cells with an interval the family has, each (M,). found: their moments; families: what each belongs to."""
    members: dict[Hashable, list[int]] = {}
    for column in np.flatnonzero(found.n >= FEWEST).tolist():
        members.setdefault(families[column], []).append(column)
    cells = np.array([len(members.get(family, ())) for family in families], dtype=int)
    times = critical(found.freedom, np.maximum(cells, 1))
    for columns in members.values():
        own = values[:, columns]
        there = np.isfinite(own).all(1)
        if there.sum() >= MANY and (found.n[columns] == there.sum()).all():  # the same runs in all cells
            times[columns] = sup_t(own[there], labels_of(labels[there].tolist(), int(there.sum())))
    return times, cells


def sup_t(values: np.ndarray, labels: np.ndarray) -> float:
    """The critical value of values (R, K), of finite numbers; labels: strata of the runs, (R,)."""
    names = np.unique(labels)
    freedom, cells = len(values) - len(names), values.shape[1]
    bonferroni = float(critical(freedom, cells))
    apart = values - np.array([values[labels == label].mean(0) for label in names])[np.searchsorted(names, labels)]
    spread = np.sqrt((apart**2).sum(0) / freedom)
    apart = apart[:, spread > 1e-12] / spread[spread > 1e-12]
    if apart.shape[1] < 2:
        return bonferroni
    weights, vectors = np.linalg.eigh(_shrunk(apart.T @ apart / freedom, freedom))
    root = (vectors * np.sqrt(np.maximum(weights, 0))).astype(np.float32)
    runs = root @ _normal(freedom + 1, apart.shape[1])
    mean = runs.mean(0)
    variance = np.einsum("nkd,nkd->kd", runs, runs) / freedom - mean**2 * ((freedom + 1) / freedom)
    largest = (mean**2 / variance).max(0) * (freedom + 1)
    return min(bonferroni, float(np.quantile(largest, CONFIDENCE)) ** 0.5)


def _shrunk(correlations: np.ndarray, freedom: int) -> np.ndarray:
    """Correlations (K, K), less by as much as their own variance asks for."""
    off = ~np.eye(len(correlations), dtype=bool)
    squares = correlations[off] ** 2
    share = np.clip(((1 - squares) ** 2).sum() / freedom / max(squares.sum(), 1e-12), 0, 1)
    return np.where(off, (1 - share) * correlations, 1.0)


@lru_cache(maxsize=8)
def _normal(n: int, cells: int) -> np.ndarray:
    """Standard normal draws (n, cells, DRAWS), always the same."""
    return np.random.default_rng([n, cells]).standard_normal((n, cells, DRAWS), dtype=np.float32)
