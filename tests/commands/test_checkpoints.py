"""Checkpoints of a model that others trained, measured as the steps of one run: here those of a run of ours, exported."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Outcome
from faults import timeless

from taskcluster import load_run
from taskcluster.measures.measure import Measurement
from taskcluster.runs.folder import RunFolder
from taskcluster.training.exporting import export

Train = Callable[..., Outcome]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

NAMES = {0: "step0", 2: "step9", 4: "checkpoint-10", 6: "step100"}  # of the steps of the run
STEPS = [0, 9, 10, 100]

TASK = [word for word in SMALL if not word.startswith(("model.", "trainer.max_steps"))]
THEIRS = (
    *TASK,
    "model=pretrained",
    "model.path=theirs",
    "data=sequences",
    "data.tokenizer=theirs",
    "data.template='{instruction}<sep><x:{x}><y:{y}>'",
    "trainer.max_steps=0",
    "hydra.run.dir=probed",
)


@pytest.fixture(scope="module")
def exported(trained: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints, of all the steps of a run."""
    folder = tmp_path_factory.mktemp("exported")
    for step, name in NAMES.items():
        export(trained.path, folder / name, step)
    return folder


@pytest.fixture
def theirs(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "theirs"))


def of_validation(run: RunFolder) -> list[dict[str, Any]]:
    """What the journal has of validation, step after step, without the steps."""
    return [{key: value for key, value in row.items() if "/val" in key or key.startswith("val/")} for row in run.rows()]


def test_the_run_over_exported_checkpoints_has_the_numbers_of_the_run_that_trained_them(
    taskcluster_train: Train, theirs: Path, trained: RunFolder, tmp_path: Path
) -> None:
    outcome = taskcluster_train(*THEIRS)
    assert outcome.exit_code == 0, outcome.err
    run = RunFolder(tmp_path / "probed")
    assert [row["step"] for row in run.rows()] == STEPS
    assert of_validation(run) == of_validation(trained)
    assert (run.state, run.status()["step"], run.saved(), run.as_built) == ("finished", 100, [], STEPS)
    assert "step    100  loss" in outcome.out
    assert "already finished" in taskcluster_train(*THEIRS).out
