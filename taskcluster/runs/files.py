"""Files that are whole at any moment: whoever reads one finds what was there before, or all of what replaces it."""

import os
from pathlib import Path

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


def partial_name(name: str) -> str:
    """What a file is called until it is whole."""
    return f".{name}.partial"
