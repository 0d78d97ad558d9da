"""Intervals from resampled runs, from MANY runs on: of means, and of interquartile means.

in:  values of runs, (R, M), and labels of their task sets, (R,)
out: ends of intervals, each (M,)

Runs are drawn with replacement within their task sets, which are the strata (Agarwal et al., "Deep Reinforcement
Learning at the Edge of the Statistical Precipice", NeurIPS 2021): so the intervals are about these task sets, with new
weights, batches, probes and KMeans starts. Where runs have a task set each, as in a sweep of `seed`, all of them are
one stratum, and the intervals are about new task sets too. The draws follow from the sizes of the strata alone: the
same runs have the same intervals.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache

import numpy as np

MANY = 10  # runs from which a bootstrap covers as it says
FEWEST = 4  # runs of a task set that tell how much runs within it vary
RESAMPLES = 2000
AT_ONCE = 128  # columns, which stay in the cache
TIES = 0.001  # the share of resamples without variance above which they cannot be studentized


def labels_of(task_sets: Sequence[Hashable], n: int) -> np.ndarray:
    """Labels of the strata of n runs: of their task sets, if each has FEWEST runs or more, or else one for all."""
    counts = Counter(task_sets)
    if len(task_sets) != n or min(counts.values(), default=0) < FEWEST:
        return np.zeros(n, dtype=int)
    order = {task_set: k for k, task_set in enumerate(counts)}
    return np.array([order[task_set] for task_set in task_sets])


def blocks(values: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The columns of values (R, M) with MANY finite values or more, by which runs have them: indices of the columns,
    their values (n, columns), and the runs' labels (n,)."""
    there = np.isfinite(values)
    enough = np.flatnonzero(there.sum(0) >= MANY)
    if not len(enough):
        return
    patterns, inverse = np.unique(there[:, enough], axis=1, return_inverse=True)
    for k, pattern in enumerate(patterns.T):
        columns = enough[inverse.reshape(-1) == k]
        own = labels[pattern]
        yield columns, values[np.ix_(pattern, columns)], labels_of(own.tolist(), len(own))


def studentized(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Ends (2, M) of 95 % intervals for the means of values (n, M): the bootstrap-t, which of the bootstraps covers
    best where values are skewed (Hall, "Theoretical Comparison of Bootstrap Confidence Intervals", Annals of Statistics
    1988). NaN where too many resamples have no variance, as most values are the same.
    """
    order = np.argsort(labels, kind="stable")
    sizes = tuple(np.unique(labels, return_counts=True)[1].tolist())
    parts = range(0, values.shape[1], AT_ONCE)
    return np.concatenate([_studentized(values[order, k : k + AT_ONCE], sizes) for k in parts], axis=1)


def _studentized(values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Of runs in the order of their strata."""
    counts, groups = _counts(sizes), np.split(np.arange(len(values)), np.cumsum(sizes)[:-1])
    scale = np.maximum(values.std(0), np.finfo(float).tiny)
    apart = np.concatenate([values[group] - values[group].mean(0) for group in groups]) / scale
    error = sum(len(group) * apart[group].var(0, ddof=1) for group in groups)  # of the sum over runs, squared
    apart = apart.astype(np.float32)
    total, square = np.zeros((2, len(counts), values.shape[1]), dtype=np.float32)
    for group in groups:
        own = counts[:, group] @ apart[group]
        total += own
        of_squares = counts[:, group] @ apart[group] ** 2
        square += (of_squares - own**2 / np.float32(len(group))) * np.float32(len(group) / (len(group) - 1))
    least = np.asarray(1e-6 * error, dtype=np.float32)
    tied = (square <= least).mean(0) > TIES
    studentized = total / np.sqrt(np.maximum(square, np.maximum(least, np.finfo(np.float32).tiny)))
    places = [round(0.975 * (len(counts) - 1)), round(0.025 * (len(counts) - 1))]
    quantiles = np.partition(studentized.T.copy(), places, axis=1)[:, places].T
    return np.where(tied, np.nan, values.mean(0) - quantiles * np.sqrt(error) * scale / len(values))


def interquartile(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Interquartile means of the columns of values (R, M) with lower and upper ends of 95 % intervals, (3, M); NaN for
    columns of less than MANY runs.

    The mean of what is left without the lowest and the highest quarter, each rounded down (as in rliable). Percentiles
    of resamples at the level of Student's t, widened for strata (after Hesterberg, "What Teachers Should Know about the
    Bootstrap", American Statistician 2015): the ends are within the values.
    """
    from scipy.special import ndtr, stdtrit

    found = np.full((3, values.shape[1]), np.nan)
    for columns, block, of_block in blocks(values, labels):
        order = np.argsort(block, axis=0, kind="stable")
        ranked, n = np.take_along_axis(block, order, 0), len(block)
        freedom = n - len(np.unique(of_block))
        level = ndtr(stdtrit(freedom, 0.025) * np.sqrt((n - 1) / freedom))
        patterns, inverse = np.unique(of_block[order], axis=1, return_inverse=True)
        for k, pattern in enumerate(patterns.T):
            own = inverse.reshape(-1) == k
            means = _weights(tuple(pattern.tolist())) @ ranked[:, own]
            found[1:, columns[own]] = np.quantile(means.T, (level, 1 - level), axis=1)
        cut = n // 4
        found[0, columns] = ranked[cut : n - cut].mean(0)
    return found


def _draws(groups: Sequence[np.ndarray]) -> np.ndarray:
    """Indices (RESAMPLES, n) of runs, drawn within groups of indices."""
    random = np.random.default_rng([len(group) for group in groups])
    return np.concatenate([random.choice(group, (RESAMPLES, len(group))) for group in groups], axis=1)


@lru_cache(maxsize=64)
def _counts(sizes: tuple[int, ...]) -> np.ndarray:
    """How often each run is in each resample, (RESAMPLES, n), of runs in the order of their strata."""
    n, ends = sum(sizes), np.cumsum(sizes)
    draws = _draws([np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)])
    flat = (draws + n * np.arange(RESAMPLES)[:, None]).reshape(-1)
    return np.bincount(flat, minlength=n * RESAMPLES).reshape(RESAMPLES, n).astype(np.float32)


@lru_cache(maxsize=64)
def _weights(pattern: tuple[int, ...]) -> np.ndarray:
    """The weights of ranked values in the interquartile mean of each resample, (RESAMPLES, n); pattern: labels of the
    ranked values."""
    labels, n = np.array(pattern), len(pattern)
    ranks = np.sort(_draws([np.flatnonzero(labels == label) for label in np.unique(labels)]), axis=1)
    kept = ranks[:, n // 4 : n - n // 4]
    flat = (kept + n * np.arange(RESAMPLES)[:, None]).reshape(-1)
    return np.bincount(flat, minlength=n * RESAMPLES).reshape(RESAMPLES, n) / kept.shape[1]
