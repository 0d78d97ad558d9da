"""How the processes of a run find each other, and learn why one of them is missing.

Process 0 opens a store of keys and values, the others come to it, and everything about the run is told through it:

here/RANK    the name of the machine that a process runs on       task     what to train, or the exit code to end with
beat/RANK    a number that grows while it lives                   go       all are ready: now the process group is made
ready/RANK   it has built what it trains with                     gone/RANK   it needs the store no more
failed/RANK  why it ends
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed.distributed_c10d import _set_pg_timeout, default_pg_timeout

from taskcluster.processes.places import Place

COMING = 80  # seconds that a process has to come
BEAT = 2.0  # seconds between two signs of life
SILENCE = 60  # seconds without any, after which a process is lost
LEAVING = 5  # seconds that the others have to take note of the end
POLL = 0.1


class Meeting:
    """The store as one process sees it. Further threads need a `clone`."""

    def __init__(self, store: TCPStore, place: Place, world_size: int) -> None:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if place.agent else "0"
        self._raw, self._prefix = store, f"taskcluster/{attempt}"
        self.store = PrefixStore(self._prefix, store)
        self.place, self.rank, self.world_size = place, place.rank, world_size
        self.begun = False

    @property
    def others(self) -> range:
        return range(1, self.world_size)

    def clone(self) -> "Meeting":
        other = object.__new__(Meeting)
        other.__dict__ |= self.__dict__
        other._raw = self._raw.clone()  # type: ignore[attr-defined]
        other.store = PrefixStore(self._prefix, other._raw)
        return other

    @property
    def port(self) -> int:
        return int(self._raw.port)

    def tell(self, key: str, value: Any = "") -> None:
        self.store.set(key, json.dumps(value, default=str))

    def told(self, key: str) -> Any:
        """The value of a key, None for one that nobody has told yet."""
        return json.loads(self.store.get(key)) if self.store.check([key]) else None

    def missing(self, key: str) -> list[int]:
        return [rank for rank in self.others if not self.store.check([f"{key}/{rank}"])]

    def name(self, rank: int) -> str:
        host = self.told(f"here/{rank}")
        return f"process {rank} of {self.world_size}" + (f" (on {host})" if host else "")

    def close(self, started: Sequence["subprocess.Popen[bytes]"]) -> None:
        """Let the others take note of the end, and end those that do not."""

        def over(rank: int) -> bool:
            ended = rank <= len(started) and started[rank - 1].poll() is not None
            return ended or self.told(f"here/{rank}") is None or self.told(f"gone/{rank}") is not None

        with suppress(RuntimeError):
            wait_until(lambda: all(map(over, self.others)), LEAVING)
        for process in started:
            try:
                process.wait(LEAVING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def make_group(self, device: torch.device) -> None:
        """The process group, whose members have all come and are ready."""
        backend = "gloo" if device.type == "cpu" else dist.Backend.default_device_backend_map[device.type]
        dist.init_process_group(
            backend,
            store=PrefixStore("group", self.store),
            rank=self.rank,
            world_size=self.world_size,
            timeout=timedelta(seconds=COMING),
            device_id=None if device.type == "cpu" else device,
        )
        _set_pg_timeout(default_pg_timeout)  # for whom measuring takes long; whoever dies is missed by its beat


def wait_for(meeting: Meeting, key: str) -> Any:
    """What process 0 tells under a key. Raises RuntimeError where that ends first."""
    for _ in polls(float("inf")):
        if (value := meeting.told(key)) is not None:
            return value
    raise AssertionError


def is_of_a_connection(error: BaseException) -> bool:
    """Whether torch tells of another process that is gone."""
    said = str(error)
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in said for word in ("gloo", "NCCL", "TCPStore", "onnection"))
    )


def connect(address: str, port: int) -> TCPStore:
    """The store that another process has opened."""
    return TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=SILENCE))


def polls(seconds: float) -> Iterator[None]:
    """A look every POLL seconds, for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(POLL)


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    """Whether a condition came true in time."""
    return any(condition() for _ in polls(seconds))
