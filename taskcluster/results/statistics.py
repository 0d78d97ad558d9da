"""Estimates from few runs: numbers in, numbers out.

in:  values of runs, (R, M), and which of the runs share a task set
out: means with intervals that hold by themselves (`intervals`) or together (`limits`, at a critical value)

docs/report.md says how often each covers, and benchmarks/coverage.py measures it.
"""

import math
from collections.abc import Hashable, Sequence
from statistics import fmean, variance
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from taskcluster.results.bootstrap import blocks, labels_of, studentized

CONFIDENCE = 0.95
FEWEST = 3  # runs that give an interval
DRAWN = 5  # runs from which charts show intervals; of fewer they show each
SHARE = 0.6  # of the range between two bounds, beyond which an interval says nothing
NEAR = 1 / 2  # of the distance of the mean from a single bound: a larger standard error is too large for the logarithm
REACH = 10  # standard deviations from the mean, beyond which an interval without two bounds says nothing
RISE = 0.1  # a curve that rises by less does not emerge


class Interval(NamedTuple):
    """Over n finite values. sd: standard deviation (n - 1), NaN for one value; lower, upper: of the interval for the
    mean, NaN where it says nothing (`telling`). Without a value all are NaN.
    """

    n: int
    mean: float
    sd: float
    lower: float
    upper: float


class Moments(NamedTuple):
    """Of M columns, each (M,). error: the standard error of the mean; freedom: its degrees of freedom."""

    n: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    error: np.ndarray
    freedom: np.ndarray


ROUNDING = 1e-12  # relative difference below which values are the same

Range = tuple[float, float]  # the least and the greatest value that a quantity can take

UNBOUNDED: Range = (-math.inf, math.inf)


def interval(
    values: Sequence[float], within: Range = UNBOUNDED, cells: int = 1, task_sets: Sequence[Hashable] = ()
) -> Interval:
    """See `intervals`. cells: how many such intervals hold at once; see `critical`."""
    column = np.array(values, dtype=float)[:, None]
    if cells == 1:
        n, *numbers = (float(part[0]) for part in intervals(column, *within, task_sets))
        return Interval(int(n), *numbers)
    found = moments(column, labels_of(task_sets, len(column)))
    lower, upper = limits(found, critical(found.freedom, cells), *within)
    return Interval(int(found.n[0]), *(float(part[0]) for part in (found.mean, found.sd, lower, upper)))


def intervals(
    values: np.ndarray,
    low: ArrayLike = -math.inf,
    high: ArrayLike = math.inf,
    task_sets: Sequence[Hashable] = (),
) -> tuple[np.ndarray, ...]:
    """n, mean, sd, lower, upper, each (M,), over the finite of the R runs in values (R, M).

    low, high: bounds of the means. Below ten runs Student's t ("The Probable Error of a Mean", Biometrika 1908), as
    `limits` has it; from ten on the studentized bootstrap, cut at the bounds, of runs drawn within their task sets.
    Intervals that say nothing are NaN (`telling`).
    """
    labels = labels_of(task_sets, len(values))
    found = moments(values, labels)
    lower, upper = limits(found, critical(found.freedom), low, high)
    low, high = (np.broadcast_to(np.asarray(end, dtype=float), found.mean.shape) for end in (low, high))
    for columns, block, of_block in blocks(values, labels):
        ends = studentized(block, of_block)
        cut = np.clip(ends, low[columns], high[columns])
        lower[columns], upper[columns] = np.where(np.isnan(ends), (lower[columns], upper[columns]), cut)
    lower, upper = np.minimum(lower, found.mean), np.maximum(upper, found.mean)
    return found.n, found.mean, found.sd, *telling(found.n, found.mean, found.sd, lower, upper, low, high)


def moments(values: np.ndarray, labels: np.ndarray) -> Moments:
    """Of the columns of values (R, M), whose runs have `labels` (R,) of task sets: from ten runs on, the error is of
    the mean over these task sets, from the variance within them."""
    there = np.isfinite(values)
    n = there.sum(0)
    least, most = (np.where(there, values, bound).T for bound in (math.inf, -math.inf))
    least, most = least.min(1, initial=math.inf), most.max(1, initial=-math.inf)
    mean = np.where(n > 0, np.where(there, values, 0).sum(0) / np.maximum(n, 1), np.nan)
    mean = np.where(n > 0, np.clip(mean, least, most), np.nan)  # which rounding may move out of the range
    with np.errstate(over="ignore"):
        squares = np.where(there, values - mean, 0) ** 2
        sd = np.where(n > 1, np.sqrt(squares.sum(0) / np.maximum(n - 1, 1)), np.nan)
    sd = np.where((n > 1) & (most - least <= ROUNDING * np.maximum(abs(least), abs(most))), 0.0, sd)
    error, freedom = sd / np.sqrt(np.maximum(n, 1)), n - 1.0
    for columns, block, of_block in blocks(values, labels):
        groups = [block[of_block == label] for label in np.unique(of_block)]
        within = sum(len(group) * group.var(0, ddof=1) for group in groups)
        error[columns], freedom[columns] = np.sqrt(within) / len(block), len(block) - len(groups)
    return Moments(n, mean, sd, error, freedom)


