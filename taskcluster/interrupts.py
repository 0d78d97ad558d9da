"""Signals that end a run: while it trains they wait for the end of the step, so that what is saved is whole."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Ctrl-C; what ends a process; a terminal that is closed, as when ssh loses its connection; and what Slurm, or whoever
# asks it to with --signal, sends ahead of a time limit.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
EXIT_CODES = {signal.SIGINT: 130, signal.SIGHUP: 129}

GRACE = 2.0  # seconds in which signals count as one: a terminal and a launcher may both send theirs


class Interrupted(BaseException):
    """A signal ended the run."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.exit_code = EXIT_CODES.get(signal.Signals(number), 143)


class Interrupts:
    """A context in which signals raise Interrupted: at once, or inside `deferred` at its end.

    Another signal GRACE seconds later raises at once everywhere. On leaving after one, whoever handled that signal
    before is told: Slurm's launcher then puts the job back into the queue. Without effect outside the main thread,
    where Python delivers no signals.
    """

    received = 0
    _received_at = 0.0

    @staticmethod
    def end_the_run(number: int) -> bool:
        """Not SIGTERM in a job of submitit's on Slurm, which will kill it anyway, or put it back into the queue."""
        return number != signal.SIGTERM or os.environ.get("SUBMITIT_EXECUTOR") != "slurm"

    def __enter__(self) -> "Interrupts":
        self._deferring = False
        self._previous: dict[int, Any] = {}
        self.listen()
        return self

    def listen(self) -> None:
        """Take the signals over from whoever has them."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue  # nohup's wish
                previous = signal.signal(number, self._receive)
                self._previous.setdefault(number, previous)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if isinstance(error, Interrupted) and error.number != signal.SIGINT:
            handler = self._previous.get(error.number)
            if callable(handler):
                handler(error.number, None)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Signals only leave their number in `received`; one that nobody has acted upon raises at the end."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self.received and self.end_the_run(self.received):
            raise Interrupted(self.received)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again = self.received and time.monotonic() - self._received_at > GRACE
        if not self.received:
            self.received, self._received_at = number, time.monotonic()
        if (again or not self._deferring) and self.end_the_run(number):
            raise Interrupted(number)
