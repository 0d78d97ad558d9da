"""The cells of a report's tables: estimates over the runs of a condition, and how they are printed."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from taskcluster.metrics import Metric
from taskcluster.results.conditions import Condition
from taskcluster.results.findings import Finished
from taskcluster.results.intervals import UNBOUNDED, Interval, Range, interval, interval_of_each
from taskcluster.results.points import Point
from taskcluster.runs.journal import number

TOO_FEW = "too few runs"

Column = Callable[[Finished], float]


class Table(NamedTuple):
    """note: explains how to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def estimate(condition: Condition[Finished], column: Column, within: Range = UNBOUNDED, cells: int = 1) -> Interval:
    """The mean of a number over the runs of a condition; within, cells: see `intervals.interval`."""
    task_sets = [run.task_set for run in condition.runs]
    return interval([column(run) for run in condition.runs], within, cells, task_sets)


def estimate_each(
    conditions: Sequence[Condition[Finished]], column: Column, within: Range = UNBOUNDED
) -> list[Interval]:
    """The `estimate` of each condition."""
    values = [[column(run) for run in condition.runs] for condition in conditions]
    task_sets = [[run.task_set for run in condition.runs] for condition in conditions]
    return interval_of_each(values, [within] * len(conditions), 1, task_sets)


def last_of(run: Finished, metric: Metric) -> float:
    """A metric on validation at the last step, in the last layer; NaN if it was not measured."""
    keys = run.keys(metric)
    return number(run.last, keys[-1]) if keys else math.nan


def interval_of(point: Point, suffix: str = "") -> Interval:
    """An interval of a point: the pointwise one, or that of a family, as suffix "_over_layers"."""
    return Interval(point["n"], *(number(point, key) for key in ("mean", "sd", f"lower{suffix}", f"upper{suffix}")))


def point_text(point: Point | None, suffix: str = "") -> str:
    """The mean of a point with an interval; "-" if there is none."""
    return as_text(interval_of(point, suffix)) if point else "-"


def as_text(value: Interval, digits: int = 3) -> str:
    """The mean with its interval, or with the reason why it has none."""
    if not value.n:
        return "-"
    interval = ends(value, digits)
    return f"{value.mean:z.{digits}f} {interval if interval.startswith('[') else f'({interval})'}"


def ends(value: Interval, digits: int = 3) -> str:
    if math.isnan(value.lower):
        return TOO_FEW if value.n else "-"
    if value.sd == 0:
        return "the same in all runs"
    return f"[{value.lower:z.{digits}f}, {value.upper:z.{digits}f}]"


def titled(words: str, metric: Metric) -> str:
    """A title with the place where a metric is measured, if it has one."""
    return f"{words}, {metric.where}".rstrip(", ")
