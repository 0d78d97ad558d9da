"""Follow run folders while they are written, and compute the curves of their conditions. Read-only, independent of the
server.

in:  a folder that contains run folders at any depth, now or later
out: a `Live` for each run; for each condition its `Curves`: mean and 95 % interval over the runs, at each step
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from taskcluster.metrics import Catalogue
from taskcluster.operations.live.live import Live, LiveRun, digest
from taskcluster.results.conditions import Condition, conditions, find_runs, task_set
from taskcluster.results.intervals import DRAWN, FEWEST, intervals
from taskcluster.results.points import mean_matrices, ranges
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import parse

DIGITS = 6  # after the point

Point = dict[str, Any]


class Curves:
    """The curves of these runs.

    keys: K keys of the journal. points: step -> {"n", "mean", "lower", "upper": (K,), "runs": (K, R)}, NaN for what is
    not a number. n is one number where it is the same for all; runs, the values of every run, only for few runs; lower
    and upper only from three runs on. version: see `Watcher`. encoded: all of it as JSON, with "maps": {"SPLIT/METRIC":
    mean matrix of layers by layers}, of every run as last measured.
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
        """Recompute the steps at which a run's row changed; return whether any did."""
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
        means = mean_matrices([run.matrices for run in self.runs], self._known)
        maps = {f"{split}/{key}": mean.round(DIGITS) for (key, split), mean in means.items()}
        content = {"keys": keys, "steps": steps, "maps": maps, **columns}
        self.encoded = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        return True

    @property
    def _known(self) -> Catalogue:
        return {key: metric for run in self.runs for key, metric in run.catalogue.value.items()}

    def _points(self, rows: Mapping[int, Sequence[dict[str, float]]], keys: Sequence[str]) -> dict[int, Point]:
        """The points of S steps, from the R rows of each."""
        if not rows:
            return {}
        values = np.array([[[row.get(key, math.nan) for row in at_step] for key in keys] for at_step in rows.values()])
        low, high = ranges([named.metric for key in keys if (named := parse(key))], self._known)
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


class Watcher:
    """Follows the runs below `root`.

    version: grows whenever a scan finds news, and is larger in each further process. catalogue: of all runs.
    conditions: {id: (condition, curves)}.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.version = time.time_ns() // 1_000_000
        self.catalogue: Catalogue = {}
        self.conditions: dict[str, tuple[Condition[LiveRun], Curves]] = {}
        self._runs: dict[Path, LiveRun] = {}
        self._grouped: list[Any] = []

    def scan(self) -> None:
        """Look at the folders once."""
        before = self.runs()
        folders = [folder.path for folder in find_runs(self.root)]
        self._runs = {path: self._runs.get(path) or LiveRun(path, self.root) for path in folders}
        for run in self._runs.values():
            run.refresh()
        changed = [before != self.runs(), self._group()]
        changed += [curves.update(self.version + 1) for _, curves in self.conditions.values()]
        self.version += any(changed)

    def runs(self) -> list[Live]:
        """All of them, in natural order."""
        return [run.live for run in self._runs.values()]

    def run(self, id: str) -> RunFolder | None:
        """The folder of a run by its id."""
        return next((run.folder for run in list(self._runs.values()) if run.live.id == id), None)

    def _group(self) -> bool:
        """Group the runs again if any run, configuration or catalogue changed; return whether one did."""
        grouped = [(run, run.config.value, run.catalogue.value) for run in self._runs.values()]
        if grouped == self._grouped:
            return False
        self._grouped = grouped
        self.catalogue = {key: metric for *_, catalogue in grouped for key, metric in catalogue.items()}
        before, self.conditions = self.conditions, {}
        for condition in conditions([(run, run.sweep, config) for run, config, _ in grouped if config]):
            id = digest(condition.key)
            curves = before[id][1] if id in before and before[id][1].runs == condition.runs else Curves(condition.runs)
            self.conditions[id] = condition, curves
        return True
