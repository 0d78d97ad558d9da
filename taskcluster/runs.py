"""The run folder: the truth about a run, which everything else only reads.

config.yaml     the resolved configuration
status.json     running | finished | failed, with step, versions, device and wall time
metrics.jsonl   the journal: a line for every measured step
results.json    the last metrics and the verdict on every claim
checkpoints/    step=000200.ckpt (weights, one for each measurement), last.ckpt (weights and optimizer)
figures/        pictures of the above
"""

import json
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

Row = dict[str, Any]

RECORDED = ("taskcluster-lm", "torch", "pytorch-lightning", "transformers", "scikit-learn", "numpy", "rstr", "wandb")

TIMES = ("time", "elapsed", "measuring")  # the keys of a journal row that differ between two runs of one configuration


class RunFolder:
    """One run's folder. Writing is for the process that trains; reading is for everyone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.figures = path / "figures"
        self.journal = path / "metrics.jsonl"

    @property
    def name(self) -> str:
        """CONDITION/seed=SEED, or the last two folders of wherever the run lies."""
        return "/".join(self.path.parts[-2:])

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin a run here, in place of one with this configuration that did not finish."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.figures.mkdir(exist_ok=True)
        for old in self.checkpoints.glob("*.ckpt"):
            old.unlink()
        self._write("config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
        self._write("metrics.jsonl", "")

    @contextmanager
    def writing(self, config: Mapping[str, Any], owner: bool, device: str) -> Iterator[None]:
        """Start the run, and leave it finished or failed. Does nothing in a process that does not own the folder."""
        if not owner:
            yield
            return
        started = time.monotonic()
        self.start(config)
        self.write_status("running", started=_now(), versions=_versions(), device=device, machine=_machine())
        state, error = "failed", None
        try:
            yield
            state = "finished"
        except BaseException as failure:
            stopped = isinstance(failure, KeyboardInterrupt | SystemExit)
            error = "interrupted" if stopped else f"{type(failure).__name__}: {failure}"
            raise
        finally:
            rows = self.rows()
            step = rows[-1]["step"] if rows else None
            self.write_status(state, error=error, step=step, wall_seconds=round(time.monotonic() - started, 1))

    def differing_keys(self, config: Mapping[str, Any]) -> list[str]:
        """Dotted keys whose values differ from the configuration that this folder was written under, if any was."""
        recorded = self.path / "config.yaml"
        if not recorded.exists():
            return []
        old, new = _flat(yaml.safe_load(recorded.read_text())), _flat(config)
        return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))

    def append(self, row: Mapping[str, Any], elapsed: float, measuring: float) -> None:
        """Add a line to the journal and wait until it is on the disk. Numbers that are not finite become null.

        elapsed: seconds since training began; measuring: those that this row took.
        """
        values = {key: finite(value) for key, value in row.items()}
        stamped = values | {"time": _now(), "elapsed": round(elapsed, 3), "measuring": round(measuring, 3)}
        with self.journal.open("a") as journal:
            journal.write(json.dumps(stamped) + "\n")
            journal.flush()
            os.fsync(journal.fileno())

    def rows(self) -> list[Row]:
        """The journal, first step first. A last line that was torn by a crash is left out."""
        lines = self.journal.read_text().split("\n") if self.journal.exists() else []
        return [json.loads(line) for line in lines[:-1]]  # what follows the last newline is empty or torn

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step={step:06d}.ckpt"

    def write_status(self, state: str, **facts: Any) -> None:
        """Replace status.json by the recorded facts, updated by these."""
        self._write_json("status.json", self.status() | {"state": state} | facts)

    def status(self) -> Row:
        return self._read_json("status.json")

    def write_results(self, results: Mapping[str, Any]) -> None:
        self._write_json("results.json", results)

    def results(self) -> Row:
        return self._read_json("results.json")

    def _read_json(self, name: str) -> Row:
        file = self.path / name
        content: Row = json.loads(file.read_text()) if file.exists() else {}
        return content

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        self._write(name, json.dumps(content, indent=2) + "\n")

    def _write(self, name: str, text: str) -> None:
        """Replace a file as a whole: a reader sees the old one or the new one."""
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / f".{name}.partial"
        partial.write_text(text)
        os.replace(partial, self.path / name)


def finite(value: Any) -> Any:
    """The value, or None in place of a float that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in RECORDED}


def _machine() -> str:
    return f"{platform.platform()}, {os.cpu_count()} cores"
