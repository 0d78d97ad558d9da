"""A multirun of two jobs side by side with the threads divided, beside one after the other on one core.

out: a row of results.json: seconds for both jobs

    python benchmarks/jobs.py
"""

import os
import subprocess
import sys
import tempfile

from side_by_side import record, row, seconds_of

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
    ours = multirun("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    alone = multirun(OMP_NUM_THREADS="1")
    record([row("two jobs side by side", ours, alone, "one after the other, on one core", "s")])


if __name__ == "__main__":
    main()
