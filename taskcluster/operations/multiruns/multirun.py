"""Run a multirun: hand its runs to a launcher, and report the outcome of each.

in:  the planned runs
out: the runs that still have work, handed to Hydra's launcher; a table of all runs; an exit code
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from signal import SIGTERM
from types import FrameType

import psutil
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from rich.table import Column, Table

from taskcluster.metrics import Metric
from taskcluster.operations.command_line.arguments import say
from taskcluster.operations.command_line.cli import program
from taskcluster.operations.live.speaking import speaking
from taskcluster.operations.multiruns.planning import Planned, common_root
from taskcluster.operations.processes import streams
from taskcluster.operations.processes.environment import large_imports
from taskcluster.operations.processes.interrupts import Interrupts
from taskcluster.results.claims import held, judged
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import fixed, values_of
from taskcluster.validation import UserError
from taskcluster.views import shown
from taskcluster.work import doing

ATTEMPTS = 3  # attempts to run jobs side by side: a killed job takes those beside it down


class PassedOn(Interrupts):
    """Signals are passed on to worker processes, whose runs save and end; inside `deferred` this one then ends."""

    def _receive(self, number: int, frame: FrameType | None) -> None:
        for worker in psutil.Process().children():
            worker.send_signal(SIGTERM)
        super()._receive(number, frame)


class Multirun:
    """A multirun and its launcher, which gets the runs that still have work."""

    def __init__(self, launcher: Launcher, config: DictConfig, runs: Sequence[Planned]) -> None:
        self._launcher, self._config, self.runs = launcher, config, runs
        self._side_by_side = type(launcher).__name__ == "JoblibLauncher"
        self.console = streams.console()

    @property
    def exit_code(self) -> int:
        """The worst exit code of the runs."""
        return max((run.exit_code or 0 for run in self.runs), default=0)

    def make_room(self) -> None:
        """Create the folders of the runs that still have work. Raises OSError."""
        for root in {run.root for run in _unfinished(self.runs)}:
            root.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self._config, root / "multirun.yaml")

    def run(self, batch_size: int | None) -> list[Sequence[JobReturn]]:
        """Run the jobs, at most `batch_size` at once; None for all."""
        size = batch_size or max(1, len(self.runs))
        return [self._run(self.runs[k : k + size], k) for k in range(0, len(self.runs), size)]

    def _run(self, batch: Sequence[Planned], first: int) -> Sequence[JobReturn]:
        for run in batch:
            if run.exit_code:
                say(program(), f"{run.name}: {run.plan}")
            elif not self.console.is_terminal:  # there the view shows it
                self.console.print(f"{run.name}: {run.plan}", soft_wrap=True)
        with self._view(batch):
            for _ in range(ATTEMPTS if self._side_by_side else 1):
                if todo := _unfinished(batch):
                    self._launch(todo, first)
        return [JobReturn(overrides=run.overrides, status=JobStatus.COMPLETED) for run in batch]

    def _view(self, batch: Sequence[Planned]) -> AbstractContextManager[None]:
        """A context that shows how the runs go, on a terminal."""
        if not self.console.is_terminal or len(batch) == 1 or not _unfinished(batch):
            return nullcontext()  # a run by itself says how far it is
        from taskcluster.operations.live.terminal import RunsView

        root = common_root(self.runs)
        return RunsView(root, [os.path.relpath(run.folder.path, root) for run in batch if not run.exit_code])

    def _launch(self, runs: Sequence[Planned], first: int) -> None:
        signals = PassedOn() if self._side_by_side else Interrupts()
        try:
            with signals, signals.deferred() if self._side_by_side else nullcontext():
                returns = self._launcher.launch([run.overrides for run in runs], first)
        except Exception as error:  # the launcher's own
            say(program(), f"{type(self._launcher).__name__}: {' '.join(str(error).split())}")
            return
        for run, returned in zip(runs, returns, strict=True):
            try:
                run.exit_code = returned.return_value
            except Exception as error:  # a job was lost
                run.exit_code = 1
                say(program(), f"{run.name}: {error}")

    def conclude(self) -> int:
        """Print the outcome of every run, write the report, and return the exit code."""
        if self.runs and "interrupted" not in self.show():  # the process that sent the signal waits for the end
            self._report()
        return self.exit_code

    def show(self) -> list[str]:
        """Print a table of outcomes; return the states of the runs."""
        metrics = list({metric.key: metric for run in self.runs for metric in _shown(run.folder)}.values())
        outcomes = [_outcome(run, metrics) for run in self.runs]
        claims = ["claims"] * any(verdicts != "-" for *_, verdicts in outcomes)
        names = ("run", "status", "steps", *(metric.short for metric in metrics), *claims, "at the start")
        table = Table(*(Column(name, overflow="fold") for name in names), title="Runs", title_justify="left")
        for run, (*values, verdicts) in zip(self.runs, outcomes, strict=True):
            table.add_row(run.name, *values, *[verdicts] * len(claims), run.plan)
        self.console.print(table)
        return [state for state, *_ in outcomes]

    def _report(self) -> None:
        with large_imports():
            from taskcluster.pages.multirun_report import write

        for root in dict.fromkeys(run.root for run in self.runs):
            try:
                with speaking(self.console), doing("writing the report"):
                    page = write(root)
                self.console.print(f"The report is {page}", soft_wrap=True)
            except (UserError, OSError) as error:  # no run is finished, say
                self.console.print(f"No report was written: {error}", soft_wrap=True)


def _unfinished(runs: Sequence[Planned]) -> list[Planned]:
    return [run for run in runs if run.exit_code is None]


def _shown(run: RunFolder) -> list[Metric]:
    try:
        return shown(run.catalogue(), "runs")
    except UserError:
        return []


def _outcome(run: Planned, metrics: Sequence[Metric]) -> list[str]:
    """Return a run's outcome for the table: state, steps, metrics on validation in the last layer, and claims; set its
    exit code."""
    folder = run.folder
    try:
        state, rows, claims = folder.state, folder.rows(), judged(folder.results())
    except UserError:
        run.exit_code = run.exit_code or 1
        return ["damaged", *["-"] * (2 + len(metrics))]
    if run.exit_code is None:
        run.exit_code = int(state != "finished")
    last = rows[-1] if rows else {}
    values = [values_of(last, metric) for metric in metrics]
    verdicts = held([claim["passed"] for claim in claims]) if state == "finished" else "-"
    if state == "new":
        state = "refused" if run.exit_code == 2 else "not begun"
    return [state, str(last.get("step", "-")), *(fixed(value[-1]) if value else "-" for value in values), verdicts]
