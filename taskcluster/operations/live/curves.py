"""The curves of a condition while its runs grow: mean and 95 % interval over the runs, at each step."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from taskcluster.operations.live.live import LiveRun
from taskcluster.results.conditions import task_set
from taskcluster.results.intervals import DRAWN, FEWEST, intervals
from taskcluster.results.points import ranges
from taskcluster.runs.journal import parse

DIGITS = 6  # after the point

Point = dict[str, Any]


class Curves:
    """The curves of these runs.

    keys: K keys of the journal. points: step -> {"n", "mean", "lower", "upper": (K,), "runs": (K, R)}, NaN for what is
    not a number. n is one number where it is the same for all; runs, the values of every run, only for few runs; lower
    and upper only from three runs on. version: see `Watcher`. encoded: all of it as JSON.
    """

    def __init__(self, runs: Sequence[LiveRun]) -> None:
        self.runs = runs
        self.version = 0
        self.keys: list[str] = []
        self.points: dict[int, Point] = {}
        self.encoded = b"{}"
        self._rows: dict[int, list[dict[str, float]]] = {}
        self._revisions: list[int] = []

    def update(self, version: int) -> bool:
        """Compute the steps at which a run has another row; whether there was any news."""
        revisions = [run.revision for run in self.runs]
        if revisions == self._revisions:
            return False
        keys = list(dict.fromkeys(key for run in self.runs for row in run.rows.values() for key in row))
        steps = sorted({step for run in self.runs for step in run.rows}) if keys else []
        rows = {step: [run.rows.get(step, {}) for run in self.runs] for step in steps}
        known = self._rows if keys == self.keys else {}
        new = {step: at_step for step, at_step in rows.items() if at_step != known.get(step)}
        points = self.points | self._points(new, keys)
        self.points = {step: points[step] for step in steps}
        self.keys, self.version, self._rows, self._revisions = keys, version, rows, revisions
        columns = {name: [point[name] for point in self.points.values()] for name in next(iter(points.values()), {})}
        self.encoded = orjson.dumps({"keys": keys, "steps": steps, **columns}, option=orjson.OPT_SERIALIZE_NUMPY)
        return True

    def _points(self, rows: Mapping[int, Sequence[dict[str, float]]], keys: Sequence[str]) -> dict[int, Point]:
        """The points of S steps, from the R rows of each."""
        if not rows:
            return {}
        values = np.array([[[row.get(key, math.nan) for row in at_step] for key in keys] for at_step in rows.values()])
        known = {key: metric for run in self.runs for key, metric in run.catalogue.value.items()}
        low, high = ranges([named.metric for key in keys if (named := parse(key))], known)
        task_sets = [task_set(run.config.value) for run in self.runs]
        flat = np.moveaxis(values, 2, 0).reshape(len(self.runs), -1)
        over_runs = intervals(flat, np.tile(low, len(rows)), np.tile(high, len(rows)), task_sets)
        n, mean, _, lower, upper = (part.round(DIGITS).reshape(len(rows), len(keys)) for part in over_runs)
        several, few = len(self.runs) >= FEWEST, 1 < len(self.runs) < DRAWN
        return {
            step: {
                "n": n[k, 0] if (n[k] == n[k, 0]).all() else n[k],
                "mean": mean[k],
                "lower": lower[k] if several else None,
                "upper": upper[k] if several else None,
                "runs": values[k].round(DIGITS) if few else None,
            }
            for k, step in enumerate(rows)
        }
