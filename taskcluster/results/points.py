"""Mean and intervals over the runs of a condition, for every step and metric of their journals."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, compress
from typing import Any

import numpy as np

from taskcluster.metrics import Catalogue, Metric
from taskcluster.results.intervals import DRAWN, FEWEST, UNBOUNDED, Interval, intervals
from taskcluster.runs.journal import SPLITS, Row, finite, parse

Point = dict[str, Any]
FAMILIES = {"steps": ("metric", "split", "layer"), "layers": ("metric", "split", "step"), "map": ("metric", "split")}


def over_runs(journals: Sequence[Sequence[Row]], known: Catalogue, task_sets: Sequence[str] = ()) -> list[Point]:
    """A point {"step", "metric", "split", "layer", "n", "mean", "sd", "lower", "upper"} for each step and metric of the
    journals of one condition's runs, which have these task sets. None stands for a number that is undefined, and for
    the ends of an interval that says nothing (`intervals.informative`). Intervals stay in the metric's range.

    Simultaneous intervals: "lower_over_steps", "upper_over_steps" at all steps of a curve; for numbers by layer also
    "lower_over_layers", "upper_over_layers" in all layers of the step, and "lower_over_map", "upper_over_map" in all
    layers and steps, of which there are "cells". For charts, points have "least" and "most" of the runs' values, and,
    for several runs, but fewer than DRAWN, "runs", the value of each.
    """
    cells, values = _cells(journals)
    within = ranges([cell["metric"] for cell in cells], known)
    columns = dict(zip(Interval._fields, intervals(values, *within, task_sets), strict=True))
    has_interval, by_layer = columns["n"] >= FEWEST, np.array([cell["layer"] is not None for cell in cells], bool)
    for family, keys in FAMILIES.items():
        families = [tuple(cell[key] for key in keys) for cell in cells]
        counts = Counter(compress(families, has_interval))
        n_cells = np.array([counts[name] for name in families], dtype=int)
        *_, lower, upper = intervals(values, *within, task_sets, np.maximum(n_cells, 1))
        there = by_layer | (family == "steps")
        columns[f"lower_over_{family}"] = np.where(there, lower, np.nan)
        columns[f"upper_over_{family}"] = np.where(there, upper, np.nan)
    columns["cells"] = np.where(by_layer, n_cells.astype(object), np.nan)  # number of cells in the map
    values = np.where(np.isfinite(values), values, np.nan)
    columns |= {"least": np.fmin.reduce(values), "most": np.fmax.reduce(values)}
    several = 1 < len(journals) < DRAWN
    numbers = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        cell | dict(zip(columns, map(finite, row), strict=True)) | {"runs": [*map(finite, runs)] if several else None}
        for cell, row, runs in zip(cells, numbers, values.T.tolist(), strict=True)
    ]


def matrices(row: Row, known: Catalogue) -> Iterator[tuple[Metric, str, list[list[float | None]]]]:
    """Metric, split and matrix (L+1, L+1) of every metric by two layers in a line of a journal."""
    declared = [metric for metric in known.values() if metric.by_two_layers]
    yield from ((m, split, row[m.stem(split)]) for m in declared for split in SPLITS if m.stem(split) in row)


def mean_matrices(lines: Sequence[Row], known: Catalogue) -> dict[tuple[str, str], np.ndarray]:
    """{(metric, split): mean (L+1, L+1)} over lines, one of each run, in which a number is defined; NaN without any."""
    values: dict[tuple[str, str], list[np.ndarray]] = {}
    for metric, split, matrix in chain.from_iterable(matrices(line, known) for line in lines):
        values.setdefault((metric.key, split), []).append(np.array(matrix, dtype=float))
    return {key: np.ma.filled(np.ma.masked_invalid(of_runs).mean(0), np.nan) for key, of_runs in values.items()}


def matrix_points(lines: Sequence[Row], known: Catalogue) -> list[Point]:
    """A point {"metric", "split", "layer", "other_layer", "mean"} for each two layers, of `mean_matrices`."""
    return [
        {"metric": key, "split": split, "layer": layer, "other_layer": other, "mean": finite(float(value))}
        for (key, split), mean in mean_matrices(lines, known).items()
        for (layer, other), value in np.ndenumerate(mean)
    ]


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
