"""Files that other processes write: read only where they changed, and never through a link.

in:  a path
out: the content, where it was replaced (`File`); the lines that came, where it grows (`Lines`)
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from taskcluster.runs.journal import Row, WrittenTwice, complete

Line = TypeVar("Line")


class File:
    """A file that is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: Any = ()
        self._looked: Any = ()

    def content(self) -> bytes | None:
        """None if it is as it was when last taken, b"" where there is none."""
        self._looked = _stamp(self.path)
        if self._looked == self._seen:
            return None
        return read_plain(self.path) if self._looked else b""

    def there(self) -> bool:
        """Whether there was a file when its content was last asked for."""
        return bool(self._looked)

    def taken(self) -> None:
        """Its content was good."""
        self._seen = self._looked


class Lines(Generic[Line]):
    """A journal that is appended to, or replaced; parse: what is wanted of a line."""

    def __init__(self, path: Path, parse: Callable[[Row], Line]) -> None:
        self._path, self._parse = path, parse
        self._seen: Any = None
        self._length = 0
        self._last = -1  # step

    def read(self, restarted: bool) -> tuple[list[Line], bool]:
        """The lines that came, and whether they replace all that were read before; restarted: whether they must."""
        stamp = _stamp(self._path)
        if stamp == self._seen and not restarted:
            return [], False
        replaced = restarted or not (stamp and self._seen) or stamp[0] != self._seen[0] or stamp[1] < self._length
        begin, last = (0, -1) if replaced else (self._length, self._last)
        try:
            rows, length, problem = complete(read_plain(self._path, begin), last) if stamp else ([], 0, "")
        except WrittenTwice as error:
            raise ValueError(f"{self._path.name} is damaged: after byte {begin}, {error}") from None
        if problem:
            raise ValueError(f"{self._path.name} is damaged after byte {begin + length} ({problem})")
        self._last = rows[-1]["step"] if rows else last
        lines = [self._parse(row) for row in rows]
        self._seen, self._length = stamp, begin + length
        return lines, replaced


def read_plain(path: Path, offset: int = 0) -> bytes:
    """A file's content. Neither follows a link nor waits for whatever a pipe may bring."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        file.seek(offset)
        return file.read()


def is_plain(path: Path) -> bool:
    """Whether it is a file, in a folder that is one, and neither is a link."""
    try:
        return stat.S_ISDIR(os.lstat(path.parent).st_mode) and stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file's content, its inode and size first; None where there is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path.name} is not a plain file")
    return found.st_ino, found.st_size, found.st_mtime_ns
