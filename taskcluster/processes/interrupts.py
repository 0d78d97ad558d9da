"""Signals that end a run: within seconds, whatever it is doing, and with whole files left behind.

Python delivers a signal to the main thread between two of its instructions. That thread may be training, where it
saves at the end of the step, or inside native code for minutes: waiting for other processes, or computing a t-SNE. So
a thread of its own hears of every signal too, and ends the process if the main thread has not done so in time.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, ClassVar

# Ctrl-C; what ends a process; a terminal that is closed, as when ssh loses its connection; and what Slurm, or whoever
# asks it to with --signal, sends ahead of a time limit.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
EXIT_CODES = {signal.SIGINT: 130, signal.SIGHUP: 129}

GRACE = 2.0  # seconds in which signals count as one: a terminal and a launcher may both send theirs
PATIENCE = 7.0  # seconds that the main thread has to end the run
AT_ONCE = 1.0  # those that it has after a second signal, or where nothing can be saved


class Interrupted(BaseException):
    """A signal ended the run."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.exit_code = EXIT_CODES.get(signal.Signals(number), 143)


class OutOfTime(Interrupted):
    """The run's own time limit ended it, as its user wished: no failure, and no signal to anyone else."""

    def __init__(self) -> None:
        BaseException.__init__(self, "trainer.max_time")
        self.number = self.exit_code = 0


class Interrupts:
    """A context in which signals raise Interrupted: at once, or inside `deferred` at its end.

    Another signal GRACE seconds later raises at once everywhere. Where the context is not left within `patience`
    seconds, or AT_ONCE after the second signal, `give_up` ends the process. On leaving after a signal, whoever handled
    it before is told: Slurm's launcher then puts the job back into the queue. Without effect outside the main thread,
    where Python delivers no signals.

    before_the_end: called with the reason by `give_up`, last one first; passed_on: is told of every signal.
    """

    current: ClassVar["Interrupts | None"] = None  # the innermost of the main thread

    def __init__(self) -> None:
        self.received = 0
        self.patience = PATIENCE
        self.before_the_end: list[Callable[[BaseException], object]] = []
        self.passed_on: Callable[[int], object] = lambda number: None
        self._received_at = 0.0
        self._deferring = False
        self._previous: dict[int, Any] = {}
        self._wakeup: tuple[int, int] | None = None

    @staticmethod
    def end_the_run(number: int) -> bool:
        """Not SIGTERM in a job of submitit's on Slurm, which will kill it anyway, or put it back into the queue."""
        return number != signal.SIGTERM or os.environ.get("SUBMITIT_EXECUTOR") != "slurm"

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._outer, Interrupts.current = Interrupts.current, self
            reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._wakeup = writing, signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            self._watch = threading.Thread(target=self._watch_over, args=(reading,), daemon=True)
            self._watch.start()
            self.listen()
        return self

    def listen(self) -> None:
        """Take the signals over from whoever has them."""
        if self._wakeup:
            for number in SIGNALS:
                if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue  # nohup's wish
                previous = signal.signal(number, self._receive)
                self._previous.setdefault(number, previous)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not self._wakeup:
            return
        writing, before = self._wakeup
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(writing)
        self._watch.join()
        Interrupts.current = self._outer
        if isinstance(error, Interrupted) and error.number != signal.SIGINT:
            self._tell_previous(error.number)

    @contextmanager
    def deferred(self, patience: float = PATIENCE) -> Iterator[None]:
        """Signals only leave their number in `received`; one that nobody has acted upon raises at the end.

        patience: AT_ONCE around imports, which an exception would leave half done, where there is nothing to save.
        """
        before = self._deferring, self.patience
        self._deferring, self.patience = True, patience
        try:
            yield
        finally:
            self._deferring, self.patience = before
        self._raise_received()

    @contextmanager
    def prompt(self) -> Iterator[None]:
        """Inside `deferred`: work that can be dropped at any point, where signals raise at once after all."""
        self._raise_received()
        deferring, self._deferring = self._deferring, False
        try:
            yield
        finally:
            self._deferring = deferring

    def give_up(self, reason: BaseException) -> None:
        """End the process here and now, from any thread. Files are left whole, as they are replaced in one go."""
        for action in reversed(self.before_the_end):
            with suppress(Exception):
                action(reason)
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        if isinstance(reason, Interrupted):
            with suppress(BaseException):  # Slurm's launcher exits
                self._tell_previous(reason.number)
            os._exit(reason.exit_code)
        os._exit(1)

    def _tell_previous(self, number: int) -> None:
        handler = self._previous.get(number)
        if callable(handler):
            handler(number, None)

    def _raise_received(self) -> None:
        if self.received and self.end_the_run(self.received):
            raise Interrupted(self.received)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again = self.received and time.monotonic() - self._received_at > GRACE
        if not self.received:
            self.received, self._received_at = number, time.monotonic()
        if (again or not self._deferring) and self.end_the_run(number):
            raise Interrupted(number)

    def _watch_over(self, wakeup: int) -> None:
        first, first_at, again = 0, 0.0, False
        give_up_at = float("inf")
        while True:
            ready, _, _ = select.select([wakeup], [], [], 0.2 if first else None)
            numbers = os.read(wakeup, 64) if ready else b""
            if ready and not numbers:
                os.close(wakeup)
                return
            now = time.monotonic()
            for number in numbers:
                if number not in SIGNALS:
                    continue
                self.passed_on(number)
                if not self.end_the_run(number):
                    continue
                if not first:
                    first, first_at = number, now
                elif now - first_at > GRACE and not again:
                    again, give_up_at = True, now + AT_ONCE
            if first and now > min(give_up_at, first_at + self.patience):
                self.give_up(Interrupted(first))


@contextmanager
def prompt() -> Iterator[None]:
    """`Interrupts.prompt` of the innermost context, if there is one."""
    current = Interrupts.current
    if current is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    with current.prompt():
        yield
