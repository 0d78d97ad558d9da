"""Nothing waits for the device but what has to, counted on a device that is made up."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL

import taskcluster

TESTS = Path(__file__).parents[1]


def counted(*overrides: str) -> dict[str, Any]:
    """What `tests/waiting.py` counts, in a process of its own, as torch then has another accelerator."""
    command = [sys.executable, str(TESTS / "waiting.py"), *SMALL, *overrides]
    environment = os.environ | {"PYTHONPATH": str(Path(taskcluster.__file__).parents[1])}
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    counts: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return counts


@pytest.fixture(scope="module", params=["sequence", pytest.param("y", marks=pytest.mark.slow)])
def waits(request: pytest.FixtureRequest) -> dict[str, Any]:
    return counted(f"data.loss_on={request.param}")


def test_an_update_waits_only_to_look_at_the_loss_every_tenth(waits: dict[str, Any]) -> None:
    assert [sum(step.values()) for step in waits["steps"]] == [1, *[0] * 9, 1, 0]
    assert ["isfinite(loss)" in place for place in waits["steps"][0]] == [True]


def test_a_measurement_waits_a_few_times_for_each_split(waits: dict[str, Any]) -> None:
    """22 on the day this was written: for each of two splits, loss and answers; for each of its three clusterings,
    labels, inertias, and whether centroids still move, once in four iterations."""
    in_measurement = waits["measurement"]
    assert sum(in_measurement.values()) <= 30, in_measurement
    assert sum(n for place, n in in_measurement.items() if "observation.py" in place) == 4


def test_clusters_computed_on_the_device_are_the_planted_ones(waits: dict[str, Any]) -> None:
    first, again = waits["planted"]
    assert first[0] == 1
    assert first == again
