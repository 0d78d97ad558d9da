"""A run measured again: what is asked of which checkpoints, and what of it is done. Free of torch, so plans are quick.

in:  a run folder, steps, changes of its configuration
out: Analysis: the folder that is written, the configuration to measure under, the steps to measure
"""

import os
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskcluster.config import RunConfig
from taskcluster.runs.folder import RunFolder
from taskcluster.validation import UserError


@dataclass(frozen=True)
class Analysis:
    """A run measured again.

    Attributes:
        source: the run.
        target: where it is written, a run folder without checkpoints.
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
    def done(self) -> int:
        """How many of the steps the journal has, from the first on."""
        rows = [row["step"] for row in self.target.rows()]
        return next((k for k, step in enumerate(self.steps) if rows[k : k + 1] != [step]), len(self.steps))

    @property
    def before(self) -> int | None:
        """The last step that is done, None for an analysis that begins."""
        return self.steps[self.done - 1] if self.done else None

    @property
    def is_finished(self) -> bool:
        """Whether nothing remains to be measured, judged or drawn."""
        finished = self.target.state == "finished" and self.done == len(self.steps)
        return finished and "controls" in self.target.results()

    def refuse_place(self) -> None:
        """Raise UserError where the folder that holds the target cannot be written to."""
        place = next(path for path in (self.target.path, *self.target.path.parents) if path.exists())
        if not os.access(place, os.W_OK | os.X_OK):
            raise UserError(f"{place} cannot be written to; give output=FOLDER for one that can")


def target_of(place: Path, name: str) -> RunFolder:
    """Where an analysis is written."""
    return RunFolder(place / "analysis" / name)


def plan(source: RunFolder, place: Path, name: str, steps: list[int] | str, changes: Mapping[str, object]) -> Analysis:
    """The analysis of a run at `steps`, "all" or "last", in PLACE/analysis/NAME.

    Raises UserError where there is nothing to measure, for a configuration that is none, and for an analysis of that
    name under another configuration.
    """
    if not re.fullmatch(r"\w[\w.=+-]*", name):
        raise UserError(f"name={name!r} cannot be the name of a folder; use letters, digits and _.=+-")
    if not (composed := source.config()):
        raise UserError(f"{source.path} is not the folder of a run; choose one with a config.yaml")
    chosen, target = _steps(source, steps), target_of(place, name)
    config = RunConfig.of(changed(composed, changes))
    target.refuse_foreign()
    if differing := target.differing_keys(config.as_dict()):
        raise UserError(
            f"{target.path} was made under another configuration ({', '.join(differing)} differ); choose another name="
        )
    return Analysis(source, target, chosen, changes, config)


def _steps(source: RunFolder, steps: list[int] | str) -> list[int]:
    saved = [step for step, file in source.saved() if file == source.checkpoint(step)]
    saved += source.as_built
    if not saved:
        raise UserError(f"{source.path} has no checkpoint yet; wait until the run has been measured once")
    if isinstance(steps, str):
        return saved if steps == "all" else saved[-1:]
    if missing := [step for step in steps if step not in saved]:
        there = ", ".join(map(str, saved))
        raise UserError(f"steps: {source.path} has no checkpoint of step {missing[0]}; choose from: {there}")
    return sorted(set(steps))


def changed(composed: Mapping[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    """A configuration with some values replaced, by dotted key. Raises UserError for a key that it does not have."""
    copy = deepcopy(dict(composed))
    for key, value in changes.items():
        *groups, last = key.split(".")
        part: Any = copy
        for group in groups:
            part = part.get(group) if isinstance(part, dict) else None
        if not isinstance(part, dict) or last not in part:
            raise UserError(f"{key} is not a key of the run's configuration; see its config.yaml")
        part[last] = value
    return copy
