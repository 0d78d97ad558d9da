"""Several processes that train one run: how they are started, and how they divide what is measured.

The first process is the run: it holds the folder, writes, and is the one that launchers know. Companions are started by
it and end with it. All of them train; each has its share of every batch and of every measurement.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 30  # seconds until a companion that does not end is killed


class RunEnvironment(LightningEnvironment):
    """One machine, whose processes we start ourselves: what Lightning starts would be the whole command again."""

    @property
    def creates_processes_externally(self) -> bool:
        return True


def count() -> int:
    """Processes that train this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share_out(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`work` of every item, in order, each done by one process of the run and then known to all of them."""
    if count() == 1:
        return [work(item) for item in items]
    shares: list[Any] = [None] * count()
    dist.all_gather_object(shares, [work(item) for item in items[dist.get_rank() :: count()]])
    return [shares[k % count()][k // count()] for k in range(len(items))]


@contextmanager
def companions(world_size: int, environment: RunEnvironment, task: dict[str, Any]) -> Iterator[None]:
    """Processes 1 to world_size - 1 of a run, which are given `task`, with an equal share of the threads.

    Raises ChildProcessError for one that is killed.
    """
    if world_size == 1:
        yield
        return
    threads = max(1, torch.get_num_threads() // world_size)
    torch.set_num_threads(threads)
    shared = {**os.environ, "MASTER_PORT": str(environment.main_port), "OMP_NUM_THREADS": str(threads)}
    started = []
    for rank in range(1, world_size):
        command, own = [sys.executable, "-m", "taskcluster.companion"], {**shared, "LOCAL_RANK": str(rank)}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=own)
        assert process.stdin
        with process.stdin as told:
            json.dump(task, told, default=str)
        started.append(process)
    try:
        yield
    except RuntimeError as error:  # torch's, about a connection that broke
        for rank, process in enumerate(started, 1):
            if (process.poll() or 0) < 0:
                raise ChildProcessError(f"process {rank} of the run was killed") from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()  # those that wait for us hear of it
        for process in started:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def untouched() -> Iterator[None]:
    """Give the process back as it was: environment, random states, threads and determinism, for the next job in it."""
    environment, threads = dict(os.environ), torch.get_num_threads()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  # what libraries draw from
    deterministic, settings = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic
    filling = settings.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        settings.fill_uninitialized_memory = filling  # type: ignore[attr-defined]
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def reseed(seed: int, step: int) -> None:
    """Set every generator to a function of (seed, step) and of which process this is."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    derived = random.Random(f"{seed}/{step}/{rank}").getrandbits(32)
    random.seed(derived)
    np.random.seed(derived)  # noqa: NPY002
    torch.manual_seed(derived)
