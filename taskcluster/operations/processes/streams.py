"""Output of commands: streams whose failure never ends the command, and consoles that print text without markup.

The reader of the output (a pipe that is closed, a log file on a full disk, a terminal that is gone) must not end
training, so `guard` replaces sys.stdout and sys.stderr at the start of every command.
"""

import io
import os
import sys
from typing import IO, Any

from rich.console import Console

UNWRAPPED = 10_000  # columns of an output that is not a terminal: a log has whole lines


class Outlet(io.FileIO):
    """A file descriptor that drops what cannot be written."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError:
            return len(memoryview(content).cast("B"))


def stream(descriptor: int, encoding: str = "utf-8") -> io.TextIOWrapper:
    """Text to a file descriptor through an Outlet; characters that the encoding lacks become escapes."""
    outlet = io.BufferedWriter(Outlet(descriptor, "w", closefd=False))
    return io.TextIOWrapper(outlet, encoding, "backslashreplace", line_buffering=True)


def guard() -> None:
    """Replace sys.stdout and sys.stderr by streams to the same place that never fail."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:  # one that was closed: the next file would receive output
        pass
    os.close(descriptor)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        current = getattr(sys, name)
        if current is None:
            setattr(sys, name, stream(descriptor))
        elif isinstance(current, io.TextIOWrapper) and not isinstance(getattr(current.buffer, "raw", None), Outlet):
            current.flush()
            setattr(sys, name, stream(current.fileno(), current.encoding))


def console(file: IO[str] | None = None) -> Console:
    """Return a console on `file`, or on the sys.stdout of the moment. It prints text without markup.

    A terminal gets colours and a cursor that moves, unless it cannot move its cursor. Everything else gets whole lines
    of plain text, even with FORCE_COLOR set.
    """
    live = (file or sys.stdout).isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    return Console(
        file=file,
        width=None if live else UNWRAPPED,
        force_terminal=live,
        force_interactive=live,
        markup=False,
        emoji=False,
        highlight=False,
    )
