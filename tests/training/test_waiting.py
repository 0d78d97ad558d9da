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
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


@pytest.fixture(scope="module", params=["sequence", "y"])
def waits(request: pytest.FixtureRequest) -> dict[str, Any]:
    return counted(f"data.loss_on={request.param}")


def test_an_update_waits_only_to_look_at_the_loss_every_tenth(waits: dict[str, Any]) -> None:
    assert [sum(of_step.values()) for of_step in waits["steps"]] == [1, *[0] * 9, 1, 0]
    assert ["isfinite(loss)" in place for place in waits["steps"][0]] == [True]


def test_a_measurement_waits_a_few_times_for_each_split(waits: dict[str, Any]) -> None:
    """22 on the day this was written: for each of two splits, loss and answers; for each of its three clusterings,
    labels, inertias, and whether centroids still move, once in four iterations."""
    of_measurement = waits["measurement"]
    assert sum(of_measurement.values()) <= 30, of_measurement
    assert sum(n for place, n in of_measurement.items() if "observation.py" in place) == 4


def test_clusters_found_on_the_device_are_those_that_are_there(waits: dict[str, Any]) -> None:
    first, again = waits["planted"]
    assert first[0] == 1
    assert first == again
