"""A multirun on a terminal: every run a line, with the metrics of its last measurement and a curve of the first."""

import os
import select
import sys
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live as Display
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taskcluster.metrics import Metric
from taskcluster.operations.live.live import Live
from taskcluster.operations.live.watcher import Watcher
from taskcluster.operations.processes import streams
from taskcluster.runs.folder import RunFolder
from taskcluster.views import shown

SHOWN = "TASKCLUSTER_SHOWN"  # set in the environment where a run need not print what it measures: a view shows it

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.:-=+*#"
SPARKS = 16  # measurements in a sparkline, at most
COLORS = {"running": "cyan", "finished": "green", "failed": "red", "killed": "red", "damaged": "red"}
FIRST = ("running", "failed", "killed", "damaged", "interrupted")  # shown if there is no room for all runs


class TerminalView(ABC):
    """A context that shows something once a second. Other output, of this process and of those that it starts,
    appears above it.
    """

    @abstractmethod
    def _render(self) -> RenderableType:
        """What is shown now."""

    def __enter__(self) -> None:
        os.environ[SHOWN] = "1"
        _flush()
        self._terminal = [os.dup(1), os.dup(2)]
        self._pipe, write = os.pipe()
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        self._ended, self._end = os.pipe()
        self.console = streams.console(streams.stream(self._terminal[0], sys.stdout.encoding))
        self._display = Display(
            get_renderable=self._render, console=self.console, refresh_per_second=1, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._display.start(refresh=True)
        self._printer = threading.Thread(target=self._print_all, daemon=True)
        self._printer.start()

    def __exit__(self, *_: object) -> None:
        _flush()
        os.close(self._end)  # the pipe itself does not end while other processes hold it open
        self._printer.join()
        self._display.stop()
        for number, terminal in enumerate(self._terminal, start=1):
            os.dup2(terminal, number)
        for descriptor in (self._pipe, self._ended, self._terminal[1]):  # the console may still write to the other
            os.close(descriptor)
        del os.environ[SHOWN]

    def _print_all(self) -> None:
        rest = b""
        while self._pipe in select.select([self._pipe, self._ended], [], [])[0]:
            lines, newline, rest = (rest + os.read(self._pipe, 65536)).rpartition(b"\n")
            if newline:
                self._print(lines)
        if rest:
            self._print(rest)

    def _print(self, lines: bytes) -> None:
        self.console.print(Text.from_ansi(lines.decode(errors="replace")), soft_wrap=True)


class RunsView(TerminalView):
    """The runs called `names` below `root`."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._watcher, self._names = Watcher(root), names

    def _render(self) -> RenderableType:
        self._watcher.scan()
        live = {run.name: run for run in self._watcher.runs()}
        runs = [live.get(name) or Live(name, name, "", state="waiting") for name in self._names]
        metrics = shown(self._watcher.catalogue, "runs")
        trended = next((metric for metric in metrics if metric.by_layer), None)
        table = Table(box=None, pad_edge=False, header_style="dim")
        columns = [name for metric in metrics for name in ([metric.short, ""] if metric is trended else [metric.short])]
        for column in ("run", "status", "", "step", "left", *columns):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        for run in foremost(runs, max(1, self.console.height - 4)):
            table.add_row(*self._row(run, metrics, trended))
        counts = Counter(run.state for run in runs)
        return Group(table, Text(f"{len(runs)} runs: " + ", ".join(f"{n} {state}" for state, n in counts.items())))

    def _row(self, run: Live, metrics: Sequence[Metric], trended: Metric | None) -> list[RenderableType]:
        status = Text(run.state, style=COLORS.get(run.state, "dim"))
        if run.step is None or not run.max_steps:
            return [run.name, status]
        left = "" if run.seconds_left is None else _duration(run.seconds_left)
        progress = ProgressBar(run.max_steps, run.step, width=12), f"{run.step}/{run.max_steps}"
        cells, values = [], dict(run.values)
        for metric in metrics:
            cells.append(f"{values[metric.key]:.3f}" if metric.key in values else "")
            if metric is trended:
                blocks = ASCII if self.console.options.ascii_only else BLOCKS
                cells.append(sparkline(run.trend, blocks, metric.low, metric.high))
        return [run.name, status, *progress, left, *cells]


class StepsView(TerminalView):
    """How many of their steps runs have in their journals, {run: all of them}, and the time left."""

    def __init__(self, runs: Mapping[RunFolder, int]) -> None:
        self._runs = runs
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
        self._progress = Progress(*columns, TextColumn("left"))
        n_runs = f" of {len(runs)} runs" if len(runs) > 1 else ""
        self._task = self._progress.add_task(f"steps{n_runs}", total=sum(runs.values()), completed=self._done())

    def _render(self) -> RenderableType:
        self._progress.update(self._task, completed=self._done())
        return self._progress.get_renderable()

    def _done(self) -> int:
        return sum(min(len(run.rows()), n_steps) for run, n_steps in self._runs.items())


def sparkline(values: Sequence[float], blocks: str = BLOCKS, low: float | None = 0, high: float | None = 1) -> str:
    """Values in their range, a block each; SPARKS of them, evenly chosen, if there are more.

    low, high: the range; None for the smallest and the largest of the values.
    """
    low = min(values, default=0) if low is None else low
    high = max(values, default=1) if high is None else high
    n = min(len(values), SPARKS)
    chosen = [values[round(k * (len(values) - 1) / max(n - 1, 1))] for k in range(n)]
    levels = [int((value - low) / ((high - low) or 1) * len(blocks)) for value in chosen]
    return "".join(blocks[min(max(level, 0), len(blocks) - 1)] for level in levels)


def foremost(runs: Sequence[Live], room: int) -> list[Live]:
    """As many runs as there is room for, in their order: first those that run or failed."""
    by_rank = sorted(runs, key=lambda run: FIRST.index(run.state) if run.state in FIRST else len(FIRST))
    chosen = {run.name for run in by_rank[:room]}
    return [run for run in runs if run.name in chosen]


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes:.0f} min" if minutes < 90 else f"{hours:.1f} h"
