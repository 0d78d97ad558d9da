"""How the processes of a run find each other, and learn why one of them is missing.

Process 0 opens a store of keys and values, the others come to it, and everything about the run is told through it:

here/RANK    the name of the machine that a process runs on       task     what to train, or the exit code to end with
beat/RANK    a number that grows while it lives                   go       all are ready: now the process group is made
ready/RANK   it has built what it trains with                     gone/RANK   it needs the store no more
failed/RANK  why it ends
"""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed.distributed_c10d import _set_pg_timeout, default_pg_timeout

from taskcluster.processes.interrupts import Interrupted, Interrupts
from taskcluster.processes.places import Place
from taskcluster.runs.files import replace_file
from taskcluster.validation import UserError

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
            _wait(lambda: all(map(over, self.others)), LEAVING)
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


# Process 0


def open_meeting(place: Place, folder: Path, world_size: int) -> Meeting:
    """Open the store where the others will look for it. Raises UserError where that port is taken."""
    if place.agent:
        return Meeting(_store(place.address, place.port), place, world_size)
    try:
        store = TCPStore("127.0.0.1", place.port, is_master=True, wait_for_workers=False)
    except RuntimeError as error:  # torch's own kinds derive from it
        if "EADDRINUSE" not in str(error):
            raise
        raise UserError(f"MASTER_PORT={place.port} is in use on this machine; choose another") from None
    if place.meeting:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / place.meeting, json.dumps([place.address, store.port]).encode())
    return Meeting(store, place, world_size)


@contextmanager
def opened(place: Place, folder: Path) -> Iterator[Meeting]:
    """The meeting of processes that a launcher has started: whatever happens to the first, the others hear of it."""
    meeting, code = open_meeting(place, folder, place.world_size), 0
    try:
        yield meeting
    except BaseException as error:
        code = getattr(error, "exit_code", 1)
        raise
    finally:
        if not meeting.begun:
            with suppress(RuntimeError):
                meeting.tell("task", {"exit_code": code})
                _wait(lambda: not meeting.missing("gone"), 2 * LEAVING)
        if place.meeting:
            (folder / place.meeting).unlink(missing_ok=True)


def gather(meeting: Meeting, started: Sequence["subprocess.Popen[bytes]"], task: dict[str, Any], what: str) -> None:
    """Tell everyone the task, and wait until all are ready. Raises ChildProcessError for one that is not to be had.

    started: those that this process has started, from rank 1 on. what: to check where the others do not come.
    """
    meeting.begun = True
    meeting.tell("task", task)

    def all_have(key: str) -> bool:
        refuse_failed(meeting, started)
        return not meeting.missing(key)

    if not _wait(lambda: all_have("here"), COMING):
        missing = meeting.missing("here")
        named = ", ".join(map(str, missing))
        raise ChildProcessError(
            f"process {named} of {meeting.world_size} has not come within {COMING} s; {what}"
            if len(missing) == 1
            else f"processes {named} of {meeting.world_size} have not come within {COMING} s; {what}"
        )
    _wait(lambda: all_have("ready"), float("inf"))
    meeting.tell("go")


