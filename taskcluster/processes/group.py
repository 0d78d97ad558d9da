"""Several processes that train one run: how they are started, and how they divide what is measured.

The first process is the run: it holds the folder and writes. The others are started by it, or by a launcher on one or
several nodes, and end with it. All of them train; each has its share of every batch and of every measurement.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy

from taskcluster.processes.interrupts import Interrupted, Interrupts, prompt
from taskcluster.processes.leading import explain, gather, listening, open_meeting
from taskcluster.processes.meeting import Meeting, is_of_a_connection
from taskcluster.processes.places import ALONE, Place

T = TypeVar("T")
R = TypeVar("R")


class RunEnvironment(ClusterEnvironment):
    """What Lightning is told of the processes of a run, whoever has started them: it starts none."""

    creates_processes_externally = True
    main_address = ""  # it does not make the process group
    main_port = 0

    def __init__(self, place: Place = ALONE) -> None:
        super().__init__()
        self._place, self._world_size = place, place.world_size

    @staticmethod
    def detect() -> bool:
        return True

    def world_size(self) -> int:
        return self._world_size

    def set_world_size(self, size: int) -> None:
        if not self._place.launcher:
            self._world_size = size

    def global_rank(self) -> int:
        return self._place.rank

    def set_global_rank(self, rank: int) -> None:
        rank_zero_only.rank = self._place.rank  # type: ignore[attr-defined]

    def local_rank(self) -> int:
        return self._place.local_rank

    def node_rank(self) -> int:
        return 0


def count() -> int:
    """Processes that train this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share_out(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`work` of every item, in order, each done by one process of the run and then known to all of them.

    `work` only computes: a signal drops it. Raises Interrupted, in every process, for a signal to any of them.
    """
    if count() == 1:
        with prompt():
            return [work(item) for item in items]
    own: list[R] | int
    try:
        with prompt():
            own = [work(item) for item in items[dist.get_rank() :: count()]]
    except Interrupted as signal:
        own = signal.number
    shares: list[Any] = [None] * count()
    dist.all_gather_object(shares, own)
    for share in shares:
        if isinstance(share, int):
            raise Interrupted(share)
    return [shares[k % count()][k // count()] for k in range(len(items))]


@contextmanager
def together(meeting: Meeting | None, trainer: Trainer, task: dict[str, Any], interrupts: Interrupts) -> Iterator[None]:
    """A context in which all processes of a run train the `task`: those that come to the meeting of a launcher, or
    those that this process starts, with an equal share of its threads.

    Raises ChildProcessError for one that does not come, or is lost later.
    """
    if not isinstance(trainer.strategy, DDPStrategy):
        yield
        return
    started: list[subprocess.Popen[bytes]] = []
    check = "check that it was started and can reach this node"
    if meeting is None:
        meeting, check = (
            open_meeting(ALONE, Path(), trainer.world_size),
            "check that this machine is not short of memory",
        )
        threads = max(1, torch.get_num_threads() // trainer.world_size)
        torch.set_num_threads(threads)
        started += [_start(rank, meeting, threads) for rank in meeting.others]

    def pass_on(number: int) -> None:
        for process in started:
            process.send_signal(number)

    interrupts.passed_on = pass_on
    interrupts.before_the_end.append(lambda _: pass_on(SIGKILL))
    try:
        with listening(meeting, interrupts):
            gather(meeting, started, task, check)
            meeting.make_group(trainer.strategy.root_device)
            yield
    except RuntimeError as error:
        if is_of_a_connection(error):
            explain(meeting, started, error)
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()  # those that wait for us hear of it
        meeting.close(started)


def _start(rank: int, meeting: Meeting, threads: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "taskcluster.training.worker"]
    command += map(str, (rank, meeting.world_size, meeting.port, os.getpid()))
    places = os.pathsep.join(filter(None, sys.path))  # the configuration may name code of the user's
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": places}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)


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