def limits(found: Moments, times: ArrayLike, low: ArrayLike, high: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends, each (M,): `times` standard errors below and above the mean, on a scale without the bounds;
    NaN for intervals that say nothing (`telling`).

    The scale is the logit of the way from `low` to `high`, which for a correlation is Fisher's z ("Frequency
    Distribution of the Values of the Correlation Coefficient", Biometrika 1915), or the logarithm of the distance from
    a single bound; the error there follows by the delta method. So an interval never leaves its range, and it is longer
    on the side on which few runs near a bound hide a longer tail. Of a mean at a bound or outside it is cut there.
    """
    low, high = (np.broadcast_to(np.asarray(end, dtype=float), found.mean.shape) for end in (low, high))
    half = np.asarray(times) * found.error
    below, above = found.mean - low, high - found.mean
    with np.errstate(all="ignore"):
        lower_by_both = below / (below + above * np.exp(half * (1 / below + 1 / above))) * (high - low)
        upper_by_both = above / (above + below * np.exp(half * (1 / below + 1 / above))) * (high - low)
        lower = np.where(np.isinf(above), low + below * np.exp(-half / below), low + lower_by_both)
        upper = np.where(np.isinf(below), high - above * np.exp(-half / above), high - upper_by_both)
        upper = np.where(np.isinf(above), low + below * np.exp(half / below), upper)
        lower = np.where(np.isinf(below), high - above * np.exp(half / above), lower)
    plain = (np.isinf(below) & np.isinf(above)) | (below <= 0) | (above <= 0)
    lower = np.where(plain, np.maximum(found.mean - half, low), lower)
    upper = np.where(plain, np.minimum(found.mean + half, high), upper)
    lower, upper = np.minimum(lower, found.mean), np.maximum(upper, found.mean)
    return telling(found.n, found.mean, found.sd, lower, upper, low, high)


def telling(
    n: ArrayLike, mean: ArrayLike, sd: ArrayLike, lower: ArrayLike, upper: ArrayLike, low: ArrayLike, high: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of intervals, NaN for those that say nothing:

    - over fewer than FEWEST runs, as Student's t with one degree of freedom is 13 standard errors wide on each side;
    - between two bounds, over more than SHARE of the range;
    - with one bound, of a mean whose standard error is more than NEAR of its distance from the bound, where the delta
      method does not hold;
    - without two bounds, with an end more than REACH standard deviations from the mean.

    Of runs that are all the same the interval has no length: it says that they are, not how much others would differ.
    """
    n, mean, sd, lower, upper = (np.asarray(part, dtype=float) for part in (n, mean, sd, lower, upper))
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    with np.errstate(invalid="ignore"):
        width, distance = upper - lower, np.minimum(abs(mean - low), abs(high - mean))
        far = (np.maximum(upper - mean, mean - lower) > REACH * sd) | (sd > NEAR * distance * np.sqrt(n))
        wide = np.where(np.isfinite(high - low), width > SHARE * (high - low), far)
    nothing = (n < FEWEST) | ~np.isfinite(width) | wide
    lower, upper = np.where(sd == 0, mean, (lower, upper))
    return np.where(nothing, np.nan, lower), np.where(nothing, np.nan, upper)


def critical(freedom: ArrayLike, cells: ArrayLike = 1) -> np.ndarray:
    """Of |t|, which it exceeds with 5 %; NaN without a degree of freedom.

    cells: how many means are looked at together. Intervals of all of them cover at once with 95 %, as each is at the
    level 1 - 0.05 / cells (Bonferroni's inequality), whatever the dependence between cells.
    """
    from scipy.special import stdtrit  # a third of a second, for which a page need not wait

    return np.asarray(-stdtrit(np.asarray(freedom, dtype=float), (1 - CONFIDENCE) / 2 / np.asarray(cells)))


def widening(n: ArrayLike, cells: ArrayLike) -> np.ndarray:
    """How many times as wide as alone an interval over n runs is among `cells`, on the scale of `limits`; NaN without
    one."""
    freedom = np.where(np.asarray(n) < FEWEST, np.nan, np.asarray(n) - 1.0)
    return critical(freedom, cells) / critical(freedom)


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
    two repetitions, or FEWEST runs, to tell them from.
    """
    groups = [values for values in repeated if len(values) > 1]
    means = [fmean(values) for values in groups]
    if not groups:
        return means, math.nan, math.nan
    within = fmean(variance(values) for values in groups)
    if len(groups) < FEWEST:
        return means, math.sqrt(within), math.nan
    between = variance(means) - within * fmean(1 / len(values) for values in groups)
    return means, math.sqrt(within), math.sqrt(max(between, 0.0))
