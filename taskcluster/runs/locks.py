"""The right to write in a run folder: one lock, which everybody asks in the same way.

.lock     locked with flock(2) by the process that writes, where the file system has it
.holder   while somebody writes: {"host", "boot", "container", "pid", "born", "flock"}, created exclusively

flock alone ends with its process, however that dies and wherever it ran, but some file systems and network mounts lack
it, or refuse it at times. There the record decides: a process of this machine can be looked for; one of another machine
is taken to be alive until its record is deleted.
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from taskcluster.validation import UserError

PATIENCE = 1.0  # seconds that a lock is waited for: a reader holds it for a moment

UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}  # flock(2) on such a mount

NAMES = (".lock", ".holder")


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. Raises UserError where another process does, OSError where nobody can."""
    end = time.monotonic() + PATIENCE
    while (lock := _take(folder)) is None:
        if time.monotonic() > end:
            raise UserError(_refusal(folder))
        time.sleep(PATIENCE / 20)
    try:
        yield
    finally:
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
        return locked is False or _is_alive(_holder(folder), bool(locked))
    finally:
        os.close(lock)


def _take(folder: Path) -> int | None:
    """The open lock file once the lock is ours, None while it is another's."""
    if held(folder):  # also of a folder that only its owner may write to
        return None
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    lock = os.open(folder / ".lock", flags, 0o666)
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
        if _is_alive(before, locked):
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
    born = ""
    with suppress(OSError):
        born = _born(os.getpid())
    try:
        file = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    try:
        with os.fdopen(file, "w") as content:
            json.dump(_here() | {"pid": os.getpid(), "born": born, "flock": locked}, content)
    except BaseException:
        record.unlink(missing_ok=True)
        raise
    return True


def _holder(folder: Path) -> dict[str, Any] | None:
    """The record of a folder, {} for one that cannot be read, None where there is none."""
    return _read(folder / ".holder")


def _read(record: Path) -> dict[str, Any] | None:
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


def _is_alive(holder: dict[str, Any] | None, locked: bool) -> bool:
    """Whether the process of a record still holds the lock. locked: whether the caller has flock(2) on the file."""
    if holder is None:
        return False
    if holder and all(holder.get(key) == value for key, value in _here().items()):
        return _runs(holder["pid"], str(holder.get("born")))
    return not (locked and holder.get("flock", True))


def _here() -> dict[str, str]:
    """What two processes have in common that can look for each other: the host since it booted, and the container."""
    here = {"host": socket.gethostname(), "boot": "", "container": ""}
    with suppress(OSError):
        here["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        here["container"] = os.readlink("/proc/self/ns/pid")
    return here


def _born(pid: int) -> str:
    """What tells a process from a later one of the same number: clock ticks since the machine booted; "" for a zombie.

    Raises OSError where the system does not say.
    """
    state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def _runs(pid: int, born: str) -> bool:
    try:
        return _born(pid) == born
    except OSError:
        return psutil.pid_exists(pid)


def _refusal(folder: Path) -> str:
    holder = _holder(folder)
    if not holder or holder.get("flock", True) or holder.get("host") == socket.gethostname():
        return f"{folder} is in use by another process; wait for its end, or end it"
    return (
        f"{folder} is in use by another process, number {holder['pid']} on {holder.get('host')}; wait for its end, or "
        f"end it. If it was killed, delete {folder / '.holder'}: this file system cannot tell"
    )
