"""A small experiment for tests, and the command line run inside the test process."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.plugins.environments import LightningEnvironment

from taskcluster import train
from taskcluster.operations.command_line.cli import COMMAND, composed
from taskcluster.runs.folder import RunFolder
from taskcluster.tasks.family import TaskFamily
from taskcluster.tasks.regex import random_family

# No test reaches W&B's own server, or anyone's account: here, and in every process that a test starts.
for name in [name for name in os.environ if name.startswith("WANDB_")]:
    del os.environ[name]
os.environ |= {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_CONFIG_DIR": os.devnull, "NETRC": os.devnull}

CHROMIUM = Path("/usr/bin/chromium")

LONGEST = (
    "test_end_to_end", "test_engines", "test_wandb", "test_faults", "test_docs", "test_group", "test_live_page",
    "test_resume", "test_cli", "test_places", "test_damage", "test_custom", "test_experiment",
    "test_analyze", "test_streams", "test_undefined", "test_extensions", "test_terminal",
)  # fmt: skip

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

    def output(self) -> str:
        """What a command printed that must succeed."""
        assert self.exit_code == 0, self.err
        return self.out

    def refusal(self) -> str:
        """The one line in which a user's mistake was refused."""
        assert self.exit_code == 2, self
        (line,) = self.err.splitlines()
        return line


Train = Callable[..., Outcome]  # `taskcluster_train`, or another command


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=2, help="runs to kill at random moments, one to three times each")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that processes which share them end together."""
    rank = {name: k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
    gc.freeze()  # what was imported


def bare_trainer() -> pl.Trainer:
    """A Trainer that finds no cluster around it."""
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, plugins=[LightningEnvironment()])


def command(*arguments: str) -> int:
    """The exit code of `taskcluster-train ARGUMENTS` here, without the seconds that a new process needs to import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["taskcluster-train", *arguments])
        patch.setenv(COMMAND, "")
        patch.setattr(HydraConfig.instance(), "cfg", None)  # as it was before, for what composes without a command
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit) as ended:
            train.main()
    return int(ended.value.code or 0)


@pytest.fixture
def taskcluster_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Train:
    """`taskcluster-train ARGUMENTS` in the test's folder, and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Outcome:
        capfd.readouterr()
        return Outcome(command(*arguments), *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The small experiment, trained once; `small_run` is for tests that change it."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:  # the command leaves streams of its own
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, getattr(sys, name))
        patch.chdir(folder)
        assert command(*SMALL, "hydra.run.dir=run") == 0
    return RunFolder(folder / "run")


@pytest.fixture
def small_run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """What `taskcluster_train(*SMALL, "hydra.run.dir=run")` leaves, in the test's folder."""
    return RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium."""
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this process have dots for figures."""
    from faults import UNDRAWN

    for name, instead in UNDRAWN.items():
        monkeypatch.setattr(f"taskcluster.training.figures.{name}", instead)


@lru_cache
def default() -> dict[str, Any]:
    """The configuration that comes with the package, composed once: not to be changed."""
    return composed()


def family(**changes: Any) -> TaskFamily:
    """A task family from conf/task/regex.yaml with some values changed."""
    values = default()["task"] | changes
    del values["_target_"]
    return random_family(**values)


@pytest.fixture(scope="session")
def default_family() -> TaskFamily:
    return family()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a file system ({mounted.stderr.strip()})")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)
