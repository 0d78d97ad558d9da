"""Run folders while they are written: what is new in them since a version. Only reads, and knows of no web.

in:  a folder that holds run folders at any depth, now or later
out: a `Live` for each run; for each condition the mean over its runs with its 95 % interval, by step and curve

`Watcher.scan` reads what was appended since the last one and computes only the steps that it changes. Everything
carries the version, a number that grows, in which it last changed: whoever knows one is told only what came after.
"""

import hashlib
import json
import math
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import yaml

from taskcluster.aggregate import Condition, conditions, find_runs, seeds_of, sweep_of
from taskcluster.estimates import intervals
from taskcluster.journal import Row, complete, layers_of, number, parse
from taskcluster.runs import RunFolder

METRICS = ("ari", "ari_within_x", "accuracy", "loss")  # of a line's hundred values, those that a view shows
DIGITS = 6  # after the point, of what is sent
RECENT = 50  # lines over which speed is taken

Line = TypeVar("Line")

# The same YAML, read ten times as fast where libyaml is there.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Timed(NamedTuple):
    """A line's step, and the seconds of training before it."""

    step: int
    elapsed: float


@dataclass(frozen=True)
class Live:
    """A run as it stands.

    id: names it as long as it lies where it does. name: its folder below the root. condition: label of its condition,
    "" while unknown. state: that of RunFolder.state, or "damaged", of which `problem` says more. steps_per_second: of
    late, measuring included. seconds: spent so far. accuracy, ari: on validation; ari of the last layer at each
    measurement.
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
    accuracy: float | None = None
    ari: tuple[float, ...] = ()
    has_tsne: bool = False


class Curves(NamedTuple):
    """Points of a condition. curves: K keys of the journal; steps: S of them; the rest: S x K, None for no number.

    anew: whether these replace all that was known of the condition.
    """

    condition: str
    anew: bool
    curves: list[str]
    steps: list[int]
    n: list[list[int]]
    mean: list[list[float | None]]
    lower: list[list[float | None]]
    upper: list[list[float | None]]


class Changes(NamedTuple):
    """What came after a version. runs, conditions: ids of all, in order; changed_conditions: id, sweep, label, runs."""

    version: int
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
        self._runs: dict[Path, _Run] = {}
        self._pools: dict[str, _Pool] = {}  # by id of the condition
        self._pool_of: dict[str, _Pool] = {}  # by id of the run
        self._lock = threading.Lock()

    def scan(self) -> None:
        """Look at the folders once."""
        with self._lock:
            version = self.version + 1
            folders = [folder.path for folder in find_runs(self.root)]
            others = self._runs
            self._runs = {path: others.get(path) or _Run(path, self.root) for path in folders}
            for run in self._runs.values():
                run.refresh()
            changed = list(others) != folders
            if changed or any(run.regroup for run in self._runs.values()):
                changed |= self._group(version)
            for pool in self._pools.values():
                changed |= pool.update(version)
            for run in self._runs.values():
                changed |= run.settle(version, self._pool_of.get(run.id))
            if changed:
                self.version = version

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
        self._pools, self._pool_of = {}, {}
        for condition in found:
            id = _digest(condition.key)
            self._pools[id] = before.get(id) or _Pool(id)
            self._pools[id].set(condition, version)
            self._pool_of |= {run.id: self._pools[id] for run in condition.runs}
        for run in self._runs.values():
            run.regroup = False
        return list(before) != list(self._pools) or any(pool.version == version for pool in self._pools.values())


class _Run:
    """What is known of a run folder. rows: step -> values of the curves, by their keys.

    dirty: steps that came since they were last taken; anew: whether others went.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.folder = RunFolder(path)
        below = str(path.relative_to(root))
        self.id = _digest(below)
        self.sweep = sweep_of(path, root)
        self.config: Row = {}
        self.rows: dict[int, dict[str, float]] = {}
        self.dirty: set[int] = set()
        self.anew = self.regroup = False
        self.version = 0
        self.live = Live(self.id, _text(path.name if below == "." else below), _text(self.sweep))
        self._config = _File(path / "config.yaml")
        self._status = _File(path / "status.json")
        self._journal = _Lines(self.folder.journal, _measured)
        self._training = _Lines(self.folder.training, _timed)
        self._tsne = path / "figures" / "tsne.json"
        self._facts: Row = {}
        self._recent: deque[Timed] = deque(maxlen=RECENT)
        self._began: Any = None
        self._found = self.live

    def refresh(self) -> None:
        try:
            news = self._read_config()
            state = self.folder.state_by(self._read_status)
            news |= self._follow()
            if news or (state, "") != (self._found.state, self._found.problem):
                self._found = self._take_stock(state)
            self._found = replace(self._found, has_tsne=is_plain(self._tsne))
        except FileNotFoundError:  # it goes while we look
            return
        except Exception as error:  # whatever is wrong with one run is not to take the others along
            self._found = replace(self._found, state="damaged", problem=_text(str(error) or type(error).__name__))

    def settle(self, version: int, pool: "_Pool | None") -> bool:
        """Note what was found; whether anything is new."""
        names = {"condition_id": pool.id, "condition": pool.facts["label"]} if pool else {}
        live = replace(self._found, **names)
        if live == self.live and self.version:
            return False
        self.live, self.version = live, version
        return True

    def _read_config(self) -> bool:
        if (content := self._config.content()) is None:
            return False
        config = _mapping(yaml.load(content, Loader), self._config.path)
        json.dumps(config, sort_keys=True)  # what cannot be compared must not reach the grouping of all runs
        seeds_of(config)
        self.config, self.regroup = config, True
        self._config.taken()
        return True

    def _read_status(self) -> Row:
        if (content := self._status.content()) is not None:
            self._facts = _mapping(json.loads(content or b"{}"), self._status.path)
            self._status.taken()
        return self._facts

    def _follow(self) -> bool:
        """Read on in the journals, or from their beginning where the run began anew; whether anything is new."""
        starts = self._facts.get("starts") or [{"step": 0}]
        first = int(starts[-1]["step"])
        began = self._facts.get("id"), len(starts)
        measured, anew = self._journal.read(began != self._began)
        timed, timed_anew = self._training.read(began != self._began)
        if anew:
            self.anew |= bool(self.rows)
            self.rows = {}
        if anew or timed_anew:
            self._recent.clear()
        self.rows |= {line.step: values for line, values in measured}
        self.dirty |= {line.step for line, _ in measured}
        lines = sorted({line for line, _ in measured} | {*timed})
        # What stands at or before the step at which a run went on was timed by the process before it.
        self._recent.extend(line for line in lines if line.step > first or line.step == first == 0)
        news, self._began = bool(lines) or anew or timed_anew or began != self._began, began
        return news

    def _take_stock(self, state: str) -> Live:
        rows = [self.rows[step] for step in sorted(self.rows)]
        step = max([*self.rows, *(line.step for line in self._recent)], default=None)
        start = (self._facts.get("starts") or [{}])[-1]
        max_steps = int(start.get("max_steps") or self.config["trainer"]["max_steps"])
        (first, began), (last, ended) = (self._recent[0], self._recent[-1]) if self._recent else ((0, 0.0), (0, 0.0))
        speed = (last - first) / (ended - began) if ended > began else None
        left = (max_steps - last) / speed if speed and state == "running" else None
        accuracy = rows[-1].get("val/accuracy", math.nan) if rows else math.nan
        aris = [values[-1] for row in rows if (values := layers_of(row, "ari/val"))]
        return replace(
            self._found,
            state=state,
            problem="",
            seed=_text(seeds_of(self.config)),
            step=step,
            max_steps=max_steps,
            steps_per_second=speed,
            seconds_left=left,
            seconds=float(self._facts.get("wall_seconds") or 0) if state != "running" else ended,
            accuracy=accuracy if math.isfinite(accuracy) else None,
            ari=tuple(value for value in aris if math.isfinite(value)),
        )


