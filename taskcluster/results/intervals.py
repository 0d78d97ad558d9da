"""Means over few runs with 95 % intervals.

in:  values of runs, (R, M), and the task sets of the runs
out: means with intervals, each by itself (`intervals`) or all of a family at once (`simultaneous`)

docs/report.md says how often each covers, and benchmarks/coverage.py measures it.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from taskcluster.results.bootstrap import MANY, blocks, strata, studentized, sup_t

CONFIDENCE = 0.95
FEWEST = 3  # runs that give an interval
DRAWN = 5  # runs from which charts show intervals; of fewer they show each
SHARE = 0.6  # of the range between two bounds, beyond which an interval says nothing
NEAR = 1 / 2  # of the distance of the mean from a single bound: a larger standard error is too large for the logarithm
REACH = 10  # standard deviations from the mean, beyond which an interval without two bounds says nothing
ROUNDING = 1e-12  # relative difference below which values are the same

Range = tuple[float, float]  # the least and the greatest value that a quantity can take

UNBOUNDED: Range = (-math.inf, math.inf)


class Interval(NamedTuple):
    """Over n finite values. sd: standard deviation (n - 1), NaN for one value; lower, upper: of the interval for the
    mean, NaN if it says nothing (`informative`). Without a value all are NaN.
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


def interval(
    values: Sequence[float], within: Range = UNBOUNDED, cells: int = 1, task_sets: Sequence[Hashable] = ()
) -> Interval:
    """See `intervals`."""
    column = np.array(values, dtype=float)[:, None]
    n, *numbers = (float(part[0]) for part in intervals(column, *within, task_sets, cells))
    return Interval(int(n), *numbers)


def intervals(
    values: np.ndarray,
    low: ArrayLike = -math.inf,
    high: ArrayLike = math.inf,
    task_sets: Sequence[Hashable] = (),
    cells: int = 1,
) -> tuple[np.ndarray, ...]:
    """n, mean, sd, lower, upper, each (M,), over the finite of the R runs in values (R, M).

    low, high: bounds of the means. Below ten runs Student's t ("The Probable Error of a Mean", Biometrika 1908), as
    in `limits`; from ten on the studentized bootstrap, cut at the bounds, of runs drawn within their task sets. cells:
    how many such intervals hold at once, then of Student's t whatever the number of runs (see `critical`). Intervals
    that say nothing are NaN (`informative`).
    """
    labels = strata(task_sets, len(values))
    estimate = moments(values, labels)
    low, high = (np.broadcast_to(np.asarray(end, dtype=float), estimate.mean.shape) for end in (low, high))
    lower, upper = limits(estimate, critical(estimate.freedom, cells), low, high)
    for columns, block, block_strata in blocks(values, labels) if cells == 1 else ():
        ends = studentized(block, block_strata)
        cut = np.clip(ends, low[columns], high[columns])
        lower[columns], upper[columns] = np.where(np.isnan(ends), (lower[columns], upper[columns]), cut)
    lower, upper = np.minimum(lower, estimate.mean), np.maximum(upper, estimate.mean)
    n, mean, sd, *_ = estimate
    return n, mean, sd, *informative(n, mean, sd, lower, upper, low, high)


def moments(values: np.ndarray, labels: np.ndarray) -> Moments:
    """Of the columns of values (R, M), whose runs have these strata (R,): from ten runs on, the error is that of the
    mean over these strata, from the variance within them."""
    finite = np.isfinite(values)
    n = finite.sum(0)
    least, most = (np.where(finite, values, bound).T for bound in (math.inf, -math.inf))
    least, most = least.min(1, initial=math.inf), most.max(1, initial=-math.inf)
    with np.errstate(all="ignore"):
        mean = np.clip(np.where(finite, values, 0).sum(0) / n, least, most)  # rounding may move it out of the range
        sd = np.sqrt((np.where(finite, values - mean, 0) ** 2).sum(0) / np.where(n > 1, n - 1, np.nan))
    same = most - least <= ROUNDING * np.maximum(abs(least), abs(most))
    sd = np.where((n > 1) & same, 0.0, sd)
    error, freedom = sd / np.sqrt(np.maximum(n, 1)), n - 1.0
    for columns, block, block_strata in blocks(values, labels):
        groups = [block[block_strata == label] for label in np.unique(block_strata)]
        within = sum(len(group) * group.var(0, ddof=1) for group in groups)
        error[columns], freedom[columns] = np.sqrt(within) / len(block), len(block) - len(groups)
    return Moments(n, mean, sd, error, freedom)


