"""The curves of a condition while its runs grow: mean and 95 % interval over the runs, at each step."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from taskcluster.operations.live.live import LiveRun
from taskcluster.results.conditions import task_set
from taskcluster.results.intervals import DRAWN, FEWEST, intervals
from taskcluster.results.points import ranges
from taskcluster.runs.journal import parse

DIGITS = 6  # after the point

POINT = ("n", "mean", "lower", "upper", "runs")  # what there is of a curve at a step

Values = list[float | None]


class Curves:
    """The curves of these runs.

    keys: K keys of the journal. points: step -> {"n", "mean", "lower", "upper", "runs"}, each K values, None for what
    is not a number. n is one number where it is the same for all; runs, the values of every run, only for few runs;
    lower and upper only from three runs on. version: see `Watcher`. encoded: all of it as JSON.
    """

    def __init__(self, runs: Sequence[LiveRun]) -> None:
        self.runs = runs
        self.version = 0
        self.keys: list[str] = []
        self.points: dict[int, dict[str, Any]] = {}
        self.encoded = b"{}"
        self._rows: dict[int, list[dict[str, float]]] = {}
        self._revisions: list[int] = []

    def update(self, version: int) -> bool:
        """Compute the steps at which a run has another row; whether there was any news."""
        revisions = [run.revision for run in self.runs]
        if revisions == self._revisions:
            return False
        keys = list(dict.fromkeys(key for run in self.runs for row in run.rows.values() for key in row))
        steps = sorted({step for run in self.runs for step in run.rows})
        rows = {step: [run.rows.get(step, {}) for run in self.runs] for step in steps}
        known = self._rows if keys == self.keys else {}
        new = [step for step in steps if rows[step] != known.get(step)]
        points = self.points | dict(zip(new, self._points([rows[step] for step in new], keys), strict=True))
        self.points = {step: points[step] for step in steps}
        self.keys, self.version, self._rows, self._revisions = keys, version, rows, revisions
        columns = {name: [point[name] for point in self.points.values()] for name in POINT}
        self.encoded = orjson.dumps({"keys": keys, "steps": steps, **columns})
        return True

    def _points(self, rows: Sequence[Sequence[dict[str, float]]], keys: Sequence[str]) -> list[dict[str, Any]]:
        """The points of S steps, from the R rows of each."""
        if not rows or not keys:
            return [{name: [] for name in POINT} for _ in rows]
        values = np.array([[[row.get(key, math.nan) for key in keys] for row in at_step] for at_step in rows])
        known = {key: metric for run in self.runs for key, metric in run.catalogue.value.items()}
        low, high = ranges([named.metric for key in keys if (named := parse(key))], known)
        task_sets = [task_set(run.config.value) for run in self.runs]
        flat = np.moveaxis(values, 1, 0).reshape(len(self.runs), -1)
        over_runs = intervals(flat, np.tile(low, len(rows)), np.tile(high, len(rows)), task_sets)
        n, mean, _, lower, upper = (part.reshape(len(rows), len(keys)) for part in over_runs)
        points = []
        for k, counts in enumerate(n.tolist()):
            several, few = len(self.runs) >= FEWEST, 1 < len(self.runs) < DRAWN
            ends = (_plain(lower[k]), _plain(upper[k])) if several else (None, None)
            each = [_plain(column) for column in values[k].T] if few else None
            number = counts[0] if len({*counts}) == 1 else counts
            points.append(dict(zip(POINT, (number, _plain(mean[k]), *ends, each), strict=True)))
        return points


def _plain(values: np.ndarray) -> Values:
    return [None if value != value else value for value in np.round(values, DIGITS).tolist()]