class _Pool:
    """The points of a condition over its runs, by step."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.version = 0
        self.facts: dict[str, Any] = {}
        self._runs: list[_Run] = []
        self._curves: list[str] = []
        self._anew = 0  # the version in which all points were last replaced
        self._points: dict[int, tuple[int, list[list[Any]]]] = {}  # step -> version; n, mean, lower, upper, each (K,)
        self._all = False

    def set(self, condition: "Condition[_Run]", version: int) -> None:
        names = {"sweep": _text(condition.sweep), "label": _text(condition.label)}
        facts = {"id": self.id, **names, "runs": len(condition.runs)}
        self._all |= self._runs != condition.runs
        if facts != self.facts:
            self.facts, self.version = facts, version
        self._runs = condition.runs

    def update(self, version: int) -> bool:
        """Compute the steps that changed, or all of them where curves or runs did; whether any did."""
        dirty = set().union(*(run.dirty for run in self._runs))
        everything = self._all or any(run.anew for run in self._runs)
        if not dirty and not everything:
            return False
        curves = list(dict.fromkeys(key for run in self._runs for key in next(reversed(run.rows.values()), {})))
        everything |= curves != self._curves
        if everything:
            self._points, self._anew, self._curves, self._all = {}, version, curves, False
            dirty = {step for run in self._runs for step in run.rows}
        for run in self._runs:
            run.dirty, run.anew = set(), False
        for step, block in zip(sorted(dirty), self._blocks(sorted(dirty)), strict=True):
            self._points[step] = version, block
        return True

    def after(self, since: int) -> Curves | None:
        anew = self._anew > since
        steps = sorted(step for step, (version, _) in self._points.items() if anew or version > since)
        if not steps and not anew:
            return None
        columns = [[self._points[step][1][k] for step in steps] for k in range(4)]
        return Curves(self.id, anew, self._curves, steps, *columns)

    def _blocks(self, steps: Sequence[int]) -> list[list[list[Any]]]:
        """n, mean, lower and upper of every curve, for each step."""
        nothing: dict[str, float] = {}
        rows = [[run.rows.get(step, nothing) for step in steps] for run in self._runs]
        values = np.array([[[row.get(key, math.nan) for key in self._curves] for row in of_run] for of_run in rows])
        if not values.size:
            return [[[], [], [], []] for _ in steps]
        flat = intervals(values.reshape(len(values), -1))
        n, mean, _, lower, upper = (part.reshape(values.shape[1:]) for part in flat)
        return [list(block) for block in zip(n.tolist(), *map(_sendable, (mean, lower, upper)), strict=True)]


class _File:
    """A file that is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: Any = ()
        self._looked: Any = ()

    def content(self) -> bytes | None:
        """None if it is as it was when last taken, b"" where there is none."""
        self._looked = _stamp(self.path)
        if self._looked == self._seen:
            return None
        return read_plain(self.path) if self._looked else b""

    def taken(self) -> None:
        """Its content was good."""
        self._seen = self._looked


