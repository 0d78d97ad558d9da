"""Whether instruments tell the same story: rank correlations between the metrics of the view "instruments".

in:  the journals of a condition's runs, and metrics by layer
out: for each pair of metrics Spearman's rank correlation, over layers and steps and over the layers of the last step,
     with its interval over runs

A correlation is computed within each run, over the validation cells in which both metrics have a number. Over runs it
is averaged as Fisher's z = artanh(rho) (Fisher, "On the Probable Error of a Coefficient of Correlation", 1921), with
Student's t for the interval, so that neither leaves [-1, 1].
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from taskcluster.metrics import Catalogue, Metric, shown
from taskcluster.results.intervals import Interval, informative, interval
from taskcluster.runs.journal import Row, layers_of, parse

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
    metrics = instruments(known, keys)
    runs = [[_by_layer(rows, metric) for metric in metrics] for rows in journals]
    return [
        Agreement(metrics[a].key, metrics[b].key, over, pooled([_within_run(run[a], run[b], over) for run in runs]))
        for over in (ALL, LAST)
        for a, b in combinations(range(len(metrics)), 2)
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


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation; NaN where either side is constant, or not a number somewhere."""
    from scipy.stats import rankdata  # half a second, for which a page need not wait

    both = np.array([a, b], dtype=float)
    if both.shape[1] < 2 or np.isnan(both).any() or (np.ptp(both, axis=1) == 0).any():
        return math.nan
    return float(np.corrcoef(rankdata(both, axis=1).T, rowvar=False)[0, 1])


def _by_layer(rows: Sequence[Row], metric: Metric) -> np.ndarray:
    """A metric's validation values (S, L+1) by step and layer, NaN where there are none."""
    layers = [layers_of(row, metric.stem("val")) for row in rows]
    table = np.full((len(rows), max(map(len, layers), default=0)), np.nan)
    for values, row in zip(layers, table, strict=True):
        row[: len(values)] = values
    return table


def _within_run(one: np.ndarray, other: np.ndarray, over: str) -> tuple[float, int]:
    """The correlation of two metrics, (S, L+1) each, and its number of cells."""
    depth = min(one.shape[1], other.shape[1])
    one, other = one[:, :depth], other[:, :depth]
    both = np.isfinite(one) & np.isfinite(other)
    if over == LAST:
        both &= np.arange(len(one))[:, None] == np.max(np.nonzero(both.any(1))[0], initial=-1)
    n = int(both.sum())
    return rank_correlation(one[both], other[both]) if n >= FEWEST else math.nan, n
