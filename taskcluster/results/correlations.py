"""Whether instruments agree: rank correlations between the metrics of the view "instruments".

in:  the journals of a condition's runs, and metrics by layer
out: for each pair of metrics Spearman's rank correlation, over layers and steps and over the layers of the last step,
     with its interval over runs

A correlation is computed within each run, over the validation cells in which both metrics have a number. Over runs it
is averaged as Fisher's z = artanh(rho) (Fisher, "On the Probable Error of a Coefficient of Correlation", 1921), with
Student's t for the interval, so that neither leaves [-1, 1].
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from taskcluster.metrics import Catalogue, Metric
from taskcluster.results.intervals import Interval, informative, interval
from taskcluster.runs.journal import Row, layers_of, parse
from taskcluster.views import shown

ALL, LAST = "over layers and steps", "over layers, at the last step"
FEWEST = 3  # instruments that are compared; cells that a correlation needs


class Agreement(NamedTuple):
    """Of two metrics. over: ALL or LAST; correlation: over the runs that have one."""

    metric: str
    other: str
    over: str
    correlation: Interval


def instruments(known: Catalogue, measured: set[str]) -> list[Metric]:
    """The instruments among the measured keys; [] for too few to compare."""
    chosen = [metric for metric in shown(known, "instruments", by_layer=True) if metric.key in measured]
    return chosen if len(chosen) >= FEWEST else []


def agreements_of(journals: Sequence[Sequence[Row]], known: Catalogue) -> list[Agreement]:
    """The agreement of every pair of instruments that a condition's runs measured, in the order of the catalogue."""
    keys = {parsed.metric for rows in journals for row in rows for key in row if (parsed := parse(key))}
    runs = [{metric.key: _cells(rows, metric) for metric in instruments(known, keys)} for rows in journals]
    return [
        Agreement(one, other, over, pooled([_within_run(run[one], run[other], over) for run in runs]))
        for over in (ALL, LAST)
        for one, other in combinations(runs[0], 2)
    ]


def pooled(correlations: Sequence[tuple[float, int]]) -> Interval:
    """The mean over runs of correlations, each over so many cells, with its interval; sd is that of z.

    A correlation of 1, whose z is infinite, counts as half an exchange of two neighbouring ranks less.
    """
    largest = [1 - 3 / (n * (n**2 - 1)) if n > 1 else math.nan for _, n in correlations]
    z = interval([math.atanh(min(max(rho, -end), end)) for (rho, _), end in zip(correlations, largest, strict=True)])
    mean, lower, upper = (math.tanh(end) for end in (z.mean, z.lower, z.upper))
    lower, upper = map(float, informative(z.n, mean, z.sd, lower, upper, -1, 1))
    return z._replace(mean=mean, lower=lower, upper=upper)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation; NaN where either side is constant, or not a number somewhere."""
    from scipy.stats import rankdata  # imported here: it takes half a second, which pages need not wait for

    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0 or np.isnan([a, b]).any():
        return math.nan
    return float(np.corrcoef(np.column_stack([rankdata(a), rankdata(b)]), rowvar=False)[1, 0])


def _cells(rows: Sequence[Row], metric: Metric) -> dict[tuple[int, int], float]:
    """A metric's validation values by step and layer, without undefined ones."""
    values = ((row["step"], layers_of(row, metric.stem("val"))) for row in rows)
    return {(step, k): value for step, layers in values for k, value in enumerate(layers) if math.isfinite(value)}


def _within_run(one: Mapping[Any, float], other: Mapping[Any, float], over: str) -> tuple[float, int]:
    """The correlation of two metrics' cells, and the number of cells that both have."""
    both = sorted(one.keys() & other.keys())
    if over == LAST:
        both = [cell for cell in both if cell[0] == both[-1][0]]
    n = len(both)
    return rank_correlation(
        [one[cell] for cell in both], [other[cell] for cell in both]
    ) if n >= FEWEST else math.nan, n
