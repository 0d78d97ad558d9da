"""The other processes of a run: they come to the meeting, show signs of life, and end with process 0."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from pathlib import Path

from taskcluster.processes.interrupts import Interrupted, Interrupts
from taskcluster.processes.meeting import (
    BEAT,
    COMING,
    SILENCE,
    Meeting,
    connect,
    is_of_a_connection,
    polls,
)
from taskcluster.processes.places import Place
from taskcluster.validation import UserError


def come(place: Place, folder: Path, abandoned: Callable[[], bool]) -> Meeting:
    """Find process 0. Raises ConnectionError where it is not there within COMING seconds or all is `abandoned`."""
    address, port = place.address, place.port
    for _ in polls(COMING):
        if abandoned():
            raise ConnectionError("process 0 of the run has ended")
        if place.meeting:
            found = [file for file in folder.glob(".meeting-*") if file.name == place.meeting]
            if not found:
                continue
            address, port = json.loads(found[0].read_text(encoding="utf-8"))
        with suppress(OSError, RuntimeError):
            socket.create_connection((address, port), timeout=5).close()
            meeting = Meeting(connect(address, port), place, place.world_size)
            meeting.tell(f"here/{place.rank}", socket.gethostname())
            return meeting
    where = f"at {address}:{port}" if port else f"in {folder}, which has to be the same on every node"
    raise ConnectionError(
        f"process 0 of {place.world_size} was not found {where} within {COMING} s; check that it was started "
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
