"""Processes of a run divide work, and a run restores its process."""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import wandb
from conftest import SMALL, Train
from faults import server

from taskcluster.models.training_module import reseed
from taskcluster.operations.processes.group import share_out
from taskcluster.training import experiment, figures  # noqa: F401  # their imports set variables


def _in_one_of_three(rank: int, file: str) -> None:
    dist.init_process_group("gloo", f"file://{file}", rank=rank, world_size=3)
    done: list[int] = []

    def work(item: int) -> torch.Tensor:
        done.append(item)
        return torch.full((2,), item)

    results = share_out(work, [5, 6, 7, 8])
    assert [int(tensor[0]) for tensor in results] == [5, 6, 7, 8]
    assert done == [[5, 8], [6], [7]][rank]
    assert share_out(work, [1])[0].tolist() == [1, 1]
    dist.destroy_process_group()


def test_three_processes_divide_the_work_and_all_know_the_results(tmp_path: Path) -> None:
    server()
    file = str(tmp_path / "group")
    torch.multiprocessing.start_processes(_in_one_of_three, (file,), nprocs=3, start_method="forkserver")


def test_randomness_is_a_function_of_seed_step_and_rank() -> None:
    def draws(seed: int, step: int, rank: int = 0) -> tuple[float, float, float]:
        reseed(seed, step, rank)
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    assert draws(0, 1) == draws(0, 1)
    assert len({draws(0, 1), draws(0, 2), draws(1, 1), draws(0, 1, 1)}) == 4


def state_of_the_process() -> dict[str, Any]:
    return {
        "environment": dict(os.environ),
        "threads": torch.get_num_threads(),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "filling": torch.utils.deterministic.fill_uninitialized_memory,
        "process group": dist.is_initialized(),
        "W&B run": wandb.run,
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", [["logger=wandb"], ["trainer=ddp"], ["trainer.max_steps=-1"]], ids=" ".join)
def test_a_job_leaves_nothing_to_the_next_one_in_its_process(taskcluster_train: Train, kind: list[str]) -> None:
    taskcluster_train("--version")  # sets what is for the whole command
    before = state_of_the_process()
    taskcluster_train(*SMALL, *kind, "hydra.run.dir=run")
    assert state_of_the_process() == before