class _Lines(Generic[Line]):
    """A journal that is appended to, or replaced; parse: a line's content, raising where it is damaged."""

    def __init__(self, path: Path, parse: Callable[[Row], Line]) -> None:
        self._path, self._parse = path, parse
        self._seen: Any = None
        self._length = 0

    def read(self, anew: bool) -> tuple[list[Line], bool]:
        """The lines that came, and whether they are all there are, since what was read before does not hold."""
        stamp = _stamp(self._path)
        if stamp == self._seen and not anew:
            return [], False
        anew = anew or not (stamp and self._seen) or stamp[0] != self._seen[0] or stamp[1] < self._length
        begin = 0 if anew else self._length
        rows, length = complete(read_plain(self._path, begin)) if stamp else ([], 0)
        lines = [self._parse(row) for row in rows]
        self._seen, self._length = stamp, begin + length
        return lines, anew


def read_plain(path: Path, offset: int = 0) -> bytes:
    """A file's content. Neither follows a link nor waits for whatever a pipe may bring."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        file.seek(offset)
        return file.read()


def is_plain(path: Path) -> bool:
    """Whether it is a file, in a folder that is one, and neither is a link."""
    try:
        return stat.S_ISDIR(os.lstat(path.parent).st_mode) and stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file's content, its inode and size first; None where there is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path.name} is not a plain file")
    return found.st_ino, found.st_size, found.st_mtime_ns


def _mapping(content: Any, path: Path) -> Row:
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no keys")
    return content


def _measured(row: Row) -> tuple[Timed, dict[str, float]]:
    """Of a line of metrics.jsonl."""
    return _timed(row), {key: number(row, key) for key in row if _shown(key)}


def _timed(row: Row) -> Timed:
    return Timed(int(row["step"]), float(row["elapsed"]))


@lru_cache(maxsize=4096)
def _shown(key: str) -> bool:
    named = parse(key)
    return named is not None and named.metric in METRICS


def _sendable(values: np.ndarray) -> list[list[float | None]]:
    return [[None if value != value else value for value in row] for row in np.round(values, DIGITS).tolist()]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


def _text(name: str) -> str:
    """A name of the file system as text that every encoder takes."""
    return name.encode(errors="replace").decode()
