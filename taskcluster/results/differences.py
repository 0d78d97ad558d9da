"""Differences between conditions on the same seeds, as a table. Findings in, Tables out.

A seed draws the same tasks, initial weights and batches in every condition that has them, so what two conditions share
by their seeds cancels in the difference, and its interval is shorter than those of the two means let expect.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from taskcluster.metrics import Metric
from taskcluster.results.aggregate import Condition, usual
from taskcluster.results.cells import Table, as_text, ends, last_of
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.statistics import FEWEST, interval
from taskcluster.views import shown

NOTE = """Validation, last step; in the last layer of each where a metric has several. Mean of condition less reference
over the seeds that both have [95 % interval]. The reference has the values that most conditions of the sweep have, and
of as many it is the first. All comparisons: the interval at the level 1 - 0.05 / {count}, so that the {count} of this
table cover their differences at once with 95 % (Bonferroni's inequality)."""


class Pairs(NamedTuple):
    """Differences of a metric on the same seeds; task_sets: of each."""

    names: tuple[str, str]
    metric: Metric
    values: list[float]
    task_sets: list[str]


def tables(found: Findings) -> list[Table]:
    """[] where no two conditions of a sweep share seeds."""
    pairs = [one for one in _pairs(found) if one.values]
    count = sum(len(one.values) >= FEWEST for one in pairs)
    rows = []
    for (name, reference), metric, values, task_sets in pairs:
        low, high = metric.range
        within = low - high, high - low
        alone = interval(values, within, task_sets=task_sets)
        together = interval(values, within, max(count, 1), task_sets)
        if math.isfinite(together.lower):  # the bootstrap's may be longer on one side
            together = together._replace(lower=min(together.lower, alone.lower), upper=max(together.upper, alone.upper))
        rows.append([name, reference, metric.title, as_text(alone), ends(together), str(alone.n)])
    columns = ["condition", "reference", "metric", "difference", "all comparisons", "pairs"]
    return [Table("Differences between conditions", columns, rows, NOTE.format(count=count))] if rows else []


def reference(conditions: Sequence[Condition[Finished]]) -> Condition[Finished]:
    """Of a sweep's conditions the one with which others are compared."""
    settings = [condition.settings for condition in conditions]
    common = {key: usual(key, settings) for key in settings[0]}
    return max(conditions, key=lambda one: sum(one.settings[key] == value for key, value in common.items()))


def _pairs(found: Findings) -> list[Pairs]:
    pairs = []
    names = {condition.key: name for name, condition in found.named()}
    for sweep in dict.fromkeys(condition.sweep for condition in found.conditions):
        conditions = [condition for condition in found.conditions if condition.sweep == sweep]
        first = reference(conditions)
        by_seed = {run.seed: run for run in first.runs}
        for condition in conditions:
            both = [
                (run, by_seed[run.seed]) for run in condition.runs if run.seed in by_seed and condition is not first
            ]
            for metric in shown(found.catalogue, "tables"):
                differences = [(last_of(one, metric) - last_of(other, metric), one.task_set) for one, other in both]
                there = [pair for pair in differences if math.isfinite(pair[0])]
                named = names[condition.key], names[first.key]
                pairs.append(Pairs(named, metric, [value for value, _ in there], [tasks for _, tasks in there]))
    return pairs
