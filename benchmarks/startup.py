"""Start: from the command to its answer, beside importing torch, Lightning and transformers' GPT-2 and nothing else.

out: rows of results.json, medians over processes that take turns

    python benchmarks/startup.py
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from side_by_side import alternate, record, row, seconds_of

REPEATS = 3
BARE = "import torch, pytorch_lightning; from transformers import GPT2LMHeadModel"
TRAIN = [sys.executable, "-m", "taskcluster.train"]


def command(*arguments: str) -> Callable[[], float]:
    return lambda: seconds_of(lambda: subprocess.run(arguments, check=True, capture_output=True))


def until(file: str) -> Callable[[], float]:
    """Seconds from `taskcluster-train` until a file of its run holds something; then the run is stopped."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as scratch:
            started = time.perf_counter()
            process = subprocess.Popen(
                [*TRAIN, f"hydra.run.dir={scratch}/run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            path = Path(scratch) / "run" / file
            while not (path.exists() and path.stat().st_size):
                assert process.poll() is None, "the run ended early"
                time.sleep(0.01)
            seconds = time.perf_counter() - started
            process.kill()
            process.wait()
            return seconds

    return measure


def main() -> None:
    runs = {
        "--help": command(*TRAIN, "--help"),
        "--cfg job": command(*TRAIN, "--cfg", "job"),
        "to step 0, about to be measured": until("status.json"),
        "to step 0, measured": until("metrics.jsonl"),
        "bare": command(sys.executable, "-c", BARE),
    }
    seconds = alternate(runs, REPEATS)
    bare = seconds.pop("bare")
    record([row(f"command {name}", value, bare, "bare imports", "s") for name, value in seconds.items()])


if __name__ == "__main__":
    main()
