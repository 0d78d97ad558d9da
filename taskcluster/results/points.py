"""Mean and intervals over the runs of a condition, for every step and metric of their journals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from taskcluster.metrics import Catalogue
from taskcluster.results.bootstrap import MANY, interquartile_means, strata
from taskcluster.results.intervals import DRAWN, UNBOUNDED, Interval, informative, intervals, limits, moments, simultaneous
from taskcluster.runs.journal import Row, parse

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
    low, high = ranges([cell["metric"] for cell in cells], known)
    estimates = dict(zip(Interval._fields, intervals(values, low, high, task_sets), strict=True))
    columns = estimates | _simultaneous(cells, values, task_sets, estimates, (low, high))
    if len(journals) >= MANY:
        columns |= _interquartile(cells, values, task_sets, estimates, (low, high))
    finite = np.isfinite(values)
    columns["least"] = np.where(estimates["n"] > 0, np.where(finite, values, np.inf).min(0), np.nan)
    columns["most"] = np.where(estimates["n"] > 0, np.where(finite, values, -np.inf).max(0), np.nan)
    several = 1 < len(journals) < DRAWN
    of_runs = np.where(finite, values, np.nan).T.tolist()
    points = []
    for cell, runs, *numbers in zip(cells, of_runs, *(column.tolist() for column in columns.values()), strict=True):
        point = cell | {key: _defined(number) for key, number in zip(columns, numbers, strict=True)}
        points.append(point | {"runs": [_defined(value) for value in runs] if several else None})
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
    cells: Sequence[Point], values: np.ndarray, task_sets: Sequence[str], alone: dict[str, np.ndarray], within: Any
) -> dict[str, np.ndarray]:
    """The columns of the intervals that hold in many points, none of which is shorter than that of the point alone."""
    labels = strata(task_sets, len(values))
    estimate, by_layer = moments(values, labels), np.array([cell["layer"] is not None for cell in cells])
    columns = {}
    for family, keys in FAMILIES.items():
        times, n_cells = simultaneous(values, labels, estimate, [tuple(cell[key] for key in keys) for cell in cells])
        lower, upper = limits(estimate, times, *within)
        there = (np.isfinite(lower) & np.isfinite(alone["lower"])) & (by_layer | (family == "steps"))
        columns[f"lower_over_{family}"] = np.where(there, np.minimum(lower, alone["lower"]), np.nan)
        columns[f"upper_over_{family}"] = np.where(there, np.maximum(upper, alone["upper"]), np.nan)
    return columns | {"cells": np.where(by_layer, n_cells.astype(object), None)}


def _interquartile(
    cells: Sequence[Point], values: np.ndarray, task_sets: Sequence[str], alone: dict[str, np.ndarray], within: Any
) -> dict[str, np.ndarray]:
    """The columns of interquartile means at the last step, NaN at others."""
    steps = np.array([cell["step"] for cell in cells])
    last = steps == steps.max()
    means = np.full((3, len(cells)), np.nan)
    means[:, last] = interquartile_means(values[:, last], strata(task_sets, len(values)))
    lower, upper = informative(alone["n"], means[0], alone["sd"], means[1], means[2], *within)
    return {"iqm": means[0], "iqm_lower": lower, "iqm_upper": upper}


def _defined(value: Any) -> Any:
    return None if value != value else value
