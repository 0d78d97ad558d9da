"""A multirun of two jobs side by side with the threads divided, beside one after the other, on one core and on all.

out: rows of results.json: seconds for both jobs, medians over repeats that take turns

    python benchmarks/jobs.py
"""

import os
import subprocess
import sys
import tempfile

from side_by_side import alternate, record, row, seconds_of

REPEATS = 1
SHORT = ("trainer.max_steps=300", "callbacks.measurement.n_early=0", "seed=0,1", "logger=none")


def multirun(*overrides: str, **environment: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "taskcluster.train", "-m", *SHORT, *overrides]
        return seconds_of(
            lambda: subprocess.run(
                command, cwd=folder, check=True, capture_output=True, env={**os.environ, **environment}
            )
        )


def main() -> None:
    seconds = alternate(
        {
            "ours": lambda: multirun("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
            "one after the other, on one core": lambda: multirun(OMP_NUM_THREADS="1"),
            "one after the other, on all cores": multirun,
        },
        REPEATS,
        warm_up=False,
    )
    ours = seconds.pop("ours")
    record([row("two jobs side by side", ours, peer, name, "s") for name, peer in seconds.items()])


if __name__ == "__main__":
    main()
