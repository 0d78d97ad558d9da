"""Run folders while they are written: what is new in them since a version. Only reads, and knows of no web.

in:  a folder that holds run folders at any depth, now or later
out: a `Live` for each run; for each condition the mean over its runs with its 95 % interval, by step and curve

`Watcher.scan` reads what was appended since the last one and computes only the steps that it changes. Everything
carries the version, a number that grows, in which it last changed: whoever knows one is told only what came after.
"""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from taskcluster.metrics import Metric
from taskcluster.results.aggregate import conditions, find_runs
from taskcluster.runs.folder import RunFolder
from taskcluster.views import views
from taskcluster.watch.pool import Curves, Pool
from taskcluster.watch.run import Live, Run, digest

__all__ = ["Changes", "Curves", "Live", "Watcher"]


class Changes(NamedTuple):
    """What came after a version. metrics: those of all runs that a view shows, None if they are the same as before;
    runs, conditions: ids of all, in order; changed_conditions: id, sweep, label, runs.
    """

    version: int
    metrics: list[Metric] | None
    runs: list[str]
    changed_runs: list[Live]
    conditions: list[str]
    changed_conditions: list[dict[str, Any]]
    curves: list[Curves]


class Watcher:
    """Follows the runs below `root`. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.version = 0
        self._runs: dict[Path, Run] = {}
        self._pools: dict[str, Pool] = {}  # by id of the condition
        self._metrics: tuple[int, list[Metric]] = 0, []  # the version in which they last changed
        self._condition_of: dict[str, dict[str, Any]] = {}  # facts of its pool by id of the run
        self._lock = threading.Lock()

    def scan(self) -> None:
        """Look at the folders once."""
        with self._lock:
            version = self.version + 1
            folders = [folder.path for folder in find_runs(self.root)]
            others = self._runs
            self._runs = {path: others.get(path) or Run(path, self.root) for path in folders}
            for run in self._runs.values():
                run.refresh()
            changed = list(others) != folders
            if changed or any(run.regroup for run in self._runs.values()):
                changed |= self._group(version)
            for pool in self._pools.values():
                changed |= pool.update(version)
            known = (metric for run in self._runs.values() for metric in run.catalogue.values())
            metrics = list({m.key: replace(m, views=views(m)) for m in known if views(m)}.values())
            if metrics != self._metrics[1]:
                self._metrics, changed = (version, metrics), True
            for run in self._runs.values():
                changed |= run.settle(version, self._condition_of.get(run.id, {}))
            if changed:
                self.version = version

    def metrics(self) -> list[Metric]:
        """Those of all runs that a view shows."""
        return self._metrics[1]

    def runs(self) -> list[Live]:
        """All of them, in natural order."""
        return [run.live for run in list(self._runs.values())]

    def run(self, id: str) -> RunFolder | None:
        """The folder of a run by its id. Paths are never made of what was asked for."""
        return next((run.folder for run in list(self._runs.values()) if run.id == id), None)

    def changes(self, since: int = 0) -> Changes:
        """What came after version `since`; 0 gives everything."""
        with self._lock:
            return Changes(
                version=self.version,
                metrics=self._metrics[1] if self._metrics[0] > since else None,
                runs=[run.id for run in self._runs.values()],
                changed_runs=[run.live for run in self._runs.values() if run.version > since],
                conditions=list(self._pools),
                changed_conditions=[pool.facts for pool in self._pools.values() if pool.version > since],
                curves=[curves for pool in self._pools.values() if (curves := pool.after(since))],
            )

    def _group(self, version: int) -> bool:
        """Put the runs into conditions again, whose labels may be others now; whether anything is."""
        runs = [run for run in self._runs.values() if run.config]
        found = conditions([(run, run.sweep, run.config) for run in runs])
        before = self._pools
        self._pools, self._condition_of = {}, {}
        for condition in found:
            id = digest(condition.key)
            self._pools[id] = before.get(id) or Pool(id)
            self._pools[id].set(condition, version)
            self._condition_of |= {run.id: self._pools[id].facts for run in condition.runs}
        for run in self._runs.values():
            run.regroup = False
        return list(before) != list(self._pools) or any(pool.version == version for pool in self._pools.values())
