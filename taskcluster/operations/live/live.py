"""Follow one run folder while it is written: read files again when they change, and follow no links.

in:  a folder
out: `Live`, the current state of the run; the values of its curves by step
"""

import hashlib
import math
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from taskcluster.metrics import OWN, Catalogue, Metric, View, catalogue
from taskcluster.results.conditions import sweep_of
from taskcluster.results.points import matrices
from taskcluster.runs import records
from taskcluster.runs.condition import seeds_of
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import Row, complete, number, parse, values_of
from taskcluster.runs.records import text
from taskcluster.views import shown

VIEWS: tuple[View, ...] = ("runs", "curves", "map", "path", "beside")  # whose metrics are kept of a line
RECENT = 50  # lines over which the speed is computed
TAIL = 2**15  # bytes at the end of training.jsonl that are read: RECENT lines, and more

Value = TypeVar("Value")


class Document(Generic[Value]):
    """A file that another process writes. value: of the last content that could be parsed; `absent` without a file."""

    def __init__(self, path: Path, parse: Callable[[bytes], Value], absent: Value) -> None:
        self.value = self._absent = absent
        self._path, self._parse = path, parse
        self._stamp: tuple[int, ...] | None = None

    def read(self, again: bool = False) -> bool:
        """Parse the file if it has changed, or if it should be parsed `again`; whether it was. Raises ValueError."""
        stamp = self._stamp_now()
        if stamp == self._stamp and not again:
            return False
        self.value = self._parse(self._path.read_bytes()) if stamp else self._absent
        self._stamp = stamp  # only now: a file that cannot be parsed is read again every time
        return True

    def _stamp_now(self) -> tuple[int, ...] | None:
        """Inode, size and time of the file; None without one."""
        try:
            status = os.lstat(self._path)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):  # but a link, a pipe or a folder
            raise ValueError(f"{self._path.name} is not a plain file")
        return status.st_ino, status.st_size, status.st_mtime_ns


class Timed(NamedTuple):
    """A line's step, and the seconds of training before it."""

    step: int
    elapsed: float


@dataclass(frozen=True)
class Live:
    """The current state of a run.

    id: the same as long as its folder is not moved. name: its folder below the root. state: RunFolder.state, or
    "damaged", which `problem` explains. steps_per_second: recently, including measurements. seconds: since the start.
    values: (key, value) of the metrics of the view "runs", as last measured on validation, in the last layer. trend:
    the first of those by layer at each measurement, in the last layer.
    """

    id: str
    name: str
    sweep: str
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


