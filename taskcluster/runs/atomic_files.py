"""Replace files and folders atomically: a reader sees either the old content or all of the new."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from taskcluster.validation import UserError

EXPORTED_CONFIG = "taskcluster.yaml"  # the configuration of a run, in a folder with its exported model

ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room and rerun the command, or choose a place on another disk"),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), "move it away, or choose another place"),
    **dict.fromkeys(
        (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
        "make it a folder that can be written to, or choose another place",
    ),
}


def replace_file(file: Path, content: bytes | memoryview, writer: str = "") -> None:
    """Replace a file and wait until it is on the disk. A failure or a crash leaves the old file.

    writer: distinguishes processes that may replace the file at the same time. Raises OSError.
    """
    partial = file.with_name(f".{file.name}{writer}.partial")
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
        os.fsync(folder)  # otherwise the new name might not survive a power loss
    finally:
        os.close(folder)


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """A context that yields a temporary folder for new files; at its end they are moved to `folder`, which keeps its
    other files. An exception leaves `folder` as it was, and so does a kill.

    Raises UserError where `folder` cannot be written to.
    """
    file_system = folder if folder.is_dir() else folder.parent  # the folder may be a mount
    try:
        file_system.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}-", dir=file_system) as temporary:
            yield Path(temporary)
            folder.mkdir(exist_ok=True)
            for file in sorted(Path(temporary).iterdir()):
                os.replace(file, folder / file.name)
    except Exception as error:
        in_rust = re.search(r"\(os error (\d+)\)", str(error))  # libraries in Rust raise exceptions of their own
        number = getattr(error, "errno", None) or (in_rust and int(in_rust[1]))
        if number not in ADVICE or isinstance(error, UserError):
            raise
        raise UserError(f"{folder}: {os.strerror(number)}; {ADVICE[number]}") from error


def refuse_taken(folder: Path) -> None:
    """Raise UserError for a folder that holds something, hidden files aside: a kill may have left some."""
    if folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir()):
        raise UserError(f"{folder} is not empty; give a folder that does not exist yet")
