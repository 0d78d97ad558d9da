"""A multirun of three depths and three seeds, two jobs side by side, beside one after the other on one core.

out: a row of results.json: seconds for all nine jobs

    python benchmarks/jobs.py
"""

import os
import subprocess
import sys
import tempfile

from side_by_side import record, row, seconds_of

SHORT = ("trainer.max_steps=300", "model.n_layer=2,4,6", "seed=0,1,2", "logger=none")


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
    record([row("nine jobs, two side by side", ours, alone, "one after the other, on one core", "s")])


if __name__ == "__main__":
    main()
