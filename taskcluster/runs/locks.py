"""One writer for each run folder.

.lock locked by the process that writes; the system releases it when the process ends or is killed
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
from typing import Any

from filelock import FileLock, Timeout

from taskcluster.validation import UserError

PATIENCE = 1.0  # seconds to wait for the lock, which readers hold for a moment
HEARTBEAT = 30.0
SILENCE = 600.0

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # the same for all containers of a machine


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the right to write to a folder, which ends with the process at the latest. Raises UserError while another
    process holds it, and for a folder that cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock").acquire(timeout=PATIENCE)
    except Timeout:
        raise in_use(folder) from None
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; choose a folder that can be written to") from None
    with lock:
        if _holder_elsewhere(folder):
            raise in_use(folder)
        try:
            with _heartbeat(folder / ".holder"):
                yield
        finally:
            if not (folder / "status.json").exists():  # the lock was not granted
                (folder / ".lock").unlink(missing_ok=True)


def in_use(folder: Path) -> UserError:
    """The error for a folder that another process holds."""
    if other := _holder_elsewhere(folder):
        return UserError(
            f"{folder} is in use by another process, number {other['pid']} on {other['host']}, which was active "
            f"{other['idle']:.0f} s ago; wait for its end, or end it. If that process is certainly dead, rerun the "
            "command "
            f"in {SILENCE - other['idle']:.0f} s, or delete {folder / '.holder'}"
        )
    return UserError(f"{folder} is in use by another process; wait for its end, or end it")


def held(folder: Path) -> bool:
    """Whether a process holds the lock of a folder. Needs no right to write, and writes nothing."""
    try:
        with (folder / ".lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # never locked, or a file system without locks
        pass
    return bool(_holder_elsewhere(folder))


@contextmanager
def _heartbeat(holder: Path) -> Iterator[None]:
    """Name this process in a file, and show that it is alive."""
    holder.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "boot": _boot()}), encoding="utf-8")
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


def _holder_elsewhere(folder: Path) -> dict[str, Any]:
    """The living holder on another machine, with the seconds since it touched its file as `idle`; {} for none."""
    holder = folder / ".holder"
    try:
        record = json.loads(holder.read_text(encoding="utf-8"))
        idle = max(time.time() - holder.stat().st_mtime, 0)
        return {} if record["boot"] == _boot() or idle > SILENCE else record | {"idle": idle}
    except (OSError, ValueError, KeyError, TypeError):  # none, or one that was cut
        return {}


def _boot() -> str:
    """Return the id of this machine's current boot."""
    return BOOT_ID.read_text(encoding="utf-8").strip() if BOOT_ID.exists() else socket.gethostname()
