"""Cells and rows of the docs' tables: means over the runs of a condition with 95 % intervals, as in a report."""

from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

from taskcluster.results.cells import Table, as_text, estimate
from taskcluster.results.conditions import Condition
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.intervals import Interval
from taskcluster.results.tables import tables
from taskcluster.runs.condition import decisive
from taskcluster.runs.journal import fixed, layers_of, number

Runs = Condition[Finished]


def select(found: Findings, settings: Mapping[str, Any]) -> Runs:
    """The one condition with these settings, by dotted key."""
    (one,) = (c for c in found.conditions if settings.items() <= decisive(c.runs[0].config).items())
    return one


def restricted(found: Findings, chosen: Sequence[Runs]) -> Findings:
    """The same with some of the conditions."""
    fewer = copy(found)
    fewer.conditions = list(chosen)
    fewer.names = [name for c in chosen for name, other in found.named() if other is c]
    fewer.runs = [run for c in chosen for run in c.runs]
    return fewer


def report(found: Findings, chosen: Sequence[Runs]) -> Mapping[str, Table]:
    """The tables of a report over some of the conditions, by title."""
    fewer = restricted(found, chosen)
    points = [point for _, of_condition in fewer.points() for point in of_condition]
    return {table.title: table for table in tables(fewer, points)}


def columns(table: Table, names: Sequence[str]) -> Table:
    """Those of the columns, without the note."""
    chosen = [k for k, name in enumerate(table.columns) if name in names]
    return Table("", [table.columns[k] for k in chosen], [[row[k] for k in chosen] for row in table.rows])


def printed(found: Interval, digits: int = 2) -> str:
    """Mean and interval, without an interval that rounds to the mean."""
    text = as_text(found, digits)
    mean, _, ends = text.partition(" ")
    return mean if ends == f"[{mean}, {mean}]" else text


def last(found: Findings, condition: Runs, key: str, split: str = "val", digits: int = 2) -> str:
    """A metric at the last step, in the last layer."""
    metric = found.catalogue[key]
    key = metric.at(split, depth(condition))
    return printed(estimate(condition, lambda run: number(run.last, key), metric.range), digits)


def by_layer(
    found: Findings,
    condition: Runs,
    key: str,
    split: str = "val",
    together: bool = False,
    step: int = -1,
    digits: int = 2,
) -> list[str]:
    """A metric in layers 0 to L, at the last measured step or another. together: intervals hold in all layers at once
    (Bonferroni's inequality), not each by itself."""
    metric, layers = found.catalogue[key], range(depth(condition) + 1)
    cells = len(layers) if together else 1

    def column(run: Finished, name: str) -> float:
        return number(run.rows[step], name)

    columns = (partial(column, name=metric.at(split, layer)) for layer in layers)
    return [printed(estimate(condition, of_layer, metric.range, cells), digits) for of_layer in columns]


def plain(run: Finished, key: str, row: int = -1) -> list[str]:
    """The numbers of one run in layers 0 to L, at the last measured step or another."""
    return [fixed(value, 2) for value in layers_of(run.rows[row], run.catalogue[key].stem("val"))]


def depth(condition: Runs) -> int:
    return int(condition.runs[0].config["model"]["n_layer"])


def named(condition: Runs, *keys: str) -> tuple[Any, ...]:
    """The values of a condition's settings, None where it lacks one."""
    values = decisive(condition.runs[0].config)
    return tuple(values.get(key) for key in keys)


def numbered(condition: Runs, first: str = "") -> list[str]:
    """The columns of a table by layer."""
    return [first, *(str(layer) for layer in range(depth(condition) + 1))]
