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
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from taskcluster.results.aggregate import Condition
from taskcluster.results.cells import Table, as_text, last_of
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.statistics import REACH, SHARE, Interval, Range
from taskcluster.runs.condition import FOLLOWS, flatten
from taskcluster.views import shown

SOURCES = {"tasks": "tasks", "model": "weights", "batches": "batches", "probe": "probe", "kmeans": "KMeans"}
FEWEST = 2  # degrees of freedom of each source
DRAWS = 20_000

NOTE = """Validation, last step; in the last layer where a metric has several. The s.d. that new seeds of a source add
where all sources above it stay, with its interactions with them; shares are of the variance between runs that share
nothing. Nested random effects by analysis of variance; a negative estimate counts as 0. Intervals [95 %] are of
generalized pivotal quantities."""


class Component(NamedTuple):
    """The variance of a source, which an estimate may put below 0, with its interval; freedom: degrees of freedom."""

    source: str
    variance: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    freedom: int


def seeds_by_source(config: Mapping[str, Any]) -> dict[str, str]:
    """The seed that a run has for each source."""
    flat, sources = flatten(config), config.get("seeds") or {}
    of_parts = {source: flat[key] for key, source in FOLLOWS.items() if key in flat}
    return {source: str(of_parts.get(source, sources.get(source, config.get("seed")))) for source in SOURCES}


def variance_components(values: np.ndarray, seeds: Sequence[Mapping[str, str]]) -> list[Component]:
    """Of values (R, M) for each source that varies, each number (M,); [] where only one does, or some source varies
    with others alone."""
    varying = [source for source in SOURCES if len({of_run[source] for of_run in seeds}) > 1]
    paths = [tuple(of_run[source] for source in varying) for of_run in seeds]
    groups = [len({path[:depth] for path in paths}) for depth in range(len(varying) + 1)]
    freedom = [below - above for above, below in pairwise(groups)]
    if len(varying) < 2 or min(freedom) < FEWEST:
        return []
    same = [_same_group(paths, depth) for depth in range(len(varying) + 1)]
    averages = [group / group.sum(1) for group in same]
    squares, expected = [], np.zeros((len(varying), len(varying)))
    for k, degrees in enumerate(freedom):
        between = averages[k + 1] - averages[k]
        squares.append(((between @ values) ** 2).sum(0) / degrees)
        expected[k] = [(between * group).sum() / degrees for group in same[1:]]
    solved, mean_squares = np.linalg.inv(expected), np.array(squares)
    random = np.random.default_rng(freedom)
    pivots = np.array([degrees / random.chisquare(degrees, DRAWS) for degrees in freedom])
    found = []
    for k, source in enumerate(varying):
        drawn = (solved[k][:, None] * mean_squares).T @ pivots
        lower, upper = np.maximum(np.quantile(drawn, (0.025, 0.975), axis=1), 0)
        found.append(Component(source, solved[k] @ mean_squares, lower, upper, freedom[k]))
    return found


def _said(sd: float, lower: float, upper: float, freedom: int, total: float, within: Range) -> Interval:
    """An s.d. with its interval, unless this says nothing: its upper end is above SHARE of the largest s.d. between the
    metric's bounds, half of their distance, or without two bounds above REACH times the s.d. of all sources."""
    most = SHARE * (within[1] - within[0]) / 2 if math.isfinite(within[1] - within[0]) else REACH * total
    ends = (lower, upper) if lower < upper <= most else (math.nan, math.nan)
    return Interval(freedom + 1, sd, math.nan, *ends)


def _same_group(paths: Sequence[tuple[str, ...]], depth: int) -> np.ndarray:
    """Whether two of R runs share their first seeds, (R, R)."""
    return np.array([[float(one[:depth] == other[:depth]) for other in paths] for one in paths])


def tables(found: Findings) -> list[Table]:
    """Of each condition whose runs vary several seeds separately."""
    several = len(found.conditions) > 1
    made = ((name, _table(found, condition)) for name, condition in found.named())
    return [t._replace(title=f"{t.title}, {name}") if several else t for name, t in made if t]


def _table(found: Findings, condition: Condition[Finished]) -> Table | None:
    seeds = [seeds_by_source(run.config) for run in condition.runs]
    metrics = [m for m in shown(found.catalogue, "tables") if any(run.keys(m) for run in condition.runs)]
    values = np.array([[last_of(run, metric) for metric in metrics] for run in condition.runs])
    values, metrics = (
        values[:, there := np.isfinite(values).all(0)],
        [m for m, t in zip(metrics, there, strict=True) if t],
    )
    components = variance_components(values, seeds)
    if not components or not metrics:
        return None
    rows = []
    for k, metric in enumerate(metrics):
        total = sum(max(float(component.variance[k]), 0) for component in components)
        for c in components:
            sd, lower, upper = (math.sqrt(max(float(part[k]), 0)) for part in (c.variance, c.lower, c.upper))
            share = f"{sd**2 / total:.0%}" if total else "-"
            numbers = as_text(_said(sd, lower, upper, c.freedom, math.sqrt(total), metric.range))
            rows.append([metric.title, SOURCES[c.source], numbers, share, str(c.freedom)])
        rows.append([metric.title, "all together", f"{math.sqrt(total):.3f}", "100%" if total else "-", "-"])
    columns = ["metric", "source", "s.d.", "share of the variance", "degrees of freedom"]
    return Table("Where the variance comes from", columns, rows, NOTE)
