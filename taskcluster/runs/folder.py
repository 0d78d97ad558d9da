"""The run folder: the authoritative record of a run, which everything else reads.

config.yaml     the resolved configuration
catalogue.json  what the metrics of the journal are: names, ranges, where each is shown
status.json     running | finished | interrupted | failed, with step, wall time, and every start: when, where, on what
metrics.jsonl   the journal: a line for every measured step
training.jsonl  loss of the batch and learning rate, every few steps
results.json    the last metrics and the verdict on every claim
checkpoints/    step=000200.ckpt for each line of the journal and last=000237.ckpt in between, if any: the whole state
                of training, each with its SHA-256 beside it
examples/       step=000200.parquet for each line of the journal whose metrics have numbers for every example, if any
figures/        pictures of the above
.lock, .holder  held by the process that writes here; see locks.py
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from taskcluster.metrics import Catalogue, Metric
from taskcluster.runs import condition, examples, journal, locks, records
from taskcluster.runs.atomic_files import replace_file
from taskcluster.runs.journal import Row, now
from taskcluster.validation import UserError

if TYPE_CHECKING:
    import polars

CHECKPOINT = re.compile(r"(?:step|last)=([0-9]{6,})\.ckpt")


class RunFolder:
    """One run's folder. Only the process that trains writes to it; any process may read it.

    Raises:
        UserError: by every method, if a file of the folder is damaged or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.figures = path / "figures"
        self.journal = path / "metrics.jsonl"
        self.training = path / "training.jsonl"

    @property
    def name(self) -> str:
        """CONDITION/seed=SEED, or the last two folders of the run's path."""
        return records.text("/".join(self.path.parts[-2:]))

    @property
    def state(self) -> str:
        """The state in status.json; "new" if there is none, "killed" if it says "running" but no process trains."""
        return self.state_by(self.status)

    def state_by(self, status: Callable[[], Row]) -> str:
        """Return the state, given a reader of status.json, which is called again if the run may just have ended."""
        state = str(status().get("state", "new"))
        if state != "running" or self.in_use():
            return state
        state = str(status().get("state", "new"))
        return "killed" if state == "running" else state

    def locked(self) -> AbstractContextManager[None]:
        """A context that locks the folder for writing."""
        return locks.hold(self.path)

    def in_use(self) -> bool:
        """Whether a process has locked the folder. Needs no lock, and writes nothing."""
        return locks.held(self.path)

    def refuse_in_use(self) -> None:
        """Raise UserError if a process has locked the folder."""
        if self.in_use():
            raise locks.in_use(self.path)

    def start(self, config: Mapping[str, Any], step: int | None, declared: Iterable[Metric]) -> None:
        """Prepare to resume after `step`, or to begin where it is None: everything written later is dropped.

        declared: the metrics that the journal will have.
        """
        last = -1 if step is None else step
        kept = {file: [r for r in journal.read(file) if r["step"] <= last] for file in (self.journal, self.training)}
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.figures.mkdir(exist_ok=True)
        for abandoned in [*self.path.glob(".*.partial"), *self.checkpoints.glob(".*.partial")]:
            abandoned.unlink()
        examples.drop_after(self.path / "examples", last)
        for saved, file in self.saved():
            if saved > last:
                drop_checkpoint(file)
        for file, rows in kept.items():
            replace_file(file, "".join(json.dumps(row) + "\n" for row in rows).encode())
        self._write_json("catalogue.json", {"metrics": [asdict(metric) for metric in declared]})
        replace_file(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False).encode())

    def catalogue(self) -> Catalogue:
        """The declarations of the journal's metrics."""
        file = self.path / "catalogue.json"
        return records.declared(records.contents(file), file)

    def config(self) -> Row:
        """The configuration that the folder was last written under, {} for a folder without a run. Runs share its
        parts: copy what you change."""
        return records.read(self.path / "config.yaml", records.Config)

    def config_with(self, changes: Mapping[str, object]) -> Row:
        """The configuration with some values replaced, by dotted key.

        Raises UserError for a folder without a run, and for a key that the configuration does not have.
        """
        if not (config := deepcopy(self.config())):
            raise UserError(f"{self.path} is not the folder of a run; choose one with a config.yaml")
        for key, value in changes.items():
            *groups, last = key.split(".")
            part = reduce(lambda node, group: node.get(group, {}) if isinstance(node, dict) else {}, groups, config)
            if not isinstance(part, dict) or last not in part:
                raise UserError(f"{key} is not a key of the run's configuration; see its config.yaml")
            part[last] = value
        return config

    def differing_keys(self, config: Mapping[str, Any]) -> list[str]:
        """Dotted keys whose values differ from the recorded ones and matter to a run's numbers, if any run is here."""
        recorded = self.config()
        return condition.differing_keys(recorded, config) if recorded else []

    def append(self, row: Mapping[str, Any], elapsed: float, measuring: float) -> None:
        """Add a line to the journal. Numbers of examples, its value "examples", go to a file of their own.

        elapsed: seconds since training began; measuring: those that this row took.
        """
        times = {"time": now(), "elapsed": round(elapsed, 3), "measuring": round(measuring, 3)}
        numbers = {key: value for key, value in row.items() if key != "examples"}
        if "examples" in row:
            examples.write(self.path / "examples", row["step"], row["examples"])
        journal.append(self.journal, {**numbers, **times})

    def append_training(self, row: Mapping[str, Any], elapsed: float) -> None:
        """Add a line to training.jsonl likewise."""
        journal.append(self.training, {**row, "elapsed": round(elapsed, 3)})

    def rows(self) -> list[Row]:
        """The journal, first step first, up to the first line that is torn or damaged."""
        return journal.read(self.journal)

    def examples(self, step: int | None = None) -> "polars.DataFrame":
        """A row for each example of a measured step, by default the last that has any: split, number, prompt, labels,
        and the metrics that have a number for each. Raises UserError where no measure gave any."""
        return examples.read(self.path / "examples", step)

    def checkpoint(self, step: int, measured: bool = True) -> Path:
        return self.checkpoints / f"{'step' if measured else 'last'}={step:06d}.ckpt"

    def saved(self) -> list[tuple[int, Path]]:
        """Every checkpoint with its step, first to last."""
        named = ((CHECKPOINT.fullmatch(file.name), file) for file in self.checkpoints.glob("*=*.ckpt"))
        return sorted((int(name[1]), file) for name, file in named if name)

    @property
    def as_built(self) -> list[int]:
        """The measured steps of a run that made no updates: its configuration says where their weights are, and it
        needs no checkpoints."""
        if self.saved() or self.config().get("trainer", {}).get("max_steps"):
            return []
        return [row["step"] for row in self.rows()]

    def steps(self, wanted: Sequence[int] = ()) -> list[int]:
        """The steps whose weights can be loaded, first to last. Raises UserError for a run without any, and where a
        wanted one is not among them."""
        steps = self.as_built or [step for step, _ in self.saved()]
        if not steps:
            raise UserError(f"{self.path} has no checkpoint yet; wait until the run has been measured once")
        if missing := [step for step in wanted if step not in steps]:
            choices = ", ".join(map(str, steps))
            raise UserError(f"{self.path} has no checkpoint of step {missing[0]}; choose from: {choices}")
        return steps

    def write_status(self, state: str, **facts: Any) -> None:
        """Replace status.json by the recorded facts, updated by these."""
        self._write_json("status.json", self.status() | {"state": state} | facts)

    def status(self) -> Row:
        return records.read(self.path / "status.json", records.Status)

    def write_results(self, results: Mapping[str, Any]) -> None:
        self._write_json("results.json", results)

    def results(self) -> Row:
        return records.read(self.path / "results.json", records.Results)

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        replace_file(self.path / name, f"{json.dumps(content, indent=2)}\n".encode())


def drop_checkpoint(checkpoint: Path) -> None:
    checkpoint.unlink()
    digest_file(checkpoint).unlink(missing_ok=True)


def digest_file(checkpoint: Path) -> Path:
    """Where a checkpoint's SHA-256 is kept, as `sha256sum --check` reads it."""
    return checkpoint.with_name(f"{checkpoint.name}.sha256")
