"""Where the variance between runs comes from: tasks, weights, batches, probe, KMeans.

in:  values of runs, (R, M), and the seeds of each run by source
out: a variance component for each source, with an interval; a table

Components are nested in this order: that of the batches is the variance that new batches add where tasks and weights
stay, with all interactions between batches and those. A seed means nothing across other seeds (the seventh start of
KMeans on one model has nothing to do with the seventh on another), so a crossed analysis would leave most to the
residual; nested components sum to the variance between runs that share nothing, and leave none.

Analysis of variance: the mean square between the groups of runs that share the sources down to one, beyond those that
share the sources above it, is expected to be a known sum of components (Searle, Casella and McCulloch, "Variance
Components", 1992), for any runs that split at every source. Those of experiment=variance are staggered, which needs
five runs for each set of tasks (Bainbridge, "Staggered, Nested Designs for Estimating Variance Components", Industrial
Quality Control 1965). Intervals are of generalized pivotal quantities (Weerahandi, "Generalized Confidence Intervals",
Journal of the American Statistical Association 1993).
"""

import math
from collections.abc import Mapping, Sequence
from itertools import compress, pairwise
from statistics import fmean, variance
from typing import Any, NamedTuple

import numpy as np

from taskcluster.results.cells import Table, as_text, last_of
from taskcluster.results.conditions import Condition
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.intervals import FEWEST, REACH, Interval
from taskcluster.runs.condition import FOLLOWS, flatten
from taskcluster.views import shown

SOURCES = {"tasks": "tasks", "model": "weights", "batches": "batches", "probe": "probe", "kmeans": "KMeans"}
FEWEST_FREE = 2  # degrees of freedom of each source
DRAWS = 20_000

NOTE = """Validation, last step; in the last layer where a metric has several. The s.d. that new seeds of a source add
where all sources above it stay, with its interactions with them; shares are of the variance between runs that share
nothing. Nested random effects by analysis of variance; a negative estimate counts as 0. Intervals [95 %] are of
generalized pivotal quantities."""


class Component(NamedTuple):
    """The variance of a source, whose estimate may be below 0, with its interval; freedom: degrees of freedom."""

    source: str
    variance: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    freedom: int


def seeds_by_source(config: Mapping[str, Any]) -> dict[str, str]:
    """The seed of a run for each source."""
    flat = flatten(config)
    seeds = dict.fromkeys(SOURCES, config.get("seed")) | (config.get("seeds") or {})
    seeds |= {source: flat[key] for key, source in FOLLOWS.items() if key in flat}
    return {source: str(seeds[source]) for source in SOURCES}


def variance_components(values: np.ndarray, seeds: Sequence[Mapping[str, str]]) -> list[Component]:
    """The components of values (R, M) for each source that varies, each number (M,); [] if only one does, or some
    source varies with others alone."""
    varying = [source for source in SOURCES if len({run_seeds[source] for run_seeds in seeds}) > 1]
    paths = [tuple(run_seeds[source] for source in varying) for run_seeds in seeds]
    groups = [len({path[:depth] for path in paths}) for depth in range(len(varying) + 1)]
    freedom = [below - above for above, below in pairwise(groups)]
    if len(varying) < 2 or min(freedom) < FEWEST_FREE:
        return []
    # Whether two of the R runs share their first seeds, as many as have varied by each depth, (V + 1, R, R).
    same = np.array(
        [[[one[:k] == other[:k] for other in paths] for one in paths] for k in range(len(varying) + 1)], dtype=float
    )
    between = np.diff(same / same.sum(2, keepdims=True), axis=0)
    degrees = np.array(freedom)[:, None]
    mean_squares = ((between @ values) ** 2).sum(1) / degrees
    weights = np.linalg.inv(np.einsum("kij,lij->kl", between, same[1:]) / degrees)
    pivots = degrees / np.random.default_rng(freedom).chisquare(degrees, (len(varying), DRAWS))
    components = []
    for source, weight, n_free in zip(varying, weights, freedom, strict=True):
        drawn = (weight[:, None] * mean_squares).T @ pivots
        lower, upper = np.maximum(np.quantile(drawn, (0.025, 0.975), axis=1), 0)
        components.append(Component(source, weight @ mean_squares, lower, upper, n_free))
    return components


def one_way_components(repeated: Sequence[Sequence[float]]) -> tuple[list[float], float, float]:
    """For each run's repetitions: the runs' means, the s.d. within runs and that between them beyond it; NaN without
    two repetitions, or FEWEST runs, to estimate them from.
    """
    groups = [values for values in repeated if len(values) > 1]
    means = [fmean(values) for values in groups]
    within = fmean(variance(values) for values in groups) if groups else math.nan
    if len(groups) < FEWEST:
        return means, math.sqrt(within), math.nan
    between = variance(means) - within * fmean(1 / len(values) for values in groups)
    return means, math.sqrt(within), math.sqrt(max(between, 0.0))


def tables(findings: Findings) -> list[Table]:
    """The components of each condition whose runs vary several seeds separately."""
    several = len(findings.conditions) > 1
    made = (_table(findings, condition, f", {name}" if several else "") for name, condition in findings.named())
    return [table for table in made if table.rows]


def _table(findings: Findings, condition: Condition[Finished], ending: str) -> Table:
    metrics = shown(findings.catalogue, "tables")
    values = np.array([[last_of(run, metric) for metric in metrics] for run in condition.runs])
    complete = np.isfinite(values).all(0)
    components = variance_components(values[:, complete], [seeds_by_source(run.config) for run in condition.runs])
    rows = []
    for k, metric in enumerate(compress(metrics, complete) if components else ()):
        total = sum(max(float(component.variance[k]), 0) for component in components)
        for c in components:
            sd, lower, upper = (math.sqrt(max(float(part[k]), 0)) for part in (c.variance, c.lower, c.upper))
            ends = (lower, upper) if lower < upper <= REACH * math.sqrt(total) else (math.nan, math.nan)
            estimate = Interval(c.freedom + 1, sd, math.nan, *ends)
            share = f"{sd**2 / total:.0%}" if total else "-"
            rows.append([metric.title, SOURCES[c.source], as_text(estimate), share, str(c.freedom)])
        rows.append([metric.title, "all together", f"{math.sqrt(total):.3f}", "100%" if total else "-", "-"])
    columns = ["metric", "source", "s.d.", "share of the variance", "degrees of freedom"]
    return Table(f"Where the variance comes from{ending}", columns, rows, NOTE)
