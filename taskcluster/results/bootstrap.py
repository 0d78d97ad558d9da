"""Resampled runs, from MANY runs on: intervals of means and of interquartile means, and simultaneous bands.

in:  values of runs, (R, M), and the strata of the runs, (R,)
out: ends of intervals, each (M,)

Runs are drawn with replacement within their task sets, which are the strata (Agarwal et al., "Deep Reinforcement
Learning at the Edge of the Statistical Precipice", NeurIPS 2021): so the intervals are about these task sets, with new
weights, batches, probes and KMeans starts. If each run has a task set of its own, as in a sweep of `seed`, all runs are
one stratum, and the intervals are about new task sets too. The draws depend on the sizes of the strata alone, so the
same runs have the same intervals.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache

import numpy as np

MANY = 10  # runs from which a bootstrap covers as it says
FEWEST_IN_STRATUM = 4  # runs of a task set that show how much runs within it vary
RESAMPLES = 2000
CHUNK = 128  # columns at once, which fit into the cache
TIES = 0.001  # the share of resamples without variance above which they cannot be studentized


def strata(task_sets: Sequence[Hashable], n: int) -> np.ndarray:
    """The stratum of each of n runs: its task set, if each has FEWEST_IN_STRATUM runs or more, otherwise 0 for all."""
    counts = Counter(task_sets)
    if len(task_sets) != n or min(counts.values(), default=0) < FEWEST_IN_STRATUM:
        return np.zeros(n, dtype=int)
    return np.array([[*counts].index(task_set) for task_set in task_sets])


def blocks(values: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Group the columns of values (R, M) that have at least MANY finite values by which runs have them: indices of the
    columns, their values (n, columns), and the strata of these runs (n,)."""
    finite = np.isfinite(values)
    enough = np.flatnonzero(finite.sum(0) >= MANY)
    if not len(enough):
        return
    patterns, inverse = np.unique(finite[:, enough], axis=1, return_inverse=True)
    for k, runs in enumerate(patterns.T):
        columns = enough[inverse.reshape(-1) == k]
        yield columns, values[np.ix_(runs, columns)], strata(labels[runs].tolist(), int(runs.sum()))