class LiveRun:
    """A run folder that is read again and again. rows: {step: {key: value}} of its curves; matrices: the last line of
    its journal that has any; revision: grows whenever they change.
    """

    def __init__(self, path: Path, root: Path) -> None:
        below = str(path.relative_to(root))
        self.folder = RunFolder(path)
        self.sweep = sweep_of(path, root)
        self.live = Live(digest(below), text(path.name if below == "." else below), text(self.sweep))
        self.rows: dict[int, dict[str, float]] = {}
        self.matrices: Row = {}
        self.revision = 0
        status = path / "status.json"
        self.config: Document[Row] = Document(path / "config.yaml", self._parse_config, {})
        self.catalogue = Document(path / "catalogue.json", self._parse_catalogue, catalogue(OWN))
        self._status: Document[Row] = Document(status, partial(records.parsed, file=status, model=records.Status), {})
        self._measured = Document(self.folder.journal, self._parse_journal, list[Timed]())
        self._trained = Document(self.folder.training, self._parse_training, list[Timed]())

    def refresh(self) -> None:
        """Read what is new."""
        try:
            news = [self.config.read(), self.catalogue.read(), self._status.read()]
            state = self.folder.state_by(self._read_status)
            news += [self._measured.read(again=news[1]), self._trained.read(), state != self.live.state]
            if any(news):
                self.live = self._current(state)
        except FileNotFoundError:  # the folder is being deleted
            return
        except Exception as error:  # a damaged run must not affect the others
            self.live = replace(self.live, state="damaged", problem=text(str(error) or type(error).__name__))

    def _parse_config(self, content: bytes) -> Row:
        config = records.parsed(content, self.folder.path / "config.yaml", records.Config)
        seeds_of(config)  # values that cannot be compared must not reach the grouping of all runs
        return config

    def _parse_catalogue(self, content: bytes) -> Catalogue:
        return records.declared(content, self.folder.path / "catalogue.json")

    def _parse_journal(self, content: bytes) -> list[Timed]:
        """Keep the values of the curves; the times of the lines."""
        rows = _lines(content, self.folder.journal.name)
        kept = frozenset(metric.key for view in VIEWS for metric in shown(self.catalogue.value, view))
        self.rows = {row["step"]: {key: number(row, key) for key in _chosen(tuple(row), kept)} for row in rows}
        self.matrices = next((row for row in reversed(rows) if any(matrices(row, self.catalogue.value))), {})
        self.revision += 1
        return [_timed(row) for row in rows]

    def _parse_training(self, content: bytes) -> list[Timed]:
        end = content[-TAIL:].partition(b"\n")[2] if len(content) > TAIL else content
        return [_timed(row) for row in _lines(end, self.folder.training.name)]

    def _read_status(self) -> Row:
        self._status.read()
        return self._status.value

    def _current(self, state: str) -> Live:
        rows = [self.rows[step] for step in sorted(self.rows)]
        start = (self._status.value.get("starts") or [{}])[-1]
        max_steps = start.get("max_steps") or self.config.value.get("trainer", {}).get("max_steps")
        # Lines up to the step at which a run resumed were timed by the process before it.
        resumed, lines = int(start.get("step", 0)), sorted({*self._measured.value, *self._trained.value})
        recent = [line for line in lines if line.step > resumed or line.step == resumed == 0][-RECENT:]
        first, last = (recent[0], recent[-1]) if recent else (Timed(0, 0.0), Timed(0, 0.0))
        seconds = last.elapsed - first.elapsed
        speed = (last.step - first.step) / seconds if seconds > 0 else None
        left = (max_steps - last.step) / speed if max_steps and speed and state == "running" else None
        if left and (steps := start.get("steps")):  # checkpoints, which all take equally long
            left = sum(step > last.step for step in steps) * seconds / max(len(recent) - 1, 1)
        curves = {metric: _last_layer(rows, metric) for metric in shown(self.catalogue.value, "runs")}
        return replace(
            self.live,
            state=state,
            problem="",
            seed=text(seeds_of(self.config.value)),
            step=max([*self.rows, *(line.step for line in recent)], default=None),
            max_steps=max_steps,
            steps_per_second=speed,
            seconds_left=left,
            seconds=last.elapsed if state == "running" else float(self._status.value.get("wall_seconds") or 0),
            values=tuple((metric.key, curve[-1]) for metric, curve in curves.items() if curve),
            trend=next((curve for metric, curve in curves.items() if metric.by_layer), ()),
            has_tsne=is_plain(self.folder.figures / "tsne.json"),
        )


def digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12]


def is_plain(path: Path) -> bool:
    """Whether a path is a file, and neither the file nor its folder is a link."""
    return path.is_file() and not path.is_symlink() and not path.parent.is_symlink()


def _lines(content: bytes, name: str) -> list[Row]:
    """The whole lines of a journal. Raises ValueError for a damaged one."""
    rows, _, problem = complete(content)
    if problem:
        raise ValueError(f"{name} is damaged ({problem})")
    return rows


def _timed(row: Row) -> Timed:
    return Timed(row["step"], float(row.get("elapsed") or 0.0))


def _last_layer(rows: Sequence[Mapping[str, float]], metric: Metric) -> tuple[float, ...]:
    """The finite values of a metric on validation, in the last layer."""
    columns = (values_of(row, metric) for row in rows)
    return tuple(values[-1] for values in columns if values and math.isfinite(values[-1]))


@lru_cache(maxsize=64)
def _chosen(keys: tuple[str, ...], metrics: frozenset[str]) -> list[str]:
    return [key for key in keys if (named := parse(key)) and named.metric in metrics]
