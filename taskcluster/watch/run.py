"""One run folder while it is written.

in:  a folder
out: `Live`, the current state of the run; its rows of curves by step, and which of them are new
"""

import hashlib
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from taskcluster.metrics import Catalogue, Metric, View
from taskcluster.results.aggregate import seeds_of, sweep_of
from taskcluster.runs import records
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import Row, layers_of, number, parse
from taskcluster.runs.records import text
from taskcluster.views import shown
from taskcluster.watch.files import File, Lines, is_plain

FOLLOWED: tuple[View, ...] = (
    "runs",
    "curves",
    "map",
    "path",
    "beside",
)  # of a line's hundred values, those that a view shows
RECENT = 50  # lines over which speed is taken


class Timed(NamedTuple):
    """A line's step, and the seconds of training before it."""

    step: int
    elapsed: float


@dataclass(frozen=True)
class Live:
    """The current state of a run.

    id: identifies it as long as its folder is not moved. name: its folder below the root. condition: label of its
    condition, "" while unknown. state: RunFolder.state, or "damaged", which `problem` explains. steps_per_second:
    recently, measuring included. seconds: spent so far. values: {key: value} of the metrics of the view "runs", on
    validation, as they were last measured, by layer in the last one. trend: the first of those by layer at each
    measurement, in the last layer.
    """

    id: str
    name: str
    sweep: str
    condition: str = ""
    condition_id: str = ""
    seed: str = ""
    state: str = "new"
    problem: str = ""
    step: int | None = None
    max_steps: int | None = None
    steps_per_second: float | None = None
    seconds_left: float | None = None
    seconds: float | None = None
    values: tuple[tuple[str, float], ...] = ()
    trend: tuple[float, ...] = ()
    has_tsne: bool = False