def limits(estimate: Moments, times: ArrayLike, low: ArrayLike, high: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends, each (M,): `times` standard errors below and above the mean, on a scale without the bounds;
    NaN for intervals that say nothing (`informative`).

    The scale is the logit of the way from `low` to `high`, which for a correlation is Fisher's z ("Frequency
    Distribution of the Values of the Correlation Coefficient", Biometrika 1915), or the logarithm of the distance from
    a single bound; the error there follows by the delta method. So an interval never leaves its range, and it is longer
    on the side on which few runs near a bound hide a longer tail. Of a mean at a bound or outside it is cut there.
    """
    mean = estimate.mean
    low, high = (np.broadcast_to(np.asarray(end, dtype=float), mean.shape) for end in (low, high))
    half = np.asarray(times) * estimate.error
    below, above = mean - low, high - mean
    plain = (np.isinf(below) & np.isinf(above)) | (below <= 0) | (above <= 0)
    ends = []
    for sign in (-1, 1):
        with np.errstate(all="ignore"):
            shift = np.exp(sign * half * (1 / below + 1 / above))
            between = high - (high - low) * above / (below * shift + above)
            kinds = [plain, np.isinf(above), np.isinf(below)]
            ends.append(np.select(kinds, [mean + sign * half, low + below * shift, high - above / shift], between))
    lower = np.minimum(np.maximum(ends[0], low), mean)
    upper = np.maximum(np.minimum(ends[1], high), mean)
    return informative(estimate.n, mean, estimate.sd, lower, upper, low, high)


def informative(
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
    parts = (n, mean, sd, lower, upper, low, high)
    n, mean, sd, lower, upper, low, high = (np.asarray(part, dtype=float) for part in parts)
    with np.errstate(invalid="ignore"):
        width, distance = upper - lower, np.minimum(abs(mean - low), abs(high - mean))
        far = (np.maximum(upper - mean, mean - lower) > REACH * sd) | (sd > NEAR * distance * np.sqrt(n))
        wide = np.where(np.isfinite(high - low), width > SHARE * (high - low), far)
    nothing = (n < FEWEST) | ~np.isfinite(width) | wide
    lower, upper = np.where(sd == 0, mean, (lower, upper))
    return np.where(nothing, np.nan, lower), np.where(nothing, np.nan, upper)


def critical(freedom: ArrayLike, cells: ArrayLike = 1) -> np.ndarray:
    """The value that |t| exceeds with 5 %; NaN without a degree of freedom.

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


def simultaneous(
    values: np.ndarray, labels: np.ndarray, estimate: Moments, families: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray]:
    """How many standard errors wide a band is that covers all means of a family at once, and how many cells with an
    interval the family has, each (M,), for the columns of values (R, M).

    estimate: their moments; families: the family of each column, such as the steps of a curve. From MANY runs on the
    sup-t band, which uses the dependence between cells; below, Bonferroni's, which is hardly wider there.
    """
    members: dict[Hashable, list[int]] = {}
    for column in np.flatnonzero(estimate.n >= FEWEST).tolist():
        members.setdefault(families[column], []).append(column)
    cells = np.array([len(members.get(family, ())) for family in families], dtype=int)
    times = critical(estimate.freedom, np.maximum(cells, 1))
    for columns in members.values():
        runs = np.isfinite(values[:, columns]).all(1)
        n = int(runs.sum())
        if n >= MANY and (estimate.n[columns] == n).all():  # the same runs in all cells
            run_strata = strata(labels[runs].tolist(), n)
            bonferroni = critical(n - len(np.unique(run_strata)), len(columns))
            times[columns] = np.minimum(bonferroni, sup_t(values[np.ix_(runs, columns)], run_strata, CONFIDENCE))
    return times, cells
