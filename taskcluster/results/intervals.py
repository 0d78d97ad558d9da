"""Means over few runs with 95 % intervals.

in:  values of runs, (R, M), and the task sets of the runs
out: means with intervals, each by itself or, for `cells` of them, all at once

Intervals are Student's t ("The Probable Error of a Mean", Biometrika 1908) on a scale on which the quantity has no
bounds. docs/report.md says how often they cover, and benchmarks/coverage.py measures it.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
FEWEST = 3  # runs that give an interval
FEWEST_IN_STRATUM = 4  # runs of a task set that show how much runs within it vary
DRAWN = 5  # runs from which charts show intervals; of fewer they show each
SHARE = 0.6  # share of the range between two bounds; a wider interval says nothing
NEAR = 1 / 2  # share of the distance from the mean to a single bound; the logarithm needs a smaller standard error
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


def interval(
    values: Sequence[float], within: Range = UNBOUNDED, cells: int = 1, task_sets: Sequence[Hashable] = ()
) -> Interval:
    """The mean of a quantity over runs with its 95 % interval, by Student's t on a scale without bounds.

    Args:
        values: one of each run.
        within: the least and the greatest value that the quantity can take, at which the interval ends.
        cells: how many such intervals are to hold at once.
        task_sets: the task set of each run, where several have several runs.
    """
    return interval_of_each([values], [within], cells, [task_sets])[0]


def interval_of_each(
    samples: Sequence[Sequence[float]],
    within: Sequence[Range],
    cells: int = 1,
    task_sets: Sequence[Sequence[Hashable]] = (),
) -> list[Interval]:
    """The `interval` of each sample, in a fraction of the time. within, task_sets: of each."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for k, sample in enumerate(samples):
        alike.setdefault((len(sample), *(task_sets[k] if task_sets else ())), []).append(k)
    found: dict[int, Interval] = {}
    for (_, *sets), chosen in alike.items():
        values = np.array([samples[k] for k in chosen], dtype=float).T
        low, high = np.array([within[k] for k in chosen], dtype=float).T
        n, *numbers = (part.tolist() for part in intervals(values, low, high, sets, cells))
        found |= {k: Interval(int(n[at]), *(part[at] for part in numbers)) for at, k in enumerate(chosen)}
    return [found[k] for k in range(len(samples))]


def intervals(
    values: np.ndarray,
    low: ArrayLike = -math.inf,
    high: ArrayLike = math.inf,
    task_sets: Sequence[Hashable] = (),
    cells: ArrayLike = 1,
) -> tuple[np.ndarray, ...]:
    """n, mean, sd, lower, upper, each (M,), over the finite of the R runs in values (R, M).

    low, high: bounds of the means. task_sets: of the runs, which are strata if each has FEWEST_IN_STRATUM runs or more;
    intervals then are about these task sets. cells: how many such intervals hold at once. Intervals that say nothing
    are NaN (`informative`).
    """
    n, mean, sd = _moments(values)
    error, freedom, sizes = sd / np.sqrt(np.maximum(n, 1)), n - 1.0, Counter(task_sets)
    if len(sizes) > 1 and min(sizes.values()) >= FEWEST_IN_STRATUM:
        strata = [values[[task_set == name for task_set in task_sets]] for name in sizes]
        with np.errstate(invalid="ignore"):
            squared = sum(len(stratum) * stratum.var(0, ddof=1) for stratum in strata)
        complete = n == len(values)  # a column in which all runs have a number
        error = np.where(complete, np.sqrt(squared) / len(values), error)
        freedom = np.where(complete, n - len(sizes), freedom)
    low, high = (np.broadcast_to(np.asarray(end, dtype=float), mean.shape) for end in (low, high))
    half = critical(freedom, cells) * error
    lower = np.minimum(_moved(mean, -half, low, high), mean)
    upper = np.maximum(_moved(mean, half, low, high), mean)
    return n, mean, sd, *informative(n, mean, sd, lower, upper, low, high)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The number of finite values of each column of values (R, M), their mean and their standard deviation."""
    finite = np.isfinite(values)
    n = finite.sum(0)
    least, most = (np.where(finite, values, bound).T for bound in (math.inf, -math.inf))
    least, most = least.min(1, initial=math.inf), most.max(1, initial=-math.inf)
    with np.errstate(all="ignore"):
        mean = np.clip(np.where(finite, values, 0).sum(0) / n, least, most)  # rounding may move it out of the range
        sd = np.sqrt((np.where(finite, values - mean, 0) ** 2).sum(0) / np.where(n > 1, n - 1, np.nan))
    same = most - least <= ROUNDING * np.maximum(abs(least), abs(most))
    return n, mean, np.where((n > 1) & same, 0.0, sd)


def _moved(mean: np.ndarray, by: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Means (M,) moved on a scale without the bounds, `by` as much as on the plain one near the mean.

    The scale is the logit of the way from `low` to `high`, which for a correlation is Fisher's z ("Frequency
    Distribution of the Values of the Correlation Coefficient", Biometrika 1915), or the logarithm of the distance from
    a single bound; the error there follows by the delta method. So an interval never leaves its range, and it is longer
    on the side on which few runs near a bound hide a longer tail. Of a mean at a bound or outside it is cut there.
    """
    below, above = mean - low, high - mean
    plain = (np.isinf(below) & np.isinf(above)) | (below <= 0) | (above <= 0)
    with np.errstate(all="ignore"):
        shift = np.exp(by * (1 / below + 1 / above))
        between = high - (high - low) * above / (below * shift + above)
        kinds = [plain, np.isinf(above), np.isinf(below)]
        return np.clip(np.select(kinds, [mean + by, low + below * shift, high - above / shift], between), low, high)


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
    level 1 - 0.05 / cells (Bonferroni's inequality), for any dependence between cells.
    """
    from scipy.special import stdtrit  # imported here: it takes a third of a second, which pages need not wait for

    return np.asarray(-stdtrit(np.asarray(freedom, dtype=float), (1 - CONFIDENCE) / 2 / np.asarray(cells)))
