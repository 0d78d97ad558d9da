"""Mean and intervals over the runs of a condition, for every step and metric of their journals."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from taskcluster.metrics import Catalogue, Metric
from taskcluster.results.intervals import DRAWN, FEWEST, UNBOUNDED, Interval, intervals
from taskcluster.runs.journal import SPLITS, Row, finite, parse

Point = dict[str, Any]
Layout = tuple[tuple[int, tuple[str, ...]], ...]  # measured steps, each with the journal's keys
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
    layout, values = measured(journals)
    columns = estimates(layout, values[:, None], known, task_sets)
    values = np.where(np.isfinite(values), values, np.nan)
    columns |= {"least": np.fmin.reduce(values), "most": np.fmax.reduce(values)}
    several = 1 < len(journals) < DRAWN
    numbers = zip(*(column.ravel().tolist() for column in columns.values()), strict=True)
    return [
        cell | dict(zip(columns, map(finite, row), strict=True)) | {"runs": [*map(finite, runs)] if several else None}
        for cell, row, runs in zip(cells(layout), numbers, values.T.tolist(), strict=True)
    ]


def measured(journals: Sequence[Sequence[Row]]) -> tuple[Layout, np.ndarray]:
    """What the journals of a condition's runs measured, and the runs' values (R, M), NaN where a run has none."""
    by_step = [{row["step"]: row for row in rows} for rows in journals]
    layout: list[tuple[int, tuple[str, ...]]] = []
    columns = [np.empty((len(journals), 0))]
    for step in sorted({step for rows in by_step for step in rows}):
        at_step = [rows.get(step, {}) for rows in by_step]
        keys = metric_keys(tuple(dict.fromkeys(chain.from_iterable(at_step))))
        layout.append((step, keys))
        columns.append(np.array([[*map(row.get, keys)] for row in at_step], dtype=float))
    return tuple(layout), np.concatenate(columns, axis=1)


@lru_cache(maxsize=1024)
def metric_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a line's keys that are a metric's."""
    return tuple(key for key in keys if parse(key))


def cells(layout: Layout) -> list[dict[str, Any]]:
    """{"step", "metric", "split", "layer"} of each of the M cells of a layout."""
    named = ((step, parse(key)) for step, keys in layout for key in keys)
    return [{"step": step} | parsed._asdict() for step, parsed in named if parsed]


def estimates(
    layout: Layout, values: np.ndarray, known: Catalogue, task_sets: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """The numbers of the points of `over_runs`, each (C, M), of C conditions that measured the same M cells. Their R
    runs have these task sets and values (R, C, M). NaN stands for a number that is undefined."""
    in_order, (_, *shape) = cells(layout), values.shape
    by_layer = np.array([cell["layer"] is not None for cell in in_order], bool)
    low, high = (np.tile(end, shape[0]) for end in ranges([cell["metric"] for cell in in_order], known))
    values = values.reshape(len(values), -1)

    def estimated(n_cells: ArrayLike) -> list[np.ndarray]:
        return [part.reshape(shape) for part in intervals(values, low, high, task_sets, n_cells)]

    columns = dict(zip(Interval._fields, estimated(1), strict=True))
    for family, keys in FAMILIES.items():
        numbers: dict[tuple[Any, ...], int] = {}
        members = [numbers.setdefault(tuple(cell[key] for key in keys), len(numbers)) for cell in in_order]
        counts = np.zeros((len(numbers), shape[0]), int)
        np.add.at(counts, members, (columns["n"] >= FEWEST).T)
        n_cells = counts[members].T
        *_, lower, upper = estimated(np.maximum(n_cells, 1).ravel())
        there = by_layer | (family == "steps")
        columns[f"lower_over_{family}"] = np.where(there, lower, np.nan)
        columns[f"upper_over_{family}"] = np.where(there, upper, np.nan)
    return columns | {"cells": np.where(by_layer, n_cells.astype(object), np.nan)}  # number of cells in the map


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
