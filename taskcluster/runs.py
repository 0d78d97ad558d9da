"""The run folder: the truth about a run, which everything else only reads.

config.yaml     the resolved configuration
status.json     running | finished | interrupted | failed, with step, wall time, and every start: when, where, on what
metrics.jsonl   the journal: a line for every measured step
training.jsonl  loss of the batch and learning rate, every few steps
results.json    the last metrics and the verdict on every claim
checkpoints/    step=000200.ckpt for each line of the journal and last=000237.ckpt in between, if any: the whole state
                of training, each with its SHA-256 beside it
figures/        pictures of the above
.lock           held by the process that writes here
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

import yaml
from filelock import FileLock, Timeout

from taskcluster import journal
from taskcluster.journal import Row
from taskcluster.validation import ConfigError

PATIENCE = 1.0  # seconds that a lock is waited for: whoever only looks holds it for a moment

WITHOUT_EFFECT = ("name", "resume", "logger.", "callbacks.checkpoint.")  # keys that change no number of a run


class RunFolder:
    """One run's folder. Writing is for the process that trains; reading is for everyone.

    Raises ConfigError, whoever reads or writes, where the folder cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.figures = path / "figures"
        self.journal = path / "metrics.jsonl"
        self.training = path / "training.jsonl"

    @property
    def name(self) -> str:
        """CONDITION/seed=SEED, or the last two folders of wherever the run lies."""
        return "/".join(self.path.parts[-2:])

    @property
    def state(self) -> str:
        """That of status.json, but "new" where there is none, and "killed" where "running" is what a dead one left."""
        return self.state_by(self.status)

    def state_by(self, status: Callable[[], Row]) -> str:
        """The same by a reader of status.json, which is asked again where a run may just have ended."""
        state = str(status().get("state", "new"))
        if state == "running" and not self.in_use():
            state = str(status().get("state", "new"))
            return "killed" if state == "running" else state
        return state

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the right to write here, which ends with the process at the latest."""
        lock = FileLock(self.path / ".lock", timeout=PATIENCE)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise ConfigError(f"{self.path} is in use by another process; wait for its end, or end it") from None
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}; choose a folder that can be written to") from None
        try:
            yield
        finally:
            if not self.status():  # nothing came of it
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def in_use(self) -> bool:
        """Whether a process holds the lock. Needs no right to write, and writes nothing."""
        try:
            with (self.path / ".lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
        except BlockingIOError:
            return True
        except OSError:  # never locked
            return False

    def start(self, config: Mapping[str, Any], step: int | None) -> None:
        """Make ready to go on after `step`, or to begin where it is None: what was written later is dropped."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.figures.mkdir(exist_ok=True)
        for abandoned in self.path.rglob(".*.partial"):
            abandoned.unlink()
        last = -1 if step is None else step
        for saved, file in self.saved():
            if saved > last:
                drop_checkpoint(file)
        for file in (self.journal, self.training):
            kept = [row for row in journal.read(file) if row["step"] <= last]
            self._write(file.name, "".join(json.dumps(row) + "\n" for row in kept))
        self._write("config.yaml", yaml.safe_dump(dict(config), sort_keys=False))

    @contextmanager
    def writing(self, step: int | None, given_id: str | None = None, **facts: Any) -> Iterator[None]:
        """Record a start at `step` with these facts, and leave the run finished, interrupted or failed.

        What begins gets the id that is given or one of its own, which stays unless another is given later.
        """
        started, before = time.monotonic(), self.status()
        starts = [] if step is None else before.get("starts", [])
        starts.append({"time": _now(), "step": step or 0, **facts})
        spent = before.get("wall_seconds", 0) if step is not None else 0
        identity = before.get("id") if step is not None else None
        self.write_status("running", id=given_id or identity or token_hex(4), error=None, starts=starts)

        def end(state: str, error: str | None = None) -> None:
            steps = [row["step"] for row in self.rows()] + [saved for saved, _ in self.saved()]
            seconds = round(spent + time.monotonic() - started, 1)
            self.write_status(state, error=error, step=max(steps, default=None), wall_seconds=seconds)

        try:
            yield
        except BaseException as failure:
            with suppress(OSError):  # a full disk, say, of which the failure itself tells
                if isinstance(failure, Exception):
                    end("failed", f"{type(failure).__name__}: {failure}")
                else:
                    end("interrupted", str(failure))
            raise
        end("finished")

    def config(self) -> Row:
        """The configuration that the folder was last written under, {} for a folder without a run."""
        return self._read("config.yaml", yaml.safe_load)

    def differing_keys(self, config: Mapping[str, Any]) -> list[str]:
        """Dotted keys whose values differ from the recorded ones and matter to a run's numbers, if any run is here."""
        if not self.config():
            return []
        old, new = flatten(self.config()), flatten(config)
        differing = (key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        return sorted(key for key in differing if matters(key))

    def append(self, row: Mapping[str, Any], elapsed: float, measuring: float) -> None:
        """Add a line to the journal.

        elapsed: seconds since training began; measuring: those that this row took.
        """
        times = {"time": _now(), "elapsed": round(elapsed, 3), "measuring": round(measuring, 3)}
        journal.append(self.journal, {**row, **times})

    def append_training(self, row: Mapping[str, Any], elapsed: float) -> None:
        """Add a line to training.jsonl likewise."""
        journal.append(self.training, {**row, "elapsed": round(elapsed, 3)})

    def rows(self) -> list[Row]:
        """The journal, first step first, up to a line that a crash tore or that is damaged otherwise."""
        return journal.read(self.journal)

    def checkpoint(self, step: int, measured: bool = True) -> Path:
        return self.checkpoints / f"{'step' if measured else 'last'}={step:06d}.ckpt"

    def saved(self) -> list[tuple[int, Path]]:
        """Every checkpoint with its step, first to last."""
        files = self.checkpoints.glob("*=*.ckpt")
        return sorted((int(file.stem.partition("=")[2]), file) for file in files)

    def write_status(self, state: str, **facts: Any) -> None:
        """Replace status.json by the recorded facts, updated by these."""
        self._write_json("status.json", self.status() | {"state": state} | facts)

    def status(self) -> Row:
        return self._read("status.json", json.loads)

    def write_results(self, results: Mapping[str, Any]) -> None:
        self._write_json("results.json", results)

    def results(self) -> Row:
        return self._read("results.json", json.loads)

    def _read(self, name: str, parse: Any) -> Row:
        try:
            content = parse((self.path / name).read_text())
        except FileNotFoundError:
            return {}
        except (ValueError, yaml.YAMLError):
            content = None
        if not isinstance(content, dict):
            raise ConfigError(f"{self.path / name} is damaged; restore it, or choose another folder")
        return content

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        self._write(name, json.dumps(content, indent=2) + "\n")

    def _write(self, name: str, text: str) -> None:
        replace_file(self.path / name, text.encode())


def drop_checkpoint(checkpoint: Path) -> None:
    checkpoint.unlink()
    digest_file(checkpoint).unlink(missing_ok=True)


def digest_file(checkpoint: Path) -> Path:
    """Where a checkpoint's SHA-256 stands, as `sha256sum --check` reads it."""
    return checkpoint.with_name(f"{checkpoint.name}.sha256")


def replace_file(file: Path, content: bytes | memoryview) -> None:
    """Put a whole file in place and on the disk: however this ends, the old one or the new one is there."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("wb") as target:
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
        os.replace(partial, file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or the new name might not survive a loss of power
    finally:
        os.close(folder)


def matters(key: str) -> bool:
    """Whether a dotted key of the configuration has to do with a run's numbers."""
    return not key.startswith(WITHOUT_EFFECT)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
