"""What W&B costs a small run, compared with logger=none, alternately: seconds added to the start and to the whole.

The server is that of the tests, on this machine. out: printed medians of three rounds

    PYTHONPATH=tests python benchmarks/tracking.py
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from conftest import SMALL
from wandb_server import Mode, WandbServer

ROUNDS = 3
RUN = (*SMALL, "trainer.max_steps=60")
# How the server is when a run begins, and from its first measurement on.
SERVERS: dict[str, tuple[Mode, Mode]] = {
    "up": ("up", "up"),
    "down": ("down", "down"),
    "hanging": ("hanging", "hanging"),
    "refusing keys": ("refusing keys", "refusing keys"),
    "up, then down": ("up", "down"),
    "up, then hanging": ("up", "hanging"),
}


def timed(logger: str, server: WandbServer | None = None, later: Mode = "up") -> list[float]:
    """Seconds from the command to the first measurement, and to the end. Without a server W&B has no key, as in
    the tests.
    """
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        command = [sys.executable, "-m", "taskcluster.train", *RUN, f"logger={logger}", "hydra.run.dir=run"]
        reachable = os.environ | (server.environment() if server else {})
        process = subprocess.Popen(
            command, cwd=folder, env=reachable, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout
        started = 0.0
        for line in process.stdout:
            if not started and line.startswith("step "):
                started = time.monotonic() - began
                if server:
                    server.mode = later
        assert process.wait() == 0
        return [started, time.monotonic() - began]


def main() -> None:
    times: dict[str, list[list[float]]] = {}
    for _ in range(ROUNDS):
        times.setdefault("logger=none", []).append(timed("none"))
        times.setdefault("no key", []).append(timed("wandb"))
        for name, (first, later) in SERVERS.items():
            with WandbServer() as server:
                server.mode = first
                times.setdefault(name, []).append(timed("wandb", server, later))
    medians = {name: [statistics.median(one) for one in zip(*found, strict=True)] for name, found in times.items()}
    start, whole = medians.pop("logger=none")
    print(f"logger=none: {start:.1f} s to the first measurement, {whole:.1f} s to the end. Added by W&B:")
    for name, (to_start, to_end) in medians.items():
        print(f"  {name:17} start {to_start - start:+5.1f} s   whole {to_end - whole:+5.1f} s")


if __name__ == "__main__":
    main()
