"""What saving and journaling cost: the default run, whose checkpoints and journal lines are timed as they are written.

out: rows of results.json: seconds of saving and of journaling beside those of the whole training, medians over seeds

    python benchmarks/saving.py
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console
from side_by_side import record, row

from taskcluster.cli import composed
from taskcluster.config import RunConfig
from taskcluster.processes.interrupts import Interrupts
from taskcluster.runs.folder import RunFolder
from taskcluster.training.callbacks import CheckpointCallback
from taskcluster.training.experiment import Experiment
from taskcluster.training.run import train

SEEDS = 3


def timed(spent: list[float], work: Callable[..., Any]) -> Callable[..., Any]:
    """`work`, whose seconds go into `spent`."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return work(*args, **kwargs)
        finally:
            spent.append(time.perf_counter() - started)

    return wrapped


def main() -> None:
    parts = {
        "saving checkpoints": (CheckpointCallback, "_save"),
        "journaling": (RunFolder, "append"),
        "training": (Experiment, "fit"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for seed in range(SEEDS):
        with tempfile.TemporaryDirectory() as folder, Interrupts() as interrupts:
            spent: dict[str, list[float]] = {name: [] for name in parts}
            patches = [patch.object(c, m, timed(spent[name], getattr(c, m))) for name, (c, m) in parts.items()]
            for one in patches:
                one.start()
            run = RunFolder(Path(folder) / "run")
            train(RunConfig.of(composed(f"seed={seed}", "logger=none")), run, interrupts, Console(quiet=True))
            for one in patches:
                one.stop()
            for name in parts:
                seconds[name].append(sum(spent[name]))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    whole = medians.pop("training")
    rows = [
        row(f"{name} in the default run", s, whole, "all of its training", "s", s / whole)
        for name, s in medians.items()
    ]
    record(rows)


if __name__ == "__main__":
    main()
