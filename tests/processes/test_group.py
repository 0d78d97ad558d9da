"""Several processes for one run, and what a run leaves in the process it ran in."""

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
import wandb
from conftest import SMALL, Outcome
from faults import Command, assert_identical, server

from taskcluster.processes.group import reseed, share_out
from taskcluster.runs.folder import RunFolder
from taskcluster.training import conclude, experiment  # noqa: F401  # what they import sets variables of its own

Train = Callable[..., Outcome]


def test_one_process_does_all_the_work() -> None:
    assert share_out(lambda item: 2 * item, [3, 1, 2]) == [6, 2, 4]


def _in_one_of_three(rank: int, file: str) -> None:
    dist.init_process_group("gloo", f"file://{file}", rank=rank, world_size=3)
    done: list[int] = []

    def work(item: int) -> torch.Tensor:
        done.append(item)
        return torch.full((2,), item)

    found = share_out(work, [5, 6, 7, 8])
    assert [int(tensor[0]) for tensor in found] == [5, 6, 7, 8]
    assert done == [[5, 8], [6], [7]][rank]
    assert share_out(work, [1])[0].tolist() == [1, 1]
    reseed(seed=0, step=4)
    draws = share_out(lambda _: float(torch.rand(())), [0, 1, 2])
    assert len(set(draws)) == 3
    dist.destroy_process_group()


def test_three_processes_divide_it_and_all_know_everything(tmp_path: Path) -> None:
    server()
    meeting = str(tmp_path / "meeting")
    torch.multiprocessing.start_processes(_in_one_of_three, (meeting,), nprocs=3, start_method="forkserver")


def test_randomness_is_a_function_of_seed_and_step() -> None:
    def draws(seed: int, step: int) -> tuple[float, float, float]:
        reseed(seed, step)
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    assert draws(0, 1) == draws(0, 1)
    assert len({draws(0, 1), draws(0, 2), draws(1, 1)}) == 3


def state_of_the_process() -> dict[str, Any]:
    return {
        "environment": dict(os.environ),
        "threads": torch.get_num_threads(),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "filling": torch.utils.deterministic.fill_uninitialized_memory,
        "process group": dist.is_initialized(),
        "W&B run": wandb.run,
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
    }


@pytest.mark.lasting
@pytest.mark.slow
@pytest.mark.parametrize("kind", [["logger=wandb"], ["trainer=ddp"], ["trainer.max_steps=-1"]], ids=" ".join)
def test_a_job_leaves_nothing_to_the_next_one_in_its_process(taskcluster_train: Train, kind: list[str]) -> None:
    taskcluster_train("--version")  # sets what is for the whole command
    before = state_of_the_process()
    taskcluster_train(*SMALL, *kind, "hydra.run.dir=run")
    assert state_of_the_process() == before


@pytest.mark.lasting
@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_processes_that_share_a_run_measure_what_one_does_inside_a_multirun_too(
    taskcluster_train: Train, tmp_path: Path
) -> None:
    sweep = ["-m", *SMALL, "hydra.sweep.subdir=${trainer.devices}_${seed}", "name=sweep"]
    assert taskcluster_train(*sweep, "seed=0,1").exit_code == 0
    assert taskcluster_train(*sweep, "seed=0,1", "trainer=ddp").exit_code == 0
    for seed in (0, 1):
        one, two = (RunFolder(tmp_path / f"multirun/sweep/{devices}_{seed}") for devices in (1, 2))
        assert [row["step"] for row in one.rows()] == [row["step"] for row in two.rows()] == [0, 2, 4, 6]
        for row, other in zip(one.rows(), two.rows(), strict=True):
            for key in ("train/loss", "val/loss"):
                assert row[key] == pytest.approx(other[key], abs=1e-5)
        assert one.rows()[0]["ari/val/layer_2"] == pytest.approx(two.rows()[0]["ari/val/layer_2"], abs=0.05)
        assert two.status()["starts"][0]["device"] == "cpu"


@pytest.mark.lasting
@pytest.mark.slow
def test_processes_that_share_a_run_stop_together_and_go_on_together(tmp_path: Path) -> None:
    command = [*SMALL, "trainer=ddp", "trainer.max_steps=40", "hydra.run.dir=run", "model.dropout=0.1"]
    run = RunFolder(tmp_path / "run")
    process = Command(tmp_path, *command).until(lambda: len(run.rows()) > 2)
    process.send(signal.SIGTERM)
    code, _ = process.end()
    assert (code, run.state) == (143, "interrupted")
    assert Command(tmp_path, *command).end()[0] == 0
    straight = [key if "run.dir" not in key else "hydra.run.dir=straight" for key in command]
    assert Command(tmp_path, *straight).end()[0] == 0
    assert_identical(run, RunFolder(tmp_path / "straight"))


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_in_one_sentence(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    command = [*SMALL, "trainer=ddp", "trainer.max_steps=100000", "hydra.run.dir=run"]
    process = Command(tmp_path, *command).until(lambda: len(run.rows()) > 2)
    (companion,) = psutil.Process(process.pid).children()
    companion.kill()
    code, output = process.end()
    assert (code, run.state) == (1, "failed")
    assert "process 1 of the run was killed; rerun the same command to resume from" in output
    assert "Traceback" not in output
