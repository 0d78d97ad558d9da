"""Estimates from few runs: numbers in, numbers out."""

import math
from collections.abc import Sequence
from statistics import fmean, variance
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
RISE = 0.1  # a curve that rises by less does not emerge


class Interval(NamedTuple):
    """Over n finite values. sd: standard deviation (n - 1); lower, upper: of the interval for the mean. With one value
    the last three are NaN, with none all are.
    """

    n: int
    mean: float
    sd: float
    lower: float
    upper: float


Range = tuple[float, float]  # the least and the greatest value that a quantity can take

UNBOUNDED: Range = (-math.inf, math.inf)


def interval(values: Sequence[float], within: Range = UNBOUNDED, cells: int = 1) -> Interval:
    """See `intervals` and `limits`."""
    n, *numbers = (column[0] for column in intervals(np.array(values, dtype=float)[:, None], *within, cells))
    return Interval(int(n), *map(float, numbers))


def intervals(
    values: np.ndarray, low: ArrayLike = -math.inf, high: ArrayLike = math.inf, cells: ArrayLike = 1
) -> tuple[np.ndarray, ...]:
    """n, mean, sd, lower, upper, each (M,), over the finite of the R runs in values (R, M); others: see `limits`.

    Student's t (Student, "The Probable Error of a Mean", Biometrika 1908): it widens as it must for few runs, where a
    bootstrap covers too little. One value gives no interval.
    """
    there = np.isfinite(values)
    n = there.sum(0)
    some, several = n > 0, n > 1
    mean = np.where(some, np.where(there, values, 0).sum(0) / np.maximum(n, 1), np.nan)
    squares = np.where(there, values - mean, 0) ** 2
    sd = np.where(several, np.sqrt(squares.sum(0) / np.maximum(n - 1, 1)), np.nan)
    return n, mean, sd, *limits(n, mean, sd, low, high, cells)


def limits(
    n: np.ndarray, mean: np.ndarray, sd: np.ndarray, low: ArrayLike, high: ArrayLike, cells: ArrayLike = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends, each (M,), of intervals for means that `low` and `high` bound, at which they are cut.

    cells: how many intervals are looked at together. All of them cover their means at once with 95 %, as each is at the
    level 1 - 0.05 / cells (Bonferroni's inequality), whatever the dependence between cells. For the few runs that
    there are, resampling has no such levels: five have 32 flips of signs.
    """
    half = _quantiles(n, cells) * sd / np.sqrt(np.maximum(n, 1))
    return np.minimum(np.maximum(mean - half, low), mean), np.maximum(np.minimum(mean + half, high), mean)


def widening(n: ArrayLike, cells: ArrayLike) -> np.ndarray:
    """How many times as wide as alone an interval over n runs is among `cells`, before it is cut."""
    return _quantiles(n, cells) / _quantiles(n, 1)


def _quantiles(n: ArrayLike, cells: ArrayLike) -> np.ndarray:
    """Of Student's t; NaN without a degree of freedom."""
    from scipy.special import stdtrit  # a third of a second, for which a page need not wait

    return np.asarray(-stdtrit(np.asarray(n) - 1.0, (1 - CONFIDENCE) / 2 / np.asarray(cells)))


def emergence(steps: Sequence[int], values: Sequence[float]) -> float:
    """The step at which values have made half of their way from the first to the last, between measured steps on a
    straight line; NaN where they rise by less than RISE.
    """
    if not values[-1] - values[0] >= RISE:
        return math.nan
    half = (values[0] + values[-1]) / 2
    k = next(k for k, value in enumerate(values) if value >= half)
    return steps[k - 1] + (steps[k] - steps[k - 1]) * (half - values[k - 1]) / (values[k] - values[k - 1])


def components(repeated: Sequence[Sequence[float]]) -> tuple[list[float], float, float]:
    """For each run's repetitions: the runs' means, the s.d. within runs and that between them beyond it; NaN without
    two repetitions, or two runs, to tell them from.
    """
    groups = [values for values in repeated if len(values) > 1]
    means = [fmean(values) for values in groups]
    if not groups:
        return means, math.nan, math.nan
    within = fmean(variance(values) for values in groups)
    if len(groups) < 2:
        return means, math.sqrt(within), math.nan
    between = variance(means) - within * fmean(1 / len(values) for values in groups)
    return means, math.sqrt(within), math.sqrt(max(between, 0.0))