class Run:
    """What is known of a run folder. rows: step -> values of the curves, by their keys; keys: of all rows, in order.

    dirty: steps that came since they were last taken; replaced: whether others went.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.folder = RunFolder(path)
        below = str(path.relative_to(root))
        self.id = digest(below)
        self.sweep = sweep_of(path, root)
        self.config: Row = {}
        self.catalogue: Catalogue = {}
        self._shown: frozenset[str] = frozenset()
        self.rows: dict[int, dict[str, float]] = {}
        self.keys: dict[str, None] = {}
        self.dirty: set[int] = set()
        self.replaced = self.regroup = False
        self.version = 0
        self.live = Live(self.id, text(path.name if below == "." else below), text(self.sweep))
        self._config = File(path / "config.yaml")
        self._status = File(path / "status.json")
        self._declared = File(path / "catalogue.json")
        self._journal = Lines(self.folder.journal, self._measured)
        self._training = Lines(self.folder.training, _timed)
        self._tsne = path / "figures" / "tsne.json"
        self._facts: Row = {}
        self._recent: deque[Timed] = deque(maxlen=RECENT)
        self._began: Any = None
        self._found = self.live

    def refresh(self) -> None:
        """Read what came since the last time."""
        try:
            news = self._read_config() | self._read_catalogue()
            state = self.folder.state_by(self._read_status)
            news |= self._follow()
            if news or (state, "") != (self._found.state, self._found.problem):
                self._found = self._take_stock(state)
            self._found = replace(self._found, has_tsne=is_plain(self._tsne))
        except FileNotFoundError:  # it goes while we look
            return
        except Exception as error:  # whatever is wrong with one run is not to take the others along
            self._found = replace(self._found, state="damaged", problem=text(str(error) or type(error).__name__))

    def settle(self, version: int, condition: Row) -> bool:
        """Note what was found; whether anything is new. condition: its id and label, {} if there is none yet."""
        names = {"condition_id": condition["id"], "condition": condition["label"]} if condition else {}
        live = replace(self._found, **names)
        if live == self.live and self.version:
            return False
        self.live, self.version = live, version
        return True

    def _read_config(self) -> bool:
        if (content := self._config.content()) is None:
            return False
        config = records.parsed(content, self._config.path, records.Config)
        seeds_of(config)  # what cannot be compared must not reach the grouping of all runs
        self.config, self.regroup = config, True
        self._config.taken()
        return True

    def _read_catalogue(self) -> bool:
        if (content := self._declared.content()) is None:
            return False
        there = content or self._declared.there()
        record = records.parsed(content, self._declared.path, records.Declared) if there else {}
        self.catalogue = records.declared(record)
        self._shown = frozenset(metric.key for view in FOLLOWED for metric in shown(self.catalogue, view))
        self._declared.taken()
        return True

    def _read_status(self) -> Row:
        if (content := self._status.content()) is not None:
            there = content or self._status.there()
            self._facts = records.parsed(content, self._status.path, records.Status) if there else {}
            self._status.taken()
        return self._facts

    def _follow(self) -> bool:
        """Read on in the journals, or from the beginning where the run was restarted; whether anything is new."""
        starts = self._facts.get("starts") or [{"step": 0}]
        first = int(starts[-1].get("step", 0))
        began = self._facts.get("id"), len(starts)
        measured, replaced = self._journal.read(began != self._began)
        timed, timed_replaced = self._training.read(began != self._began)
        if replaced:
            self.replaced |= bool(self.rows)
            self.rows, self.keys = {}, {}
        if replaced or timed_replaced:
            self._recent.clear()
        self.rows |= {line.step: values for line, values in measured}
        for _, values in measured:
            self.keys |= dict.fromkeys(values)
        self.dirty |= {line.step for line, _ in measured}
        lines = sorted({line for line, _ in measured} | {*timed})
        # Lines up to the step at which a run resumed were timed by the process before it.
        self._recent.extend(line for line in lines if line.step > first or line.step == first == 0)
        news, self._began = bool(lines) or replaced or timed_replaced or began != self._began, began
        return news

    def _measured(self, row: Row) -> tuple[Timed, dict[str, float]]:
        """Of a line of metrics.jsonl."""
        return _timed(row), {key: number(row, key) for key in _chosen(tuple(row), self._shown)}

    def _take_stock(self, state: str) -> Live:
        rows = [self.rows[step] for step in sorted(self.rows)]
        step = max([*self.rows, *(line.step for line in self._recent)], default=None)
        start = (self._facts.get("starts") or [{}])[-1]
        max_steps = start.get("max_steps") or self.config.get("trainer", {}).get("max_steps")
        (first, began), (last, ended) = (self._recent[0], self._recent[-1]) if self._recent else ((0, 0.0), (0, 0.0))
        speed = (last - first) / (ended - began) if ended > began else None
        left = (max_steps - last) / speed if max_steps and speed and state == "running" else None
        if left and (steps := start.get("steps")):  # of checkpoints, each of which takes as long as any other
            left = sum(step > last for step in steps) * (ended - began) / max(len(self._recent) - 1, 1)
        curves = {metric.key: _deepest(rows, metric) for metric in shown(self.catalogue, "runs")}
        trend = next((curves[m.key] for m in shown(self.catalogue, "runs", by_layer=True)), ())
        return replace(
            self._found,
            state=state,
            problem="",
            seed=text(seeds_of(self.config)),
            step=step,
            max_steps=max_steps,
            steps_per_second=speed,
            seconds_left=left,
            seconds=float(self._facts.get("wall_seconds") or 0) if state != "running" else ended,
            values=tuple((key, curve[-1]) for key, curve in curves.items() if curve),
            trend=trend,
        )


def _timed(row: Row) -> Timed:
    return Timed(row["step"], float(row.get("elapsed") or 0.0))


def _deepest(rows: Sequence[Mapping[str, float]], metric: Metric) -> tuple[float, ...]:
    """The finite values of a metric on validation, one of each row that has it; in the last layer."""
    stem = metric.stem("val")
    columns = (layers_of(row, stem) if metric.by_layer else [number(row, stem)] for row in rows)
    return tuple(values[-1] for values in columns if values and math.isfinite(values[-1]))


@lru_cache(maxsize=64)
def _chosen(keys: tuple[str, ...], metrics: frozenset[str]) -> list[str]:
    return [key for key in keys if (named := parse(key)) and named.metric in metrics]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]
