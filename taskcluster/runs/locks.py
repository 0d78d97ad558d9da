"""One writer for each run folder.

.lock     locked by the process that writes; the system releases it when the process ends, however that is
.holder   names this process while it writes: {"host", "pid", "boot"}; touched every HEARTBEAT seconds

Some network file systems grant the lock to each machine separately. So the holder on another machine, which has another
boot id, counts as alive until its `.holder` has not been touched for SILENCE seconds.
"""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from taskcluster.validation import UserError

PATIENCE = 1.0  # seconds to wait for the lock, which readers hold for a moment
HEARTBEAT = 30.0
SILENCE = 600.0

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # the same for all containers of a machine


class Holder(NamedTuple):
    """A process on another machine. idle: seconds since it touched its file."""

    host: str
    pid: int
    idle: float


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. Raises UserError while another process does, OSError where nobody can."""
    lock = FileLock(folder / ".lock", timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder} is in use by another process; wait for its end, or end it") from None
    try:
        if other := _holder_elsewhere(folder):
            raise UserError(
                f"{folder} is in use by another process, number {other.pid} on {other.host}, which was active "
                f"{other.idle:.0f} s ago; wait for its end, or end it. If it is certainly dead, rerun the command in "
                f"{SILENCE - other.idle:.0f} s, or delete {folder / '.holder'}"
            )
        with _heartbeat(folder / ".holder"):
            yield
    finally:
        lock.release()


def held(folder: Path) -> bool:
    """Whether a process holds the lock of a folder. Needs no right to write, and writes nothing."""
    try:
        with (folder / ".lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # never locked, or a file system without locks
        pass
    return _holder_elsewhere(folder) is not None


@contextmanager
def _heartbeat(holder: Path) -> Iterator[None]:
    """Name this process in a file, and show that it is alive."""
    record = {"host": socket.gethostname(), "pid": os.getpid(), "boot": _boot()}
    holder.write_text(json.dumps(record), encoding="utf-8")
    released = threading.Event()

    def beat() -> None:
        while not released.wait(HEARTBEAT):
            with suppress(OSError):
                os.utime(holder)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        released.set()
        holder.unlink(missing_ok=True)


def _holder_elsewhere(folder: Path) -> Holder | None:
    """The living holder on another machine, if there is one."""
    holder = folder / ".holder"
    try:
        record = json.loads(holder.read_text(encoding="utf-8"))
        idle = max(time.time() - holder.stat().st_mtime, 0)
        if record["boot"] == _boot() or idle > SILENCE:
            return None
        return Holder(record["host"], record["pid"], idle)
    except (OSError, ValueError, KeyError, TypeError):  # none, or one that was cut
        return None


def _boot() -> str:
    """What identifies this machine since it booted."""
    return BOOT_ID.read_text(encoding="utf-8").strip() if BOOT_ID.exists() else socket.gethostname()
