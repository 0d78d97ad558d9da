"""Many runs measured again: planned, handed to a launcher of Hydra's, and followed by one bar.

in:  run folders, and what is asked of them
out: a job for each run that has something to do; a table where there are several runs; an exit code
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig

from taskcluster.arguments import quoted
from taskcluster.multirun import Multirun
from taskcluster.planning import HERE, Planned, common_root
from taskcluster.runs.analyses import Analysis, plan, target_of
from taskcluster.runs.condition import digest, flatten, is_seed
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.options import CONF
from taskcluster.validation import UserError


@dataclass(frozen=True)
class Request:
    """What is asked of runs, all below `root`.

    changes: of a run, {dotted key: value} of its configuration; output: a folder in which the analyses are written to
    the places that their runs have below `root`, None for the runs' own folders.
    """

    root: Path
    name: str
    steps: list[int] | str
    changes: Callable[[RunFolder], Mapping[str, object]]
    output: Path | None = None

    def place(self, run: RunFolder) -> Path:
        """The folder that holds analysis/NAME of a run."""
        return self.output / os.path.relpath(run.path, self.root) if self.output else run.path

    def plan(self, run: RunFolder) -> Analysis:
        """Raises UserError for what cannot be done."""
        return plan(run, self.place(run), self.name, self.steps, self.changes(run))


@dataclass
class PlannedAnalysis(Planned):
    """One analysis. folder: where it is written; analysis: None for one that is refused."""

    analysis: Analysis | None = None

    @property
    def placed(self) -> list[str]:
        return [*self.overrides]


def planned(runs: Sequence[RunFolder], request: Request) -> list[PlannedAnalysis]:
    """What every run has before it, found out before the first one begins."""
    found = [_planned(run, request) for run in runs]
    for run, of_run in zip(runs, found, strict=True):
        of_run.name = run.name if len(runs) == 1 else os.path.relpath(run.path, request.root)
    return found


def _planned(run: RunFolder, request: Request) -> PlannedAnalysis:
    target, root = target_of(request.place(run), request.name), request.output or request.root
    try:
        analysis = request.plan(run)
        given = {"run": run.path, "place": request.place(run), "name": request.name}
        given |= {"changes": json.dumps(analysis.changes)}
        texts = [f"{key}:{quoted(str(value))}" for key, value in given.items()]
        words = [f"analysis={{steps:{analysis.steps},{','.join(texts)}}}"]  # a dictionary is never an option's name
        if analysis.is_finished:
            return PlannedAnalysis(words, root, target, "already finished", 0, analysis=analysis)
        analysis.refuse_place()
        if target.in_use():
            said = f"{target.path} is in use by another process, skipped"
            return PlannedAnalysis(words, root, target, said, 1, analysis=analysis)
        begins = "begins" if analysis.before is None else f"resumes after step {analysis.before}"
        return PlannedAnalysis(words, root, target, begins, analysis=analysis)
    except UserError as error:
        return PlannedAnalysis([], root, target, str(error), 2)


class Analyses(Multirun):
    """Analyses handed to a launcher.

    program: the command; see Multirun.
    """

    program = "taskcluster-analyze"

    def __init__(self, launcher: Launcher, config: DictConfig, runs: Sequence[PlannedAnalysis]) -> None:
        super().__init__(launcher, config, runs)
        if len(runs) > 1 and type(launcher).__name__ in HERE:  # one alone is checked when it begins, before it writes
            _check(runs)

    def announce(self, run: Planned) -> None:
        if run.exit_code == 0:  # the others say themselves what came of them
            self.console.print(f"{run.folder.path} is {run.plan}.", soft_wrap=True)

    def view(self, batch: Sequence[Planned]) -> AbstractContextManager[None]:
        if not self.console.is_terminal:
            return nullcontext()
        from taskcluster.watch.terminal import StepsView

        asked = (run.analysis for run in batch if isinstance(run, PlannedAnalysis))
        return StepsView({analysis.target: len(analysis.steps) for analysis in asked if analysis})

    def conclude(self) -> int:
        if len(self.runs) > 1:
            self.show()
        return max(1 if run.exit_code is None else run.exit_code for run in self.runs)


def _check(runs: Sequence[PlannedAnalysis]) -> None:
    """Refuse what cannot be measured, once for runs that differ in seeds alone."""
    from taskcluster.training.loading import load_run

    problems: dict[str, str] = {}
    for run in runs:
        if run.exit_code is not None or not (analysis := run.analysis):
            continue
        values = {key: value for key, value in flatten(analysis.config.as_dict()).items() if not is_seed(key)}
        if (key := digest(values)) not in problems:
            problems[key] = ""
            try:
                load_run(analysis.source.path, analysis.steps[0], analysis.changes)
            except UserError as error:
                problems[key] = str(error)
        if problems[key]:
            run.plan, run.exit_code = problems[key], 2


def launched(overrides: Sequence[str], function: TaskFunction, runs: Sequence[PlannedAnalysis]) -> Analyses:
    """The analyses with the launcher that the overrides choose. function: what each job does."""
    from hydra._internal.callbacks import Callbacks  # which every launcher asks for

    placed = [*overrides, f"hydra.sweep.dir={quoted(str(common_root(runs)))}"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), job_name="analyze", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration("analyze", placed, RunMode.MULTIRUN)
    setup_globals()
    context = HydraContext(loader, Callbacks(config))
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=function, config=config)
    return Analyses(launcher, config, runs)
