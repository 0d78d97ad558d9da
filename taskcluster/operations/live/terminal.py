"""Show a multirun on a terminal: one line per run, with the metrics of its last measurement and a curve of the first
metric."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

from rich.console import Group, RenderableType
from rich.live import Live as Display
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taskcluster.metrics import Metric
from taskcluster.operations.live.live import Live
from taskcluster.operations.live.speaking import SHOWN
from taskcluster.operations.live.watcher import Watcher
from taskcluster.operations.processes import streams
from taskcluster.views import shown
from taskcluster.work import duration, sentence

BLOCKS = "▁▂▃▄▅▆▇█"
METRICS = 4  # with a column, at most
SPARKS = 16  # measurements in a sparkline, at most
COLORS = {"running": "cyan", "finished": "green", "failed": "red", "killed": "red", "damaged": "red"}
FIRST = ("running", "failed", "killed", "damaged", "interrupted")  # shown if not all runs fit


class RunsView:
    """A context that shows the runs called `names` below `root` once a second. Other output, of this process and of
    those that it starts, goes to a file meanwhile and appears above them.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._watcher, self._names = Watcher(root), names

    def __enter__(self) -> None:
        os.environ[SHOWN] = "1"
        sys.stdout.flush()
        self._terminal = [os.dup(1), os.dup(2)]
        self._output, self._printed = TemporaryFile(), 0
        for descriptor in (1, 2):
            os.dup2(self._output.fileno(), descriptor)
        self.console = streams.console(streams.stream(self._terminal[0], sys.stdout.encoding))
        self._display = Display(
            get_renderable=self._render, console=self.console, refresh_per_second=1, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._display.start(refresh=True)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        for number, terminal in enumerate(self._terminal, start=1):
            os.dup2(terminal, number)
        self._display.stop()
        self._print()
        self._output.close()
        os.close(self._terminal[1])  # the console may still write to the other
        del os.environ[SHOWN]

    def _print(self) -> None:
        """Print the lines that are new in the file."""
        size = os.fstat(self._output.fileno()).st_size
        lines = os.pread(self._output.fileno(), size - self._printed, self._printed)
        lines = lines[: lines.rfind(b"\n") + 1]
        self._printed += len(lines)
        if lines:
            self.console.print(Text.from_ansi(lines.decode(errors="replace")), soft_wrap=True)

    def _render(self) -> RenderableType:
        self._print()
        self._watcher.scan()
        live = {run.name: run for run in self._watcher.runs()}
        runs = [live.get(name) or Live(name, name, "", state="waiting") for name in self._names]
        metrics = shown(self._watcher.catalogue, "runs")[:METRICS]
        table = Table(box=None, pad_edge=False, header_style="dim")
        for k, column in enumerate(("run", "status", "", "step", "left", *(metric.short for metric in metrics), "")):
            table.add_column(column, no_wrap=k < 5, overflow="ellipsis")  # a metric may have a long name
        for run in foremost(runs, max(1, self.console.height - 4)):
            table.add_row(*self._row(run, metrics))
        counts = Counter(run.state for run in runs)
        said = f"{len(runs)} runs: " + ", ".join(f"{n} {state}" for state, n in counts.items())
        return Group(table, *filter(None, [sentence()]), Text(said))

    def _row(self, run: Live, metrics: Sequence[Metric]) -> list[RenderableType]:
        status = Text(run.state, style=COLORS.get(run.state, "dim"))
        if run.step is None or not run.max_steps:
            return [run.name, status]
        bar, left = ProgressBar(run.max_steps, run.step, width=12), duration(run.seconds_left)
        values = dict(run.values)
        cells = [f"{values[metric.key]:.3f}" if metric.key in values else "" for metric in metrics]
        trended = next((metric for metric in metrics if metric.by_layer), None)
        trend = sparkline(run.trend, trended.low, trended.high) if trended else ""
        return [run.name, status, bar, f"{run.step}/{run.max_steps}", left, *cells, trend]


def sparkline(values: Sequence[float], low: float | None = 0, high: float | None = 1) -> str:
    """Draw values as blocks; of more than SPARKS values, evenly chosen ones.

    low, high: the range; None for the smallest and the largest of the values.
    """
    low = min(values, default=0) if low is None else low
    high = max(values, default=1) if high is None else high
    n = min(len(values), SPARKS)
    chosen = [values[round(k * (len(values) - 1) / max(n - 1, 1))] for k in range(n)]
    levels = [int((value - low) / ((high - low) or 1) * len(BLOCKS)) for value in chosen]
    return "".join(BLOCKS[min(max(level, 0), len(BLOCKS) - 1)] for level in levels)


def foremost(runs: Sequence[Live], room: int) -> list[Live]:
    """Choose as many runs as fit, in order; running and failed ones first."""
    by_rank = sorted(runs, key=lambda run: FIRST.index(run.state) if run.state in FIRST else len(FIRST))
    chosen = {run.name for run in by_rank[:room]}
    return [run for run in runs if run.name in chosen]
