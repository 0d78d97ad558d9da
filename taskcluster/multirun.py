"""A multirun as a whole: what each of its runs has before it, and what came of all of them.

in:  the command's overrides
out: the jobs that have something to do, handed to Hydra's launcher; a table of all; an exit code
"""

import math
import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from signal import SIGTERM
from types import FrameType
from typing import Any

import psutil
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from taskcluster import streams
from taskcluster.arguments import quoted
from taskcluster.cli import Reported, job_config, report
from taskcluster.config import RunConfig
from taskcluster.processes.interrupts import Interrupts
from taskcluster.processes.places import ALONE, Place, place, refuse_other_world
from taskcluster.runs.condition import digest, flatten, is_seed
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import fixed, layers_of, number
from taskcluster.runs.resume import find_start, is_concluded, is_finished
from taskcluster.tracking.identity import refuse_many
from taskcluster.validation import UserError

ATTEMPTS = 3  # at running jobs side by side: when one is killed, all that run beside it are lost with it

PATIENCE = 30  # seconds that workers have to end their runs after a signal
JOB_NUMBER = re.compile(r"\$\{hydra[:.]job\.num\}")

HERE = ("BasicLauncher", "JoblibLauncher")  # launchers whose jobs run on this machine


@dataclass
class Planned:
    """One run. overrides: what was given for it; plan: what it has before it, in words; exit_code: what came of it,
    None while that is not known."""

    overrides: Sequence[str]
    root: Path
    folder: RunFolder
    plan: str
    exit_code: int | None = None
    name: str = ""

    @property
    def placed(self) -> list[str]:
        """The overrides, with the folder: whoever composes the job again is not to find another."""
        folders = {"dir": self.root, "subdir": self.folder.path}
        return [*self.overrides, *(f"hydra.sweep.{key}={quoted(str(path))}" for key, path in folders.items())]


def jobs(arguments: Sequence[str], loader: ConfigLoader, config: DictConfig) -> list[list[str]]:
    """The overrides of every job: all combinations of the values given, and of those that an experiment sweeps.

    Several experiments, experiment=seeds,layers, are as many sweeps, each with its own values and under its own name.
    Raises UserError for values that cannot be listed.
    """
    hydras: Any = OmegaConf.to_container(config.hydra.overrides.hydra)
    if any(word.lstrip("+").startswith("hydra.run.dir=") for word in hydras):
        raise UserError("hydra.run.dir= is for a single run; write hydra.sweep.dir= for a multirun")
    parser = OverridesParser.create(config_loader=loader)
    overrides = _parsed(parser, arguments)
    chosen = [override for override in overrides if override.get_key_element() == "experiment"][-1:]
    if not chosen or not chosen[0].is_sweep_override():
        return _combinations(parser, config, arguments)
    others = [str(override.input_line) for override in overrides if override.get_key_element() != "experiment"]
    found = []
    for value in chosen[0].sweep_string_iterator():
        given = [f"experiment={value}", *others]
        own = loader.load_configuration(config.hydra.job.config_name, [*hydras, *given], RunMode.MULTIRUN)
        found += _combinations(parser, own, given)
    return found


def _parsed(parser: OverridesParser, words: Sequence[str]) -> list[Override]:
    overrides = parser.parse_overrides(list(words))
    for override in overrides:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise UserError(f"{override.input_line} has no end of values; list them as in KEY=1,2,3 or KEY=range(1,4)")
    return overrides


def _combinations(parser: OverridesParser, config: DictConfig, arguments: Sequence[str]) -> list[list[str]]:
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    values: dict[str, list[str]] = {}
    for override in _parsed(parser, [*params, *arguments]):  # of one key the last counts
        key, sweeps = override.get_key_element(), override.is_sweep_override()
        given = override.sweep_string_iterator() if sweeps else [override.get_value_element_as_str()]
        values[key] = [f"{key}={value}" for value in given]
    return [list(combination) for combination in product(*values.values())]


class PassedOn(Interrupts):
    """Signals go on to worker processes, whose runs save and end; inside `deferred` this one then ends by itself."""

    def _receive(self, number: int, frame: FrameType | None) -> None:
        for worker in psutil.Process().children():
            worker.send_signal(SIGTERM)
        super()._receive(number, frame)


