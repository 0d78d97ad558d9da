"""Mean and intervals over the runs of a condition, for every step and metric of their journals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from taskcluster.metrics import Catalogue, Metric
from taskcluster.results.bootstrap import MANY, interquartile_means, strata
from taskcluster.results.conditions import Swept
from taskcluster.results.intervals import (
    DRAWN,
    UNBOUNDED,
    Interval,
    informative,
    intervals,
    limits,
    moments,
    simultaneous,
)
from taskcluster.runs.journal import Row, parse
from taskcluster.views import views

Point = dict[str, Any]
FOR_CHARTS = ("least", "most", "runs")  # keys of a point that only charts need
FAMILIES = {"steps": ("metric", "split", "layer"), "layers": ("metric", "split", "step"), "map": ("metric", "split")}


def over_runs(journals: Sequence[Sequence[Row]], known: Catalogue, task_sets: Sequence[str] = ()) -> list[Point]:
    """A point {"step", "metric", "split", "layer", "n", "mean", "sd", "lower", "upper"} for each step and metric of the
    journals of one condition's runs, which have these task sets. None stands for a number that is undefined, and for
    the ends of an interval that says nothing (`intervals.informative`). Intervals stay in the metric's range.

    Simultaneous intervals: "lower_over_steps", "upper_over_steps" at all steps of a curve; for numbers by layer also
    "lower_over_layers", "upper_over_layers" in all layers of the step, and "lower_over_map", "upper_over_map" in all
    layers and steps, of which there are "cells". For charts, points have "least" and "most" of the runs' values, and,
    for several runs, but fewer than DRAWN, "runs", the value of each. From MANY runs on, points of the last step have
    "iqm", the interquartile mean, with "iqm_lower" and "iqm_upper".
    """
    cells, values = _cells(journals)
    within = ranges([cell["metric"] for cell in cells], known)
    columns = dict(zip(Interval._fields, intervals(values, *within, task_sets), strict=True))
    columns |= _simultaneous(cells, values, strata(task_sets, len(journals)), columns, within)
    if len(journals) >= MANY:
        columns |= _interquartile(cells, values, strata(task_sets, len(journals)), columns, within)
    values = np.where(np.isfinite(values), values, np.nan)
    several = 1 < len(journals) < DRAWN
    points = []
    for cell, runs, *numbers in zip(cells, values.T.tolist(), *map(np.ndarray.tolist, columns.values()), strict=True):
        finite = [value for value in runs if value == value] or [None]
        point = cell | dict(zip(columns, map(_defined, numbers), strict=True))
        point |= {"runs": [*map(_defined, runs)] if several else None, "least": min(finite), "most": max(finite)}
        points.append(point)
    return points


def ranges(metrics: Sequence[str], known: Catalogue) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest values that metrics can take, each (M,)."""
    bounds = [known[key].range if key in known else UNBOUNDED for key in metrics]
    low, high = np.array(bounds, dtype=float).reshape(-1, 2).T
    return low, high


def _cells(journals: Sequence[Sequence[Row]]) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Every step and metric of the journals, by step, and the runs' values (R, M), NaN where a run has none."""
    by_step = [{row["step"]: row for row in rows} for rows in journals]
    cells: list[dict[str, Any]] = []
    columns = [np.empty((len(journals), 0))]
    for step in sorted({step for rows in by_step for step in rows}):
        at_step = [rows.get(step, {}) for rows in by_step]
        keys = {key: parsed for row in at_step for key in row if (parsed := parse(key))}
        cells += [{"step": step} | parsed._asdict() for parsed in keys.values()]
        columns.append(np.array([[row.get(key) for key in keys] for row in at_step], dtype=float))
    return cells, np.concatenate(columns, axis=1)


def _simultaneous(
    cells: Sequence[Point], values: np.ndarray, labels: np.ndarray, alone: Mapping[str, np.ndarray], within: Any
) -> dict[str, np.ndarray]:
    """The columns of the intervals that hold in many points, none of which is shorter than that of the point alone."""
    estimate, by_layer = moments(values, labels), np.array([cell["layer"] is not None for cell in cells])
    columns = {}
    for family, keys in FAMILIES.items():
        times, n_cells = simultaneous(values, labels, estimate, [tuple(cell[key] for key in keys) for cell in cells])
        lower, upper = limits(estimate, times, *within)
        there = np.isfinite(lower) & np.isfinite(alone["lower"]) & (by_layer | (family == "steps"))
        columns[f"lower_over_{family}"] = np.where(there, np.minimum(lower, alone["lower"]), np.nan)
        columns[f"upper_over_{family}"] = np.where(there, np.maximum(upper, alone["upper"]), np.nan)
    columns["cells"] = np.array([n if layered else None for n, layered in zip(n_cells.tolist(), by_layer, strict=True)])
    return columns


def _interquartile(
    cells: Sequence[Point], values: np.ndarray, labels: np.ndarray, alone: Mapping[str, np.ndarray], within: Any
) -> dict[str, np.ndarray]:
    """The columns of interquartile means at the last step, NaN at others."""
    last = np.array([cell["step"] == cells[-1]["step"] for cell in cells])
    means = np.full((3, len(cells)), np.nan)
    means[:, last] = interquartile_means(values[:, last], labels)
    lower, upper = informative(alone["n"], means[0], alone["sd"], means[1], means[2], *within)
    return {"iqm": means[0], "iqm_lower": lower, "iqm_upper": upper}


def sweep_points(points: Sequence[Point], sweep: Swept, metrics: Sequence[Metric]) -> list[Point]:
    """The points of metrics on validation at the last step, in the last layer, each with the "value" of a swept key."""
    keys = {metric.key for metric in metrics}
    chosen = [p for p in points if p["split"] == "val" and p["metric"] in keys and p["condition"] in sweep.values]
    chosen.sort(key=lambda p: (p["step"], -1 if p["layer"] is None else p["layer"]))
    last = {(point["condition"], point["metric"]): point for point in chosen}
    return [point | {"value": sweep.values[point["condition"]]} for point in last.values()]


def comparable(known: Catalogue) -> list[Metric]:
    """Metrics between 0 and 1 that are shown beside a run, or as a map."""
    return [metric for metric in known.values() if metric.emerges and not {"runs", "map"}.isdisjoint(views(metric))]


def _defined(value: Any) -> Any:
    return None if value != value else value