def refuse_failed(meeting: Meeting, started: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Raise for the first process that has failed by itself, if one has."""
    for rank in meeting.others:
        failed = meeting.told(f"failed/{rank}")
        if failed and failed["signal"]:
            raise Interrupted(failed["signal"])
        if failed and failed["exit_code"] == 2:
            raise UserError(f"{meeting.name(rank)}: {failed['why']}")
        if failed:
            raise ChildProcessError(f"{meeting.name(rank)} failed: {failed['why']}")
    for rank, process in enumerate(started, 1):
        if (code := process.poll()) is not None and meeting.told(f"gone/{rank}") is None:
            how = f"ended with exit code {code}" if code > 0 else "was killed"
            raise ChildProcessError(f"process {rank} of the run {how}")


def explain(meeting: Meeting, started: Sequence["subprocess.Popen[bytes]"], error: RuntimeError) -> NoReturn:
    """Raise for the process that a broken connection was to, by name."""
    _wait(lambda: refuse_failed(meeting, started), 2)
    before = {rank: meeting.told(f"beat/{rank}") for rank in meeting.others}
    time.sleep(2 * BEAT)
    refuse_failed(meeting, started)
    for rank, beat in before.items():
        if meeting.told(f"beat/{rank}") == beat and meeting.told(f"gone/{rank}") is None:
            raise ChildProcessError(f"{meeting.name(rank)} has ended or cannot be reached") from error
    said = " ".join(str(error).split("\n")[0].split())
    raise ChildProcessError(f"the connection between the processes of the run broke ({said})") from error


@contextmanager
def listening(meeting: Meeting, interrupts: Interrupts) -> Iterator[None]:
    """Process 0, in the background: give the run up when one of the others shows no sign of life."""
    over = threading.Event()
    ours = meeting.clone()

    def listen() -> None:
        beats: dict[int, Any] = {}
        silent = dict.fromkeys(ours.others, 0)
        while not over.wait(BEAT):  # which counts its own turns, so that a machine may be suspended
            for rank in ours.others:
                beat = ours.told(f"beat/{rank}")
                moves = beat is None or beat != beats.get(rank) or ours.told(f"gone/{rank}") is not None
                silent[rank] = 0 if moves else silent[rank] + 1
                beats[rank] = beat
                if silent[rank] * BEAT > SILENCE:
                    said = f"{ours.name(rank)} has shown no sign of life for {SILENCE} s; see whether its node is up"
                    interrupts.give_up(ChildProcessError(said))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# The others


def come(place: Place, folder: Path, abandoned: Callable[[], bool]) -> Meeting:
    """Find process 0. Raises ConnectionError where it is not there within COMING seconds or all is `abandoned`."""
    address, port = place.address, place.port
    for _ in _polls(COMING):
        if abandoned():
            raise ConnectionError("process 0 of the run has ended")
        if place.meeting:
            found = [file for file in folder.glob(".meeting-*") if file.name == place.meeting]
            if not found:
                continue
            address, port = json.loads(found[0].read_text())
        with suppress(OSError, RuntimeError):
            socket.create_connection((address, port), timeout=5).close()
            meeting = Meeting(_store(address, port), place, place.world_size)
            meeting.tell(f"here/{place.rank}", socket.gethostname())
            return meeting
    where = f"at {address}:{port}" if port else f"in {folder}, which has to be the same on every node"
    raise ConnectionError(
        f"process 0 of {place.world_size} was not to be found {where} within {COMING} s; see whether it was started "
        f"and can be reached from {socket.gethostname()}"
    )


@contextmanager
def taking_part(meeting: Meeting, interrupts: Interrupts) -> Iterator[None]:
    """Show signs of life, and end with process 0; tell it of a failure."""
    over = threading.Event()
    ours, last = meeting.clone(), meeting.clone()

    def beat() -> None:
        nonlocal ours
        for turn in count():
            if over.wait(BEAT):
                return
            try:
                ours.tell(f"beat/{meeting.rank}", turn)
                ours.store.wait([f"beat/{meeting.rank}"], timedelta(seconds=SILENCE))
            except RuntimeError:
                with suppress(RuntimeError):  # this machine may have been suspended
                    ours = meeting.clone()
                    ours.tell(f"beat/{meeting.rank}", turn)
                    continue
                if not over.is_set():
                    interrupts.give_up(ConnectionError("process 0 of the run has ended or cannot be reached"))

    def fail(reason: BaseException) -> None:
        why = {
            "why": f"{type(reason).__name__}: {reason}" if not isinstance(reason, UserError) else str(reason),
            "signal": reason.number if isinstance(reason, Interrupted) else 0,
            "exit_code": 2 if isinstance(reason, UserError) else 1,
        }

        def tell() -> None:
            with suppress(RuntimeError):
                last.tell(f"failed/{meeting.rank}", why)

        telling = threading.Thread(target=tell, daemon=True)  # who may be waited for in vain
        telling.start()
        telling.join(1)

    interrupts.before_the_end.append(fail)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    except BaseException as error:
        if not is_of_a_connection(error):
            fail(error)
        raise
    finally:
        interrupts.before_the_end.remove(fail)
        over.set()
        with suppress(RuntimeError):
            last.tell(f"gone/{meeting.rank}")


def wait_for(meeting: Meeting, key: str) -> Any:
    """What process 0 tells under a key. Raises RuntimeError where that ends first."""
    for _ in _polls(float("inf")):
        if (value := meeting.told(key)) is not None:
            return value
    raise AssertionError


def is_of_a_connection(error: BaseException) -> bool:
    """Whether torch tells of another process that is gone."""
    said = str(error)
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in said for word in ("gloo", "NCCL", "TCPStore", "onnection"))
    )


def _store(address: str, port: int) -> TCPStore:
    return TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=SILENCE))


def _polls(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(POLL)


def _wait(condition: Callable[[], object], seconds: float) -> bool:
    """Whether a condition came true in time."""
    return any(condition() for _ in _polls(seconds))
