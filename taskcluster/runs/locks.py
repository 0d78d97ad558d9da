"""The right to write in a run folder: one lock, which everybody asks in the same way.

.lock     locked with flock(2) by the process that writes, where the file system has it
.holder   while somebody writes: {"host", "boot", "container", "pid", "born", "flock"}, created exclusively

flock ends with its process, however that dies, but some file systems lack it, and some network mounts grant it to each
machine separately. So the record decides as well. The process of a record can be looked up if the record was written in
this container and since this machine booted. Any other process counts as alive until nothing in the folder has changed
for SILENCE seconds: a thread of the holder touches the record every HEARTBEAT seconds, as measurements may last longer.
Ages are differences between times of the file system, so the clocks of machines need not agree. Another boot under the
same host name is no proof of death: containers and cloned machines share names.

A process that was suspended for longer than that, and whose place another has taken, finds out before it writes again.
"""

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from taskcluster.validation import UserError

PATIENCE = 1.0  # seconds that a lock is waited for: a reader holds it for a moment

HEARTBEAT = 30.0  # seconds between two touches of the record
SILENCE = 600.0  # seconds after which a process of another machine counts as dead

UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}  # flock(2) on such a mount

NAMES = (".lock", ".holder")

WRITTEN = (".holder", "metrics.jsonl", "training.jsonl", "status.json", "checkpoints")  # while a run is active

Record = dict[str, Any]


@contextmanager
def hold(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of a folder. Raises UserError where another process does, OSError where nobody can.

    Gives what raises OSError once another process has taken the lock, to be called before anything is written.
    """
    end = time.monotonic() + PATIENCE
    while (lock := _take(folder)) is None:
        if time.monotonic() > end:
            raise UserError(_refusal(folder))
        time.sleep(PATIENCE / 20)
    own, released = _own(), threading.Event()

    def is_ours() -> bool:
        found = _holder(folder)
        return found == {} or (found is not None and own.items() <= found.items())  # {}: cannot be read at the moment

    def check() -> None:
        if not is_ours():
            raise OSError(errno.EBUSY, "deleted, or another process has taken over this run", str(folder / ".holder"))

    def beat() -> None:
        while not released.wait(HEARTBEAT):
            with suppress(OSError):
                if is_ours():
                    os.utime(folder / ".holder")

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield check
    finally:
        released.set()
        if is_ours():
            (folder / ".holder").unlink(missing_ok=True)
        os.close(lock)


def held(folder: Path) -> bool:
    """Whether a process holds the lock of a folder. Needs no right to write, and writes nothing."""
    try:
        lock = os.open(folder / ".lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # never locked
        return False
    try:
        locked = _flock(lock, fcntl.LOCK_SH)
        return locked is False or _is_alive(folder, _holder(folder), bool(locked), time.time())
    finally:
        os.close(lock)


def _take(folder: Path) -> int | None:
    """The open lock file once the lock is ours, None while it is another's."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        lock = os.open(folder / ".lock", flags, 0o666)
    except PermissionError:
        if held(folder):  # by somebody else, who alone may write here
            return None
        raise
    try:
        locked = _flock(lock, fcntl.LOCK_EX)
        if locked is not False and _enter(folder, bool(locked)):
            return lock
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _flock(file: int, kind: int) -> bool | None:
    """Whether the file is locked now: False if another process has it, None where flock does not work."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return None
    return True


def _enter(folder: Path, locked: bool) -> bool:
    """Record this process as the holder; whether it is. A record whose process is gone makes room."""
    record, own = folder / ".holder", folder / f".holder-{os.getpid()}-{time.monotonic_ns()}"
    before = _holder(folder)
    if before is not None:
        if _is_alive(folder, before, locked, _clock(folder)):
            return False
        try:
            os.rename(record, own)  # of several that saw it, one gets it
        except FileNotFoundError:
            return False
        if _read(own) != before:  # another's, which came in between
            with suppress(FileExistsError):
                os.link(own, record)
            own.unlink()
            return False
        own.unlink()
    try:
        file = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    try:
        with os.fdopen(file, "w", encoding="utf-8") as content:
            json.dump(_own() | {"flock": locked}, content)
    except BaseException:
        record.unlink(missing_ok=True)
        raise
    return True


def _holder(folder: Path) -> Record | None:
    """The record of a folder, {} for one that cannot be read, None where there is none."""
    return _read(folder / ".holder")


def _read(record: Path) -> Record | None:
    try:
        file = os.open(record, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        return {}
    try:
        content = json.loads(os.read(file, 4096))
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        os.close(file)
    return content if isinstance(content, dict) and type(content.get("pid")) is int else {}


def _is_alive(folder: Path, holder: Record | None, locked: bool, now: float) -> bool:
    """Whether the process of a record still holds the lock. locked: whether the caller has flock(2) on the file; now:
    the time, in seconds, by the clock that times the folder's files."""
    if holder is None:
        return False
    here = _here()
    if here.items() <= holder.items():
        return _runs(holder["pid"], str(holder.get("born")))
    if locked and holder.get("flock") and here["boot"] and holder.get("boot") == here["boot"]:
        return False  # one kernel grants flock to one process, whatever their containers
    return now - _last_active(folder) < SILENCE


def _last_active(folder: Path) -> float:
    """When a process last wrote in a folder, 0 for never."""
    times = [0.0]
    for name in WRITTEN:
        with suppress(OSError):
            times.append(os.lstat(folder / name).st_mtime)
    return max(times)


def _clock(folder: Path) -> float:
    """The time by the clock of the file system, or by this machine's where it may not write."""
    with suppress(OSError):
        os.utime(folder / ".lock", follow_symlinks=False)
        return os.lstat(folder / ".lock").st_mtime
    return time.time()


def _here() -> dict[str, str]:
    """What two processes have in common that can look for each other: the host since it booted, and the container."""
    here = {"host": socket.gethostname(), "boot": "", "container": ""}
    with suppress(OSError):
        here["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        here["container"] = os.readlink("/proc/self/ns/pid")
    return here


def _own() -> Record:
    """What tells this process from any other."""
    born = ""
    with suppress(OSError):
        born = _born(os.getpid())
    return _here() | {"pid": os.getpid(), "born": born}


def _born(pid: int) -> str:
    """What tells a process from a later one of the same number: clock ticks since the machine booted; "" for a zombie.

    Raises OSError where the system does not say.
    """
    state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def _runs(pid: int, born: str) -> bool:
    try:
        return _born(pid) == born
    except OSError:
        return psutil.pid_exists(pid)


def _refusal(folder: Path) -> str:
    holder = _holder(folder)
    if not holder or _here().items() <= holder.items():
        return f"{folder} is in use by another process; wait for its end, or end it"
    idle = max(_clock(folder) - _last_active(folder), 0)
    return (
        f"{folder} is in use by another process, number {holder['pid']} on {holder.get('host')}, which was active "
        f"{idle:.0f} s ago; wait for its end, or end it. If it is certainly dead, rerun the command in "
        f"{max(SILENCE - idle, 0):.0f} s, or delete {folder / '.holder'}"
    )
