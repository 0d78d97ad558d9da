"""The cells of a report's tables: estimates over the runs of a condition, and how they are printed."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from taskcluster.metrics import ACCURACY, Metric
from taskcluster.results.aggregate import Condition, Point
from taskcluster.results.findings import Finished
from taskcluster.results.statistics import UNBOUNDED, Interval, Range, interval
from taskcluster.runs.journal import number
from taskcluster.runs.records import text

TOO_FEW = "too few runs"

Column = Callable[[Finished], float]


class Table(NamedTuple):
    """note: what a reader must know to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def over(condition: Condition[Finished], column: Column, within: Range = UNBOUNDED, cells: int = 1) -> Interval:
    task_sets = [run.task_set for run in condition.runs]
    return interval([column(run) for run in condition.runs], within, cells, task_sets)


def at_the_end(key: str) -> Column:
    return lambda run: number(run.last, key)


def last_of(run: Finished, metric: Metric) -> float:
    """A metric on validation at the last step, in the last layer; NaN where it was not measured."""
    keys = run.keys(metric)
    return number(run.last, keys[-1]) if keys else math.nan


def claim_of(run: Finished, name: str) -> Mapping[str, Any]:
    return next((claim for claim in run.results["claims"] if claim["name"] == name), {})


def value_of(name: str) -> Column:
    return lambda run: number(claim_of(run, name), "value")


def emerging(metric: Metric) -> dict[str, Column]:
    def accuracy(run: Finished) -> float:
        return run.emergence(ACCURACY.stem("val"))

    def own(run: Finished) -> float:
        keys = run.keys(metric)
        return run.emergence(keys[-1]) if keys else math.nan

    return {"accuracy": accuracy, "metric": own, "later": lambda run: own(run) - accuracy(run)}


def first_of(metric: Metric, later: Interval) -> str:
    if later.n < 2:
        return "one run cannot tell" if later.n else "-"
    if later.lower > 0:
        return ACCURACY.name
    return metric.name if later.upper < 0 else f"{later.n} runs cannot tell"


def as_text(found: Interval, digits: int = 3) -> str:
    """The mean with its interval, or with why it has none."""
    if not found.n:
        return "-"
    said = ends(found, digits)
    return f"{found.mean:z.{digits}f} {said if said.startswith('[') else f'({said})'}"


def ends(found: Interval, digits: int = 3) -> str:
    if math.isfinite(found.lower):
        same = found.sd == 0
        return "the same in all runs" if same else f"[{found.lower:z.{digits}f}, {found.upper:z.{digits}f}]"
    return TOO_FEW if found.n else "-"


def of_map(point: Point) -> str:
    """With the interval that holds in all cells of its map."""
    return as_text(_over_family(point, "map"))


def over_layers(point: Point) -> str:
    """The interval that holds in all layers of its step."""
    return ends(_over_family(point, "layers"))


def _over_family(point: Point, family: str) -> Interval:
    numbers = (number(point, key) for key in ("mean", "sd", f"lower_over_{family}", f"upper_over_{family}"))
    return Interval(point["n"], *numbers)


def shared(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({n} runs)" for value, n in values.most_common())


def day(time: str) -> str:
    try:
        return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text(time)
