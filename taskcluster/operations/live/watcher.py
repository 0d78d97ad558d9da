"""Run folders while they are written. Only reads, and knows nothing of the web.

in:  a folder that contains run folders at any depth, now or later
out: a `Live` for each run; for each condition its `Curves`
"""

import time
from pathlib import Path
from typing import Any

from taskcluster.metrics import Catalogue
from taskcluster.operations.live.curves import Curves
from taskcluster.operations.live.live import Live, LiveRun, digest
from taskcluster.results.conditions import Condition, conditions, find_runs
from taskcluster.runs.folder import RunFolder


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
        """Put the runs into conditions again if any run, configuration or catalogue is another; whether that is so."""
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
