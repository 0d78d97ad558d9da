"""A multirun of two jobs, side by side with the threads divided and one after the other with all of them.

out: a row of results.json: seconds for both jobs, medians over repeats that take turns

    python benchmarks/jobs.py
"""

import subprocess
import sys
import tempfile

from side_by_side import alternate, record, row, seconds_of

REPEATS = 3
SHORT = ("trainer.max_steps=120", "callbacks.clustering.n_early=0", "seed=0,1", "logger=none")


def multirun(*overrides: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "taskcluster.train", "-m", *SHORT, *overrides]
        return seconds_of(lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True))


def main() -> None:
    seconds = alternate(
        {
            "ours": lambda: multirun("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
            "peer": multirun,
        },
        REPEATS,
    )
    record([row("two jobs side by side", seconds["ours"], seconds["peer"], "one after the other", "s")])


if __name__ == "__main__":
    main()
