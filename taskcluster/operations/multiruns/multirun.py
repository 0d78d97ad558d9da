"""A multirun as a whole: its runs handed to a launcher, and what came of all of them.

in:  the planned runs
out: those that have something to do, handed to Hydra's launcher; a table of all; an exit code
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from signal import SIGTERM
from types import FrameType

import psutil
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from taskcluster.metrics import Metric
from taskcluster.operations.command_line.arguments import say
from taskcluster.operations.command_line.cli import TRAIN
from taskcluster.operations.multiruns.planning import Planned, common_root
from taskcluster.operations.processes import imports, streams
from taskcluster.operations.processes.interrupts import Interrupts
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import fixed, layers_of, number
from taskcluster.runs.verdicts import held, judged
from taskcluster.validation import UserError
from taskcluster.views import shown

ATTEMPTS = 3  # at running jobs side by side: when one is killed, all that run beside it are lost with it


class PassedOn(Interrupts):
    """Signals are passed on to worker processes, whose runs save and end; inside `deferred` this one then ends."""

    def _receive(self, number: int, frame: FrameType | None) -> None:
        for worker in psutil.Process().children():
            worker.send_signal(SIGTERM)
        super()._receive(number, frame)


class Multirun:
    """What is done with a launcher: it is given the runs that have something to do.

    program: the command, in whose name lost jobs are reported.
    """

    program = TRAIN

    def __init__(self, launcher: Launcher, config: DictConfig, runs: Sequence[Planned]) -> None:
        self._launcher, self._config, self.runs = launcher, config, runs
        self._side_by_side = type(launcher).__name__ == "JoblibLauncher"
        self.console = streams.console()

    def make_room(self) -> None:
        """Make the folders of what is to be done. Raises OSError."""
        for root in {run.root for run in self.runs if run.exit_code is None}:
            root.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self._config, root / "multirun.yaml")

    def run(self, batch_size: int | None) -> list[Sequence[JobReturn]]:
        """Do what is to be done, so many jobs at once or all. Raises UserError for a size that is none."""
        size = batch_size or max(1, len(self.runs))
        if not isinstance(size, int) or size < 1:
            raise UserError(f"hydra.sweeper.max_batch_size={size}: give the number of jobs to run at once, 1 or more")
        return [self._run(self.runs[k : k + size], k) for k in range(0, len(self.runs), size)]

    def _run(self, batch: Sequence[Planned], first: int) -> Sequence[JobReturn]:
        for run in batch:
            if run.exit_code:
                say(self.program, f"{run.name}: {run.plan}")
            elif not self.console.is_terminal:  # there the view shows it
                self.announce(run)
        with self.view(batch) if _unfinished(batch) else nullcontext():
            for _ in range(ATTEMPTS if self._side_by_side else 1):
                if todo := _unfinished(batch):
                    self._launch(todo, first)
        return [JobReturn(overrides=run.overrides, status=JobStatus.COMPLETED) for run in batch]

    def announce(self, run: Planned) -> None:
        """Print what a run that is not refused has before it."""
        self.console.print(f"{run.name}: {run.plan}", soft_wrap=True)

    def view(self, batch: Sequence[Planned]) -> AbstractContextManager[None]:
        """A context that shows how the runs go."""
        if not self.console.is_terminal:
            return nullcontext()
        from taskcluster.operations.live.terminal import RunsView

        return RunsView(common_root(self.runs), [run.name for run in batch if not run.exit_code])

    def _launch(self, runs: Sequence[Planned], first: int) -> None:
        signals = PassedOn() if self._side_by_side else Interrupts()
        try:
            with signals, signals.deferred() if self._side_by_side else nullcontext():
                returns = self._launcher.launch([run.placed for run in runs], first)
        except Exception as error:  # the launcher's own
            say(self.program, f"{type(self._launcher).__name__}: {' '.join(str(error).split())}")
            return
        for run, returned in zip(runs, returns, strict=True):
            try:
                run.exit_code = returned.return_value
            except Exception as error:  # of a job that is lost
                run.exit_code = 1
                say(self.program, f"{run.name}: {error}")

    def conclude(self) -> int:
        """Print what came of every run, and write the report; the exit code is the worst of the runs'."""
        if not self.runs:
            return 0
        if "interrupted" not in self.show():  # whoever did it waits for the end
            self._report()
        return max(run.exit_code or 0 for run in self.runs)

    def show(self) -> list[str]:
        """Print a table of what came of every run; their states."""
        table = Table(title="Runs", title_justify="left")
        metrics = list({metric.key: metric for run in self.runs for metric in _shown(run.folder)}.values())
        outcomes = [_outcome(run.folder, metrics) for run in self.runs]
        claims = ["claims"] * any(verdicts != "-" for *_, verdicts in outcomes)
        for column in ("run", "status", "steps", *(metric.short for metric in metrics), *claims, "at the start"):
            table.add_column(column, overflow="fold")
        for run, (state, *values, verdicts) in zip(self.runs, outcomes, strict=True):
            if run.exit_code is None or state == "damaged":
                run.exit_code = run.exit_code or int(state != "finished")
            if state == "new":
                state = "refused" if run.exit_code == 2 else "not begun"
            table.add_row(run.name, state, *values, *[verdicts] * len(claims), run.plan)
        self.console.print(table)
        return [state for state, *_ in outcomes]

    def _report(self) -> None:
        with imports.large():
            from taskcluster.pages.multirun_report import write

        for root in dict.fromkeys(run.root for run in self.runs):
            try:
                with self.console.status("writing the report"):
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


def _outcome(run: RunFolder, metrics: Sequence[Metric]) -> list[str]:
    """What a run came to, for the table: state, steps, metrics on validation, in the last layer, and claims."""
    try:
        state, rows, claims = run.state, run.rows(), judged(run.results())
    except UserError:
        return ["damaged", *["-"] * (2 + len(metrics))]
    last = rows[-1] if rows else {}
    values = [layers_of(last, m.stem("val")) if m.by_layer else [number(last, m.stem("val"))] for m in metrics]
    verdicts = held([claim["passed"] for claim in claims]) if state == "finished" else "-"
    return [state, str(last.get("step", "-")), *(fixed(own[-1]) if own else "-" for own in values), verdicts]
