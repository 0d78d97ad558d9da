"""Process 0 of a run: it opens the meeting, waits for the others, and tells which of them is lost."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from torch._C._distributed_c10d import TCPStore

from taskcluster.processes.interrupts import Interrupted, Interrupts
from taskcluster.processes.meeting import (
    BEAT,
    COMING,
    LEAVING,
    SILENCE,
    Meeting,
    connect,
    wait_until,
)
from taskcluster.processes.places import Place
from taskcluster.runs.atomic_files import replace_file
from taskcluster.validation import UserError


def open_meeting(place: Place, folder: Path, world_size: int) -> Meeting:
    """Open the store where the others will look for it. Raises UserError where that port is taken."""
    if place.agent:
        return Meeting(connect(place.address, place.port), place, world_size)
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
                wait_until(lambda: not meeting.missing("gone"), 2 * LEAVING)
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

    if not wait_until(lambda: all_have("here"), COMING):
        missing = meeting.missing("here")
        named = ", ".join(map(str, missing))
        raise ChildProcessError(
            f"process {named} of {meeting.world_size} did not appear within {COMING} s; {what}"
            if len(missing) == 1
            else f"processes {named} of {meeting.world_size} did not appear within {COMING} s; {what}"
        )
    wait_until(lambda: all_have("ready"), float("inf"))
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
    wait_until(lambda: refuse_failed(meeting, started), 2)
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
                    said = f"{ours.name(rank)} has not responded for {SILENCE} s; check that its node is up"
                    interrupts.give_up(ChildProcessError(said))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
