"""Files and folders that are whole at any moment: a reader finds what was there before, or all of what replaces it."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskcluster.validation import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP)

EXPORTED_CONFIG = "taskcluster.yaml"  # the configuration of a run, in a folder with its exported model


def replace_file(file: Path, content: bytes | memoryview, writer: str = "") -> None:
    """Put a whole file in place and on the disk: however this ends, the old one or the new one is there.

    writer: tells several processes apart that may replace the file at the same time. Raises OSError.
    """
    partial = file.with_name(partial_name(file.name + writer))
    try:
        with partial.open("wb") as target:
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
        os.replace(partial, file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or the new name might not survive a loss of power
    finally:
        os.close(folder)


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """A context in which the files of a folder are written: to the folder that it gives, from which they move into
    place at the end. Ended by an exception it leaves nothing; ended by a kill, a hidden folder that the next call
    removes. A folder that exists keeps its other files.

    Raises UserError, which names the folder and says what to do, where it cannot be written to.
    """
    partial = folder
    try:
        exists = folder.is_dir()
        partial = folder / partial_name("files") if exists else folder.with_name(partial_name(folder.name))
        if not exists and os.path.lexists(folder):
            raise FileExistsError(errno.EEXIST, "it is not a folder", str(folder))
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            with _errors_of_the_system():
                yield partial
            _move(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        named = Path(str(error.filename or folder))
        inside = named.is_relative_to(partial) or named.is_relative_to(folder) or folder.is_relative_to(named)
        if error.errno is None or not inside:
            raise  # of another file
        raise UserError(_unwritable(folder, error)) from error


def refuse_taken(folder: Path) -> None:
    """Raise UserError for a folder that holds something, unless it comes from a `filling` that was killed."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / partial_name("files")).is_dir():
        raise UserError(f"{folder} holds something already; give a folder that does not exist yet")


def _move(partial: Path, folder: Path) -> None:
    if not folder.is_dir():
        os.rename(partial, folder)
        return
    for file in sorted(partial.iterdir()):
        os.replace(file, folder / file.name)


@contextmanager
def _errors_of_the_system() -> Iterator[None]:
    """Libraries in Rust raise errors of their own kinds for those of the system, whose number is in the message."""
    try:
        yield
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if not number or isinstance(error, UserError):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _unwritable(folder: Path, error: OSError) -> str:
    """What a user does about an error, in a sentence."""
    name = Path(error.filename2 or error.filename or folder).name
    reason = error.strerror
    if error.errno in FULL:
        return f"{folder}: {reason}; make room and rerun the command, or choose a place on another disk"
    if error.errno in IN_THE_WAY:
        there = folder / name if (folder / name).exists() else folder
        return f"{there}: {reason}; move it away, or choose another place"
    return f"{folder}: {reason}; make it a folder that can be written to, or choose another place"


def partial_name(name: str) -> str:
    """What a file is called until it is whole."""
    return f".{name}.partial"
