"""Handle signals that end a run. Training checks a flag, saves at the end of its step and ends; everything else ends at
once."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar, Self

# Ctrl-C; what ends a process; a terminal that is closed, as when ssh loses its connection; and what Slurm, or its user
# with --signal, sends ahead of a time limit.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
EXIT_CODES = {0: 0, signal.SIGINT: 130, signal.SIGHUP: 129}

GRACE = 2.0  # seconds in which signals count as one: a terminal and a launcher may both send theirs


class Interrupted(BaseException):
    """A signal ended the run. number: of the signal; 0 where it is the run's own time limit that ended it, as its user
    wished: no failure, and no signal to anyone else."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number, self.exit_code = number, EXIT_CODES.get(number, 143)

    def __str__(self) -> str:
        return signal.Signals(self.number).name if self.number else "trainer.max_time"


class Interrupts:
    """A context in which signals raise Interrupted: at once, or at the end of `deferred`.

    Another signal GRACE seconds later raises at once everywhere. On leaving after a signal, the handler before it is
    called: Slurm's launcher then puts the job back into the queue.

    received: the number of the first signal, 0 for none. current: the innermost context.
    """

    current: ClassVar["Interrupts"]

    def __init__(self) -> None:
        self.received = 0
        self._received_at = 0.0
        self._deferring = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._outer, Interrupts.current = Interrupts.current, self
        self._previous = {number: signal.getsignal(number) for number in heeded()}
        self.listen()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        Interrupts.current = self._outer
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if isinstance(error, Interrupted) and error.number != signal.SIGINT:
            previous = self._previous.get(error.number)
            if callable(previous):
                previous(error.number, None)

    def listen(self) -> None:
        """Receive the signals, also those whose handlers a library has replaced."""
        for number in self._previous:
            signal.signal(number, self._receive)

    @contextmanager
    def deferred(self, deferring: bool = True) -> Iterator[None]:
        """Signals only leave their number in `received`; one that is still there raises at the end.

        deferring: False for work, in such a context, that can be dropped at any point: there they raise after all.
        """
        before, self._deferring = self._deferring, deferring
        try:
            self._raise(self.received)
            yield
        finally:
            self._deferring = before
        self._raise(self.received)

    def _raise(self, number: int, at_once: bool = False) -> None:
        if number and (at_once or not self._deferring) and ends_the_run(number):
            raise Interrupted(number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again = self.received and time.monotonic() - self._received_at > GRACE
        if not self.received:
            self.received, self._received_at = number, time.monotonic()
        self._raise(number, at_once=bool(again))


Interrupts.current = Interrupts()


def heeded() -> list[signal.Signals]:
    """Those of SIGNALS that this process was not started to ignore, as nohup does with SIGHUP."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def ends_the_run(number: int) -> bool:
    """Not SIGTERM in a job of submitit's on Slurm, which will kill it anyway, or put it back into the queue."""
    return number != signal.SIGTERM or os.environ.get("SUBMITIT_EXECUTOR") != "slurm"
