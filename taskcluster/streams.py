"""Where a command prints: streams that never delay or end it, and consoles that print text as it is.

Whoever reads the output (a pager, a pipe, a log file on a full disk, a terminal that is gone) must not stop
training, so `guard` puts an Outlet below sys.stdout and sys.stderr at the start of every command.
"""

import atexit
import io
import os
import select
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import IO

from rich.console import Console, ConsoleDimensions

PATIENCE = 1.0  # seconds that a reader who takes nothing is waited for, once, and at the end of the process

CAPACITY = 2**20  # bytes kept for a reader who takes nothing; beyond that the oldest are dropped

UNWRAPPED = 10_000  # columns of an output that is not a terminal: a log has whole lines

NARROWEST, LOWEST = 20, 5  # columns and lines that tables and bars need

NO_CURSOR = ("", "dumb", "unknown")  # values of TERM


class Outlet(io.BufferedIOBase):
    """Bytes to a file descriptor, in order, written by a thread while there are any.

    `flush` returns once they are written, or PATIENCE seconds after the reader stopped taking them. What cannot be
    written is dropped. Neither method raises an OSError.
    """

    def __init__(self, descriptor: int) -> None:
        self.name = self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._writing = self._stalled = False

    def write(self, content: io.BytesIO | bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        kept = bytes(content)  # type: ignore[arg-type]
        with self._changed:
            self._waiting.append(kept)
            self._size += len(kept)
            while self._size > CAPACITY:
                self._size -= len(self._waiting.popleft())
            if not self._writing:
                self._start()
        return len(kept)

    def flush(self) -> None:
        with self._changed:
            while self._writing and not self._stalled:
                self._stalled = not self._changed.wait(PATIENCE)

    def settle(self) -> None:
        """Flush, and give a reader who stalled a last chance."""
        self._stalled = False
        self.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._write_all, daemon=True).start()
            self._writing = True
        except RuntimeError:  # the interpreter shuts down
            self._waiting.clear()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._writing = False
                    self._changed.notify_all()
                    return
                content = self._waiting.popleft()
                self._size -= len(content)
            while content:
                content = content[self._write_some(content) :]
                with self._changed:
                    self._stalled = False
                    self._changed.notify_all()

    def _write_some(self, content: bytes) -> int:
        try:
            return os.write(self._descriptor, content)
        except BlockingIOError:  # whoever shares the descriptor made it non-blocking
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll()
            return 0
        except OSError:
            return len(content)


def stream(descriptor: int, encoding: str = "utf-8") -> io.TextIOWrapper:
    """Text to a file descriptor through an Outlet; characters that the encoding lacks become escapes."""
    return io.TextIOWrapper(Outlet(descriptor), encoding, "backslashreplace", line_buffering=True)


def guard() -> None:
    """Replace sys.stdout and sys.stderr by streams to the same place that never fail and never wait for long."""
    for descriptor in (0, 1, 2):
        _occupy(descriptor)
    for name in ("stdout", "stderr"):
        current = getattr(sys, name)
        if current is None:
            setattr(sys, name, stream(os.open(os.devnull, os.O_WRONLY)))
        elif isinstance(current, io.TextIOWrapper) and not isinstance(current.buffer, Outlet):
            with suppress(OSError):
                current.flush()
            setattr(sys, name, stream(current.fileno(), current.encoding))
    atexit.unregister(_settle)
    atexit.register(_settle)


def console(file: io.TextIOWrapper | None = None, plain: bool = False) -> Console:
    """A console on `file`, or on whatever sys.stdout is when it prints. Text is printed as it is, without markup.

    A terminal gets colours and a cursor that moves, unless it should be `plain`, cannot move its cursor or is too
    narrow. All else gets whole lines of plain text, whatever FORCE_COLOR and the like ask for.
    """
    output = file or sys.stdout
    able = output.isatty() and os.environ.get("TERM", "").lower() not in NO_CURSOR
    live = not plain and able and _size_of(output).width >= NARROWEST
    return _Console(
        file=file,
        width=None if live else UNWRAPPED,
        force_terminal=live,
        force_interactive=live,
        markup=False,
        emoji=False,
        highlight=False,
    )


class _Console(Console):
    """Rich's, with the size of the terminal that it prints to: Rich asks the standard streams, which may be others."""

    @property  # type: ignore[misc]
    def size(self) -> ConsoleDimensions:
        width, height = _size_of(self.file)
        return ConsoleDimensions(self._width or max(width, NARROWEST), max(height, LOWEST))


def _size_of(output: IO[str]) -> ConsoleDimensions:
    """The user's word (COLUMNS, LINES), the terminal's, or the usual one."""
    try:
        width, height = os.get_terminal_size(output.fileno())
    except (OSError, ValueError):
        width, height = 0, 0
    asked = [int(text) if text.isdecimal() else 0 for text in map(os.environ.get, ("COLUMNS", "LINES"), ("", ""))]
    return ConsoleDimensions(asked[0] or width or 80, asked[1] or height or 25)


def _occupy(descriptor: int) -> None:
    """Open a standard descriptor that is closed: the next file to be opened would receive what is printed."""
    try:
        os.fstat(descriptor)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)


def _settle() -> None:
    for current in (sys.stdout, sys.stderr):
        outlet = getattr(current, "buffer", None)
        if isinstance(outlet, Outlet):
            current.flush()
            outlet.settle()
