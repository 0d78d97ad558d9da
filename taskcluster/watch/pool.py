"""A condition while its runs grow: of every curve mean and 95 % interval over the runs, by step."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from taskcluster.results.aggregate import Condition, ranges, task_set
from taskcluster.results.statistics import DRAWN, FEWEST, intervals, widening
from taskcluster.runs.journal import parse
from taskcluster.runs.records import text
from taskcluster.views import mapped
from taskcluster.watch.run import Run

DIGITS = 6  # after the point, of what is sent


class Curves(NamedTuple):
    """Points of a condition. curves: K keys of the journal; steps: S of them; the rest: S x K, None for no number.
    runs: the value of each run, where they are several, but fewer than DRAWN.

    replaced: whether these replace all that was known of the condition; wider: for each metric of a map, by the number
    of runs, how many times as wide an interval must be to hold in all cells of the map together (statistics.widening).
    """

    condition: str
    replaced: bool
    curves: list[str]
    steps: list[int]
    n: list[list[int]]
    mean: list[list[float | None]]
    lower: list[list[float | None]]
    upper: list[list[float | None]]
    runs: list[list[list[float | None]] | None]
    wider: dict[str, list[float | None]]


class Pool:
    """The points of a condition over its runs, by step."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.version = 0
        self.facts: dict[str, Any] = {}
        self._runs: list[Run] = []
        self._curves: list[str] = []
        self._ranges = ranges([], {})  # of the curves' metrics
        self._maps: dict[str, list[int]] = {}  # metric -> which curves are its cells' on validation
        self._replaced = 0  # the version in which all points were last replaced
        self._points: dict[int, tuple[int, list[Any]]] = {}  # step -> version; n, ..., runs, each (K,)
        self._all = False

    def set(self, condition: "Condition[Run]", version: int) -> None:
        names = {"sweep": text(condition.sweep), "label": text(condition.label)}
        facts = {"id": self.id, **names, "runs": len(condition.runs)}
        self._all |= self._runs != condition.runs
        if facts != self.facts:
            self.facts, self.version = facts, version
        self._runs = condition.runs

    def update(self, version: int) -> bool:
        """Compute the steps that changed, or all of them where curves or runs did; whether any did."""
        dirty = set().union(*(run.dirty for run in self._runs))
        everything = self._all or any(run.replaced for run in self._runs)
        if not dirty and not everything:
            return False
        curves = list(dict.fromkeys(key for run in self._runs for key in run.keys))
        everything |= curves != self._curves
        if everything:
            self._points, self._replaced, self._curves, self._all = {}, version, curves, False
            dirty = {step for run in self._runs for step in run.rows}
            known = {key: metric for run in self._runs for key, metric in run.catalogue.items()}
            named = [found for key in curves if (found := parse(key))]
            self._ranges = ranges([key.metric for key in named], known)
            tiled = {metric.key for metric in mapped(known, "map") + mapped(known, "path")}
            on_validation = [(k, key.metric) for k, key in enumerate(named) if key.split == "val"]
            self._maps = {m: [k for k, metric in on_validation if metric == m] for m in sorted(tiled)}
        for run in self._runs:
            run.dirty, run.replaced = set(), False
        for step, block in zip(sorted(dirty), self._blocks(sorted(dirty)), strict=True):
            self._points[step] = version, block
        return True

    def after(self, since: int) -> Curves | None:
        replaced = self._replaced > since
        steps = sorted(step for step, (version, _) in self._points.items() if replaced or version > since)
        if not steps and not replaced:
            return None
        n, mean, lower, upper, runs = ([self._points[step][1][k] for step in steps] for k in range(5))
        return Curves(self.id, replaced, self._curves, steps, n, mean, lower, upper, runs, self._wider())

    def _wider(self) -> dict[str, list[float | None]]:
        counts = np.arange(len(self._runs) + 1)
        found = {}
        for metric, cells in self._maps.items():
            n_cells = sum(block[0][k] >= FEWEST for _, block in self._points.values() for k in cells)
            if n_cells:
                (found[metric],) = _sendable(widening(counts, n_cells)[None])
        return found

    def _blocks(self, steps: Sequence[int]) -> list[list[Any]]:
        """n, mean, lower, upper and runs of every curve, for each step."""
        nothing: dict[str, float] = {}
        rows = [[run.rows.get(step, nothing) for step in steps] for run in self._runs]
        values = np.array([[[row.get(key, math.nan) for key in self._curves] for row in of_run] for of_run in rows])
        if not values.size:
            return [[[], [], [], [], None] for _ in steps]
        low, high = (np.tile(ends, len(steps)) for ends in self._ranges)
        task_sets = [task_set(run.config) for run in self._runs]
        flat = intervals(values.reshape(len(values), -1), low, high, task_sets)
        n, mean, _, lower, upper = (part.reshape(values.shape[1:]) for part in flat)
        drawn = 1 < len(values) < DRAWN
        runs = [_sendable(values[:, s].T) if drawn else None for s in range(len(steps))]
        return [list(block) for block in zip(n.tolist(), *map(_sendable, (mean, lower, upper)), runs, strict=True)]


def _sendable(values: np.ndarray) -> list[list[float | None]]:
    return [[None if value != value else value for value in row] for row in np.round(values, DIGITS).tolist()]
