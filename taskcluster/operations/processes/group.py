"""Divide measurements among the processes of a run, and reset a process for the next run."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from taskcluster.operations.processes.interrupts import Interrupted, Interrupts
from taskcluster.work import each

T = TypeVar("T")
R = TypeVar("R")


def count() -> int:
    """Processes that train this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share_out(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return `work` of every item, in order; each item is computed by one process and sent to all.

    `work` only computes: a signal drops it. Raises Interrupted, in every process, for a signal to any of them.
    """
    n = count()
    share: list[R] | Interrupted
    try:
        with Interrupts.current.deferred(False):
            share = [work(item) for item in each(items[dist.get_rank() if n > 1 else 0 :: n], "part")]
    except Interrupted as signal:
        share = signal
    shares: list[Any] = [share] * n
    if n > 1:
        dist.all_gather_object(shares, share)
    for share in shares:
        if isinstance(share, Interrupted):
            raise share
    return [shares[k % n][k // n] for k in range(len(items))]


def lost_connection(error: BaseException) -> bool:
    """Whether torch reports that another process of the run has ended."""
    return isinstance(error, RuntimeError) and re.search("gloo|NCCL|TCPStore|onnection", str(error)) is not None


@contextmanager
def untouched() -> Iterator[None]:
    """A context that restores the process's environment, threads and determinism for its next job."""
    environment, threads = dict(os.environ), torch.get_num_threads()
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
