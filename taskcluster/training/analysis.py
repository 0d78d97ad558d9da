"""Measure a run again from its checkpoints: other measures, other probe sets, other steps. torch is imported only to
measure, so plans are quick.

in:  a run folder, changes of its configuration, steps
out: RUN/analysis/NAME, a run folder without checkpoints, which report and dashboard show beside the run itself;
     the measured states in a separate folder, if requested
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from taskcluster.config import RunConfig
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import PartialRow
from taskcluster.runs.resume import writing
from taskcluster.validation import UserError
from taskcluster.work import doing, each

if TYPE_CHECKING:
    from taskcluster.data.rows import Position
    from taskcluster.training.loading import LoadedRun


@dataclass(frozen=True)
class Analysis:
    """An analysis of a run: its steps, changes and target.

    Attributes:
        source: the run.
        target: the folder that is written.
        steps: the checkpoints to measure, first to last.
        changes: {dotted key: value} of the run's configuration.
        config: the configuration with these changes.
    """

    source: RunFolder
    target: RunFolder
    steps: list[int]
    changes: Mapping[str, object]
    config: RunConfig

    @property
    def done(self) -> list[int]:
        """The steps that the journal has, from the first on."""
        pairs = zip(self.steps, self.target.rows(), strict=False)
        return [step for step, row in takewhile(lambda pair: pair[0] == pair[1]["step"], pairs)]

    @property
    def is_finished(self) -> bool:
        """Whether all steps are measured, judged and drawn."""
        return self.target.state == "finished" and self.done == self.steps and "controls" in self.target.results()


def plan(source: RunFolder, target: RunFolder, steps: list[int] | str, changes: Mapping[str, object]) -> Analysis:
    """The analysis of a run at `steps`, "all" or "last", written to `target`.

    Raises UserError for a run without a step to measure, an invalid configuration, and a target that was made under
    another configuration.
    """
    config = RunConfig.of(source.config_with(changes))
    if differing := target.differing_keys(config.as_dict()):
        raise UserError(
            f"{target.path} was made with another configuration ({', '.join(differing)} differ); choose another name="
        )
    wanted = [] if isinstance(steps, str) else sorted(set(steps))
    measured = {row["step"] for row in source.rows()}
    available = [step for step in source.steps(wanted) if step in measured] or source.steps()
    return Analysis(source, target, wanted or (available if steps == "all" else available[-1:]), changes, config)


def analyze(analysis: Analysis, console: Console, states: Path | None = None) -> None:
    """Measure a run, and draw the figures. Steps in the journal are not measured again.

    Computed with as many threads as the run had, if this process has them: then its own measures give the same bits.

    Args:
        states: a folder for what the measures read, `STATES/step=000600/val`, each an observation.

    Raises:
        UserError: before anything is written, where the run cannot be measured so.
    """
    from taskcluster.operations.processes.environment import large_imports

    with doing("loading libraries"), large_imports():
        import torch

        from taskcluster.operations.processes.group import untouched
        from taskcluster.training.loading import load_run
        from taskcluster.training.progress import quieten

        quieten()
    source, target, steps = analysis.source, analysis.target, analysis.steps
    threads = (source.status().get("starts") or [{}])[-1].get("threads")
    with untouched():
        torch.set_num_threads(min(torch.get_num_threads(), threads or torch.get_num_threads()))
        with doing("preparing prompts and model"):
            loaded = load_run(source.path, steps[0], analysis.changes)
        with target.locked():
            if analysis.is_finished:
                console.print(f"{target.path} is already finished.", soft_wrap=True)
            else:
                _measure(analysis, loaded, console)
                console.print(
                    f"{source.name} at {len(steps)} step{'s' * (len(steps) > 1)}: {target.path}", soft_wrap=True
                )
            if states:
                _save_states(loaded, steps, states)
                console.print(f"The states of {source.name} are in {states}", soft_wrap=True)


def _measure(analysis: Analysis, loaded: "LoadedRun", console: Console) -> None:
    """Measure the steps that the journal lacks, and conclude."""
    from taskcluster.runs.provenance import surroundings
    from taskcluster.training.recording import conclude, illustrate

    target, steps, done = analysis.target, analysis.steps, analysis.done
    last = done[-1] if done else None
    target.start(analysis.config.as_dict(), last, loaded.measurement.catalogue.values())
    with writing(target, last, max_steps=steps[-1], steps=steps, **surroundings(loaded.network.device)):
        began = time.monotonic()
        for step in each(steps[len(done) :], "checkpoint"):
            started = time.monotonic()
            loaded.go_to(step)
            kept = PartialRow(target.path, step)
            row, ended = {"step": step, **loaded.measure(kept)}, time.monotonic()
            target.append(row, elapsed=ended - began, measuring=ended - started)
            kept.clear()
        conclude(target, loaded.data.family)
        loaded.go_to(steps[-1])
        illustrate(loaded, target, console)


def _save_states(loaded: "LoadedRun", steps: Sequence[int], folder: Path) -> None:
    """Write the states at the positions that measures read, of every step and split; and those at x, where prompts
    share the others."""
    measurement = loaded.measurement
    read = dict.fromkeys(at for measure in measurement.measures.values() for at in measure.positions)
    positions: list[Position] = [*read] if {*read} - {"instruction_end"} else [*read, "input"]
    for step in each(steps, "states of checkpoint"):
        loaded.go_to(step)
        for split in measurement.splits:
            loaded.observe(split, positions).save(folder / f"step={step:06d}" / split)
