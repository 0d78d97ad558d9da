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

from taskcluster.metrics import Catalogue, Metric
from taskcluster.results.statistics import Interval, interval, telling
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
    """Those that are compared, of the keys that were measured; [] for too few."""
    found = [metric for metric in shown(known, "instruments", by_layer=True) if metric.key in measured]
    return found if len(found) >= FEWEST else []


def agreements_of(journals: Sequence[Sequence[Row]], known: Catalogue) -> list[Agreement]:
    """Of every pair of instruments that a condition's runs measured, in the order of the catalogue."""
    keys = {named.metric for rows in journals for row in rows for key in row if (named := parse(key))}
    metrics = instruments(known, keys)
    tables = [_table(rows, metrics) for rows in journals]
    pairs, found = list(combinations(range(len(metrics)), 2)), []
    for over in (ALL, LAST):
        for one, other in pairs:
            of_runs = [_within_run(table[one], table[other], over) for table in tables]
            found.append(Agreement(metrics[one].key, metrics[other].key, over, pooled(of_runs)))
    return found


def pooled(correlations: Sequence[tuple[float, int]]) -> Interval:
    """The mean over runs of correlations, each over so many cells, with its interval; sd is that of z.

    A correlation of 1, whose z is infinite, counts as half an exchange of two neighbouring ranks less.
    """
    ends = [1 - 3 / (n * (n**2 - 1)) if n > 1 else math.nan for _, n in correlations]
    of_z = interval([math.atanh(min(max(rho, -end), end)) for (rho, _), end in zip(correlations, ends, strict=True)])
    mean, lower, upper = (math.tanh(end) for end in (of_z.mean, of_z.lower, of_z.upper))
    lower, upper = map(float, telling(of_z.n, mean, of_z.sd, lower, upper, -1, 1))
    return of_z._replace(mean=mean, lower=lower, upper=upper)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, of finite values (N,), with mean ranks for ties; NaN for fewer than FEWEST, or a constant side."""
    if len(a) < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _table(rows: Sequence[Row], metrics: Sequence[Metric]) -> np.ndarray:
    """Validation values (M, S, L+1) by metric, step and layer, NaN where there are none."""
    layers = [[layers_of(row, metric.stem("val")) for row in rows] for metric in metrics]
    deepest = max((len(values) for of_metric in layers for values in of_metric), default=0)
    table = np.full((len(metrics), len(rows), deepest), np.nan)
    for m, of_metric in enumerate(layers):
        for s, values in enumerate(of_metric):
            table[m, s, : len(values)] = values
    return table


def _within_run(one: np.ndarray, other: np.ndarray, over: str) -> tuple[float, int]:
    """The correlation of two metrics, (S, L+1) each, and its number of cells."""
    both = np.isfinite(one) & np.isfinite(other)
    if over == LAST:
        both &= np.arange(len(one))[:, None] == np.max(np.nonzero(both.any(1))[0], initial=-1)
    return rank_correlation(one[both], other[both]), int(both.sum())


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
