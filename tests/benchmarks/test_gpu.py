"""benchmarks/gpu.py completes on a CPU, and reports a missing GPU where one was expected."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import taskcluster

ROOT = Path(taskcluster.__file__).parents[1]


def gpu(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_every_part_has_a_row_at_a_small_size() -> None:
    ended = gpu("--device", "cpu")
    assert ended.returncode == 0, ended.stderr[-2000:]
    for part in ("training, 16 wide", "training, 32 wide", "a measurement", "KMeans 3 x", "causal map", "verdict"):
        assert part in ended.stdout
