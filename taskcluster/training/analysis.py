"""A run measured again from its checkpoints: other measures, other probe sets, steps chosen later.

in:  an Analysis: a run folder, changes of its configuration, steps
out: RUN/analysis/NAME, a run folder without checkpoints, which report and dashboard show beside the run itself
"""

import time

import torch
from rich.console import Console

from taskcluster.processes.group import untouched
from taskcluster.runs.analyses import Analysis
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.provenance import surroundings
from taskcluster.runs.starts import writing
from taskcluster.training import conclude
from taskcluster.training.loading import LoadedRun, load_run


def analyze(analysis: Analysis, console: Console) -> None:
    """Measure a run, and draw the figures. What is measured already is not repeated.

    Computed with as many threads as the run had, if this process has them: then its own measures give the same bits.
    Raises UserError before anything is written where the run cannot be measured so.
    """
    source, target = analysis.source, analysis.target
    with untouched():
        torch.set_num_threads(threads(source))
        loaded = load_run(source.path, analysis.steps[0], analysis.changes)
        with target.locked():
            if analysis.is_finished:
                console.print(f"{target.path} is already finished.", soft_wrap=True)
                return
            before, todo = analysis.before, analysis.steps[analysis.done :]
            target.start(analysis.config.as_dict(), before, loaded.measurement.catalogue.values())
            facts = surroundings(loaded.network.device)
            with writing(target, before, max_steps=analysis.steps[-1], steps=analysis.steps, **facts):
                _measure(loaded, target, todo)
                conclude.conclude(target, loaded.data.family)
                loaded.go_to(analysis.steps[-1])
                conclude.illustrate_analysis(loaded, target, console)
    n_steps = len(analysis.steps)
    console.print(f"{source.name} at {n_steps} step{'s' * (n_steps > 1)}: {target.path}", soft_wrap=True)


def threads(run: RunFolder) -> int:
    """Those that the run was last started with, or all of this process where it has fewer."""
    own, starts = torch.get_num_threads(), run.status().get("starts") or [{}]
    return min(own, starts[-1].get("threads") or own)


def _measure(loaded: LoadedRun, target: RunFolder, steps: list[int]) -> None:
    began = time.monotonic()
    for step in steps:
        started = time.monotonic()
        loaded.go_to(step)
        row = {"step": step, **loaded.measure()}
        ended = time.monotonic()
        target.append(row, elapsed=ended - began, measuring=ended - started)
