"""A small experiment for tests, and the command line run inside the test process."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
from hydra.core.global_hydra import GlobalHydra

from taskcluster import train
from taskcluster.cli import composed
from taskcluster.processes.group import RunEnvironment
from taskcluster.tasks.family import TaskFamily
from taskcluster.tasks.regex import random_family

# No test reaches W&B's own server, or anyone's account: here, and in every process that a test starts.
for name in [name for name in os.environ if name.startswith("WANDB_")]:
    del os.environ[name]
os.environ |= {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_CONFIG_DIR": os.devnull, "NETRC": os.devnull}

LONGEST = ("test_engines", "test_faults", "test_end_to_end", "test_wandb", "test_group", "test_terminal")

SMALL = (
    "task.n_tasks=6",
    "task.instructions_per_task=20",
    "task.instructions_spread=4",
    "task.n_inputs=4",
    "task.n_outputs=4",
    "task.n_mappings=2",
    "data.batch_size=16",
    "data.probe_size=60",
    "model.n_layer=2",
    "model.n_head=2",
    "model.n_embd=16",
    "trainer.max_steps=6",
    "trainer.log_every_n_steps=2",
    "callbacks.measurement.every_n_steps=4",
    "callbacks.measurement.n_early=1",
    "clusterer.n_init=2",
    "logger=none",
)


class Outcome(NamedTuple):
    exit_code: int
    out: str
    err: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=4, help="runs to kill at random moments, one to three times each")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that processes which share them end together."""
    rank = {name: k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def bare_trainer() -> pl.Trainer:
    """A Trainer that finds no cluster around it."""
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, plugins=[RunEnvironment()])


@pytest.fixture
def taskcluster_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """`taskcluster-train ARGUMENTS` in an empty folder, without the seconds that a new process needs for imports."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["taskcluster-train", *arguments])
        GlobalHydra.instance().clear()
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            train.main()
        return Outcome(ended.value.code or 0, *capfd.readouterr())

    return run


def family(**changes: Any) -> TaskFamily:
    """A task family from conf/task/regex.yaml with some values changed."""
    values = composed()["task"] | changes
    del values["_target_"]
    return random_family(**values)


@pytest.fixture(scope="session")
def default_family() -> TaskFamily:
    return family()
