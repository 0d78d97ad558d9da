"""Files that other processes write, read again only where they changed. Links are not followed.

in:  a path, and a function that parses the content
out: the value of a file that is replaced (`Document`), the new lines of one that grows (`Tail`)
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from taskcluster.runs.journal import Row, WrittenTwice, complete

Value = TypeVar("Value")
Stamp = tuple[int, int, int] | None


class Document(Generic[Value]):
    """A file that is replaced as a whole. value: of the last content that could be parsed; `absent` without a file."""

    def __init__(self, path: Path, parse: Callable[[bytes], Value], absent: Value) -> None:
        self.value = self._absent = absent
        self._path, self._parse = path, parse
        self._stamp: Stamp = None

    def read(self) -> bool:
        """Parse the file if it changed; whether it did."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return False
        self.value = self._parse(self._path.read_bytes()) if stamp else self._absent
        self._stamp = stamp  # only now: a file that cannot be parsed is read again every time
        return True


class Tail(Generic[Value]):
    """A journal, to which lines are appended. parse: gives what is kept of a line."""

    def __init__(self, path: Path, parse: Callable[[Row], Value]) -> None:
        self._path, self._parse = path, parse
        self._stamp: Stamp = None
        self._length, self._last_step = 0, -1

    def read(self, restarted: bool) -> tuple[list[Value], bool]:
        """The new lines, and whether they replace all lines before: if the file is another one, or if `restarted`.

        Raises ValueError for a damaged line.
        """
        stamp, before = _stamp(self._path), self._stamp
        if stamp == before and not restarted:
            return [], False
        replaced = restarted or not (stamp and before) or stamp[0] != before[0] or stamp[1] < self._length
        begin, last = (0, -1) if replaced else (self._length, self._last_step)
        try:
            rows, length, problem = complete(self._content(begin) if stamp else b"", last)
        except WrittenTwice as error:
            raise ValueError(f"{self._path.name} is damaged: after byte {begin}, {error}") from None
        if problem:
            raise ValueError(f"{self._path.name} is damaged after byte {begin + length} ({problem})")
        lines = [self._parse(row) for row in rows]
        self._stamp, self._length, self._last_step = stamp, begin + length, rows[-1]["step"] if rows else last
        return lines, replaced

    def _content(self, begin: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(begin)
            return file.read()


def is_plain(path: Path) -> bool:
    """Whether it is a file, and neither the file nor its folder is a link."""
    return path.is_file() and not path.is_symlink() and not path.parent.is_symlink()


def _stamp(path: Path) -> Stamp:
    """Inode, size and time of a file; None without one. Raises ValueError for a link, a pipe or a folder."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path.name} is not a plain file")
    return status.st_ino, status.st_size, status.st_mtime_ns
