"""The benchmarks of a GPU complete on a CPU, at a small size."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import taskcluster

ROOT = Path(taskcluster.__file__).parents[1]


def benchmark(*command: str) -> str:
    """What it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    ended = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


@pytest.mark.slow
def test_every_part_has_a_row_at_a_small_size() -> None:
    printed = benchmark("benchmarks/gpu.py", "--device", "cpu")
    for part in ("training, 16 wide", "a measurement", "KMeans 3 x", "causal map", "verdict", "3 seeds"):
        assert part in printed
    assert "training, 32 wide, aot_eager" in printed


@pytest.mark.slow
def test_stacked_seeds_equal_their_own_runs() -> None:
    (rounding,) = re.findall(r"rounding (\S+)", benchmark("benchmarks/batched.py", "2", "--small"))
    assert 0 < float(rounding) < 1e-9