class Multirun:
    """What is done with a launcher: it is given the runs that have something to do."""

    def __init__(self, launcher: Launcher, loader: ConfigLoader, config: DictConfig) -> None:
        self._launcher, self._loader, self._config = launcher, loader, config
        self._kind = type(launcher).__name__
        self._runs: list[Planned] = []
        self._refusals: dict[str, str] = {}
        self._console = streams.console()

    def plan(self, jobs: Sequence[Sequence[str]]) -> None:
        """Find out what every job has before it. Raises UserError where two would have one folder."""
        setup_globals()
        self._refuse_company()
        runs = [self._plan(overrides, number) for number, overrides in enumerate(jobs)]
        by_folder: dict[Path, Planned] = {}
        for run in runs:
            first = by_folder.setdefault(run.folder.path, run)
            if first is not run:
                pair = [
                    " ".join(set(a) - set(b)) or "the same" for a, b in permutations((first.overrides, run.overrides))
                ]
                raise UserError(
                    f"two runs, {pair[0]} and {pair[1]}, would share the folder {run.folder.path}; leave one out, or "
                    "tell them apart by hydra.sweep.subdir="
                )
        self._roots = list(dict.fromkeys(run.root for run in runs))
        self._top = Path(os.path.commonpath(self._roots)) if runs else Path()
        for run in runs:
            run.name = os.path.relpath(run.folder.path, self._top)
        self._runs = runs

    def make_room(self) -> None:
        """Make the folders of what is to be done. Raises OSError."""
        if any(run.exit_code is None for run in self._runs):
            for root in self._roots:
                root.mkdir(parents=True, exist_ok=True)
                OmegaConf.save(self._config, root / "multirun.yaml")

    def run(self, batch_size: int | None) -> list[Sequence[JobReturn]]:
        """Do what is to be done, so many jobs at once or all. Raises UserError for a size that is none."""
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise UserError(f"hydra.sweeper.max_batch_size={batch_size}: give the jobs at once, at least 1")
        size = batch_size or max(1, len(self._runs))
        return [self._run(self._runs[k : k + size], k) for k in range(0, len(self._runs), size)]

    def _run(self, batch: Sequence[Planned], initial_job_idx: int) -> Sequence[JobReturn]:
        for run in batch:
            if run.exit_code:
                report(f"{run.name}: {run.plan}")
            elif not self._console.is_terminal:  # there the view shows it
                self._console.print(f"{run.name}: {run.plan}", soft_wrap=True)
        todo = [run for run in batch if run.exit_code is None]
        with self._view(batch) if todo else nullcontext():
            for _ in range(ATTEMPTS if self._kind == "JoblibLauncher" else 1):  # where one lost job is the end of all
                if todo:
                    self._attempt(todo, initial_job_idx)
                todo = [run for run in todo if run.exit_code is None]
        return [JobReturn(overrides=run.overrides, status=JobStatus.COMPLETED) for run in batch]

    def _view(self, batch: Sequence[Planned]) -> AbstractContextManager[None]:
        if not self._console.is_terminal:
            return nullcontext()
        from taskcluster.watch.terminal import View

        return View(self._top, [run.name for run in batch if not run.exit_code])

    def _attempt(self, runs: Sequence[Planned], initial_job_idx: int) -> None:
        try:
            returns = self._launch([run.placed for run in runs], initial_job_idx)
        except Exception as error:  # the launcher's own
            report(f"{self._kind}: {' '.join(str(error).split())}")
            return
        for run, returned in zip(runs, returns, strict=True):
            run.exit_code = 1
            if returned.status is JobStatus.COMPLETED:
                run.exit_code = returned.return_value
            else:
                report(f"{run.name}: {returned._return_value}")  # whose getter would raise it

    def _launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if self._kind != "JoblibLauncher":
            with Interrupts():
                return self._launcher.launch(job_overrides, initial_job_idx)
        with PassedOn() as signals, signals.deferred(PATIENCE):
            return self._launcher.launch(job_overrides, initial_job_idx)

    def conclude(self) -> int:
        """Print what came of every run, and write the report; the exit code is the worst of the runs'."""
        if not self._runs:
            return 0
        table = Table(title="Runs", title_justify="left")
        for column in ("run", "status", "steps", "accuracy", "ARI", "claims", "at the start"):
            table.add_column(column, overflow="fold")
        states = []
        for run in self._runs:
            state, *values = _outcome(run.folder)
            if run.exit_code is None or state == "damaged":
                run.exit_code = run.exit_code or int(state != "finished")
            states.append(state)
            if state == "new":
                state = "refused" if run.exit_code == 2 else "not begun"
            table.add_row(run.name, state, *values, run.plan)
        self._console.print(table)
        if "interrupted" not in states:  # whoever did it waits for the end
            self._report()
        return max(run.exit_code or 0 for run in self._runs)

    def _report(self) -> None:
        from taskcluster.pages.report import write

        for root in self._roots:
            try:
                with self._console.status("writing the report"):
                    page = write(root)
                self._console.print(f"The report is {page}", soft_wrap=True)
            except (UserError, OSError) as error:  # no run is finished, say
                self._console.print(f"There is no report: {error}", soft_wrap=True)

    def _plan(self, overrides: Sequence[str], number: int) -> Planned:
        given = [JOB_NUMBER.sub(str(number), word) for word in overrides]  # launchers count those that they are given
        composed = self._loader.load_sweep_config(self._config, given)
        composed.hydra.job.num, composed.hydra.job.id = number, str(number)
        HydraConfig.instance().set_config(composed)  # which the names of folders are resolved by
        root = Path(os.path.abspath(composed.hydra.sweep.dir))
        run = RunFolder(Path(os.path.normpath(root / composed.hydra.sweep.subdir)))
        try:
            config = RunConfig.of(job_config(composed))
            if is_finished(run, config):
                if is_concluded(run):
                    return Planned(given, root, run, "finished already, skipped", exit_code=0)
                return Planned(given, root, run, "finished already, without all figures")
            if run.in_use():
                return Planned(given, root, run, "in use by another process, left to it", exit_code=1)
            refuse_many(config.logger)
            state, start = run.state, find_start(run, config)
            self._refuse(config)
        except UserError as error:
            return Planned(given, root, run, f"refused: {error}", exit_code=2)
        plan = "begins anew" if start.step is None else f"goes on after step {start.step}"
        return Planned(given, root, run, "begins" if state == "new" else f"{state}, {plan}")

    def _refuse_company(self) -> None:
        try:
            here = place()
        except UserError as error:
            raise Reported(2, str(error)) from error
        if here.launcher:
            said = f"a multirun is one process, of which {here.launcher} has started {here.world_size}; start it alone"
            raise Reported(
                2, "" if here.rank else f"{said}: hydra/launcher=submitit_slurm starts runs on several nodes"
            )

    def _refuse(self, config: RunConfig) -> None:
        """Raise UserError for what can be known to be wrong before the first run, built once for all seeds."""
        devices, n_nodes = config.trainer.devices, config.trainer.num_nodes
        if isinstance(devices, int) and isinstance(n_nodes, int):
            launcher = self._config.hydra.launcher
            nodes, each = launcher.get("nodes") or 1, launcher.get("tasks_per_node") or 1
            of_slurm = Place(world_size=nodes * each, n_nodes=nodes, launcher="hydra/launcher=submitit_slurm")
            refuse_other_world(of_slurm if nodes * each > 1 else ALONE, devices, n_nodes)
        if self._kind not in HERE:  # where it will run, there may be a GPU
            return
        from taskcluster.training.experiment import prepare

        key = digest({key: value for key, value in flatten(config.as_dict()).items() if not is_seed(key)})
        if key not in self._refusals:
            try:
                prepare(config)
                self._refusals[key] = ""
            except UserError as error:
                self._refusals[key] = str(error)
        if self._refusals[key]:
            raise UserError(self._refusals[key])


def _outcome(run: RunFolder) -> list[str]:
    """What a run came to, for the table: state, steps, accuracy, ARI, claims."""
    try:
        state, rows, claims = run.state, run.rows(), run.results().get("claims", [])
    except UserError:
        return ["damaged", *["-"] * 4]
    values = ["-"] * 3
    if rows:
        accuracy, ari = number(rows[-1], "val/accuracy"), layers_of(rows[-1], "ari/val") or [math.nan]
        values = [str(rows[-1]["step"]), fixed(accuracy), fixed(ari[-1])]
    judged = [claim["passed"] for claim in claims if claim["passed"] is not None]
    held = f"{sum(judged)} of {len(judged)}" if state == "finished" else "-"
    return [state, *values, held]