def studentized(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Ends (2, M) of 95 % intervals for the means of values (n, M): the bootstrap-t, which of the bootstraps covers
    best where values are skewed (Hall, "Theoretical Comparison of Bootstrap Confidence Intervals", Annals of Statistics
    1988). NaN where too many resamples have no variance because most values are the same.
    """
    ordered = values[np.argsort(labels, kind="stable")]
    sizes = tuple(np.unique(labels, return_counts=True)[1].tolist())
    chunks = range(0, values.shape[1], CHUNK)
    return np.concatenate([_studentized(ordered[:, k : k + CHUNK], sizes) for k in chunks], axis=1)


def _studentized(values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """The same for runs in the order of their strata, whose sizes are given."""
    counts, groups = _counts(sizes), np.split(np.arange(len(values)), np.cumsum(sizes)[:-1])
    scale = np.maximum(values.std(0), np.finfo(float).tiny)
    residuals = np.concatenate([values[group] - values[group].mean(0) for group in groups]) / scale
    error = sum(len(group) * residuals[group].var(0, ddof=1) for group in groups)  # of the sum over runs, squared
    residuals = residuals.astype(np.float32)
    total, square = np.zeros((2, len(counts), values.shape[1]), dtype=np.float32)
    for group in groups:
        drawn = counts[:, group] @ residuals[group]
        total += drawn
        squares = counts[:, group] @ residuals[group] ** 2
        square += (squares - drawn**2 / np.float32(len(group))) * np.float32(len(group) / (len(group) - 1))
    least = np.asarray(1e-6 * error, dtype=np.float32)
    tied = (square <= least).mean(0) > TIES
    t = total / np.sqrt(np.maximum(square, np.maximum(least, np.finfo(np.float32).tiny)))
    ranks = [round(0.975 * (len(counts) - 1)), round(0.025 * (len(counts) - 1))]
    quantiles = np.partition(t.T.copy(), ranks, axis=1)[:, ranks].T
    return np.where(tied, np.nan, values.mean(0) - quantiles * np.sqrt(error) * scale / len(values))


def interquartile_means(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Interquartile means of the columns of values (R, M) with lower and upper ends of 95 % intervals, (3, M); NaN for
    columns with fewer than MANY runs.

    The mean without the lowest and the highest quarter, each rounded down (as in rliable). The interval has percentiles
    of resamples at the level of Student's t, widened for strata (after Hesterberg, "What Teachers Should Know about the
    Bootstrap", American Statistician 2015), so its ends are within the values.
    """
    from scipy.special import ndtr, stdtrit

    means = np.full((3, values.shape[1]), np.nan)
    for columns, block, block_strata in blocks(values, labels):
        n, freedom = len(block), len(block) - len(np.unique(block_strata))
        level = ndtr(stdtrit(freedom, 0.025) * np.sqrt((n - 1) / freedom))
        for column, run_values in zip(columns, block.T, strict=True):
            order = np.argsort(run_values, kind="stable")
            ranked, middle = run_values[order], _middle_ranks(tuple(block_strata[order].tolist()))
            means[0, column] = ranked[n // 4 : n - n // 4].mean()
            means[1:, column] = np.quantile(ranked[middle].mean(1), (level, 1 - level))
    return means


def sup_t(values: np.ndarray, labels: np.ndarray, confidence: float) -> float:
    """The critical value of a band that covers the means of all columns of values (R, K), finite numbers, at once.

    The quantile of the largest |t| of as many normal runs with the estimated correlations (Montiel Olea and
    Plagborg-Moller, "Simultaneous Confidence Bands", Journal of Applied Econometrics 2019). The correlations are shrunk
    towards none (Schafer and Strimmer, "A Shrinkage Approach to Large-Scale Covariance Matrix Estimation", 2005), as
    those of few runs are too strong. Infinite if fewer than two columns vary.
    """
    names = np.unique(labels)
    freedom = len(values) - len(names)
    residuals = values - np.array([values[labels == name].mean(0) for name in names])[np.searchsorted(names, labels)]
    spread = np.sqrt((residuals**2).sum(0) / freedom)
    residuals = residuals[:, spread > 1e-12] / spread[spread > 1e-12]
    if residuals.shape[1] < 2:
        return math.inf
    correlations = residuals.T @ residuals / freedom
    off = ~np.eye(len(correlations), dtype=bool)
    squares = correlations[off] ** 2
    share = np.clip(((1 - squares) ** 2).sum() / freedom / max(squares.sum(), 1e-12), 0, 1)
    weights, vectors = np.linalg.eigh(np.where(off, (1 - share) * correlations, 1.0))
    root = (vectors * np.sqrt(np.maximum(weights, 0))).astype(np.float32)
    runs = root @ _normal(freedom + 1, residuals.shape[1])
    mean = runs.mean(0)
    variance = np.einsum("nkd,nkd->kd", runs, runs) / freedom - mean**2 * ((freedom + 1) / freedom)
    largest = (mean**2 / variance).max(0) * (freedom + 1)
    return float(np.quantile(largest, confidence)) ** 0.5


def _draws(groups: Sequence[np.ndarray]) -> np.ndarray:
    """Indices (RESAMPLES, n) of runs, drawn within groups of indices."""
    random = np.random.default_rng([len(group) for group in groups])
    return np.concatenate([random.choice(group, (RESAMPLES, len(group))) for group in groups], axis=1)


@lru_cache(maxsize=64)
def _counts(sizes: tuple[int, ...]) -> np.ndarray:
    """How often each run is in each resample, (RESAMPLES, n), for runs in the order of their strata."""
    n = sum(sizes)
    draws = _draws(np.split(np.arange(n), np.cumsum(sizes)[:-1])) + n * np.arange(RESAMPLES)[:, None]
    return np.bincount(draws.reshape(-1), minlength=n * RESAMPLES).reshape(RESAMPLES, n).astype(np.float32)


@lru_cache(maxsize=64)
def _middle_ranks(pattern: tuple[int, ...]) -> np.ndarray:
    """The ranks of the values between the quartiles of each resample, (RESAMPLES, n / 2); pattern: strata of the ranked
    values."""
    labels, n = np.array(pattern), len(pattern)
    ranks = np.sort(_draws([np.flatnonzero(labels == label) for label in np.unique(labels)]), axis=1)
    return ranks[:, n // 4 : n - n // 4]


@lru_cache(maxsize=8)
def _normal(n: int, cells: int) -> np.ndarray:
    """Standard normal draws (n, cells, RESAMPLES), always the same."""
    return np.random.default_rng([n, cells]).standard_normal((n, cells, RESAMPLES), dtype=np.float32)
