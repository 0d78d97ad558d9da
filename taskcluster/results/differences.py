"""Differences between conditions on the same seeds, as a table.

A seed draws the same tasks, initial weights and batches in every condition that has them, so what two conditions share
by their seeds cancels in the difference, and its interval is shorter than those of the two means suggest.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from taskcluster.metrics import Metric, shown
from taskcluster.results.cells import Table, as_text, ends, last_of
from taskcluster.results.conditions import Condition, usual
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.intervals import FEWEST, interval

NOTE = """Validation, last step; in the last layer of each where a metric has several. Mean of condition less reference
over the seeds that both have [95 % interval]. The reference has the values that most conditions of the sweep have, and
of as many it is the first. All comparisons: the interval at the level 1 - 0.05 / {count}, so that the {count} of this
table cover their differences at once with 95 % (Bonferroni's inequality)."""


class Difference(NamedTuple):
    """Of a metric between two conditions: a value and a task set for each seed that both have."""

    condition: str
    reference: str
    metric: Metric
    values: list[float]
    task_sets: list[str]


def tables(findings: Findings) -> list[Table]:
    """[] if no two conditions of a sweep share seeds."""
    differences = [one for one in _differences(findings) if one.values]
    count = sum(len(one.values) >= FEWEST for one in differences)
    rows = []
    for condition, reference, metric, values, task_sets in differences:
        low, high = metric.range
        within = low - high, high - low
        alone = interval(values, within, task_sets=task_sets)
        together = interval(values, within, max(count, 1), task_sets)
        if math.isfinite(together.lower):  # the bootstrap's may be longer on one side
            together = together._replace(lower=min(together.lower, alone.lower), upper=max(together.upper, alone.upper))
        rows.append([condition, reference, metric.title, as_text(alone), ends(together), str(alone.n)])
    columns = ["condition", "reference", "metric", "difference", "all comparisons", "pairs"]
    return [Table("Differences between conditions", columns, rows, NOTE.format(count=count))] if rows else []


def reference(conditions: Sequence[Condition[Finished]]) -> Condition[Finished]:
    """The condition of a sweep with which the others are compared."""
    settings = [condition.settings for condition in conditions]
    common = {key: usual(key, settings) for key in settings[0]}
    return max(conditions, key=lambda one: sum(one.settings[key] == value for key, value in common.items()))


def _differences(findings: Findings) -> Iterator[Difference]:
    names = {condition.key: name for name, condition in findings.named()}
    for sweep in dict.fromkeys(condition.sweep for condition in findings.conditions):
        conditions = [condition for condition in findings.conditions if condition.sweep == sweep]
        base = reference(conditions)
        by_seed = {run.seed: run for run in base.runs}
        for condition in conditions:
            pairs = [(run, by_seed[run.seed]) for run in condition.runs if run.seed in by_seed]
            for metric in shown(findings.catalogue, "tables") if condition is not base else ():
                values = [(last_of(run, metric) - last_of(other, metric), run.task_set) for run, other in pairs]
                there = [pair for pair in values if math.isfinite(pair[0])]
                named = names[condition.key], names[base.key]
                yield Difference(*named, metric, [value for value, _ in there], [tasks for _, tasks in there])
