"""A run measured again from its checkpoints: other measures, other probe sets, steps chosen later.

in:  a run folder, changes of its configuration, steps
out: RUN/analysis/NAME, a run folder without checkpoints, which report and dashboard show beside the run itself
"""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import track

from taskcluster.runs.folder import RunFolder
from taskcluster.runs.provenance import surroundings
from taskcluster.runs.starts import writing
from taskcluster.training import conclude, figures
from taskcluster.training.loading import LoadedRun, load_run
from taskcluster.validation import UserError


def analyze(
    source: RunFolder, name: str, steps: list[int] | str, changes: Mapping[str, object], console: Console
) -> RunFolder:
    """Measure a run at `steps`, "all" or "last", and draw the figures. What is measured already is not repeated.

    Raises UserError where there is nothing to measure, and for an analysis of that name under another configuration.
    """
    chosen = _steps(source, steps)
    loaded = load_run(source.path, chosen[0], changes)
    target = RunFolder(source.path / "analysis" / name)
    config = loaded.config.as_dict()
    if differing := target.differing_keys(config):
        raise UserError(
            f"{target.path} was made under another configuration ({', '.join(differing)} differ); choose another name="
        )
    with target.locked():
        done = [row["step"] for row in target.rows()]
        n_done = next((k for k, step in enumerate(chosen) if done[k : k + 1] != [step]), len(chosen))
        if (n_done, target.state) == (len(chosen), "finished"):
            console.print(f"{target.path} is already finished.", soft_wrap=True)
            return target
        before = chosen[n_done - 1] if n_done else None
        target.start(config, before, loaded.measurement.catalogue.values())
        facts = surroundings(loaded.network.device)
        with writing(target, before, max_steps=chosen[-1], **facts):
            _measure(loaded, target, chosen[n_done:], console)
            conclude.conclude(target, loaded.data.family)
            figures.draw(target)
    console.print(f"{source.name} at {len(chosen)} step{'s' * (len(chosen) > 1)}: {target.path}", soft_wrap=True)
    return target


def _measure(loaded: LoadedRun, target: RunFolder, steps: list[int], console: Console) -> None:
    began = time.monotonic()
    for step in track(steps, loaded.run.name, console=console, transient=True):
        started = time.monotonic()
        loaded.go_to(step)
        row = {"step": step, **loaded.measure()}
        ended = time.monotonic()
        target.append(row, elapsed=ended - began, measuring=ended - started)


def _steps(source: RunFolder, steps: list[int] | str) -> list[int]:
    saved = [step for step, file in source.saved() if file == source.checkpoint(step)]
    if not saved:
        raise UserError(f"{source.path} has no checkpoint yet; wait until the run has been measured once")
    if isinstance(steps, str):
        return saved if steps == "all" else saved[-1:]
    if missing := [step for step in steps if step not in saved]:
        there = ", ".join(map(str, saved))
        raise UserError(f"steps: {source.path} has no checkpoint of step {missing[0]}; choose from: {there}")
    return sorted(set(steps))
