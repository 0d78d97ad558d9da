"""The starts of a run, and how each of them ended, in status.json."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import NamedTuple

from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import now
from taskcluster.validation import UserError


class Ends(NamedTuple):
    """finish(): the run is finished, whatever happens later. leave(failure): it ends now, interrupted or failed."""

    finish: Callable[[], None]
    leave: Callable[[BaseException], None]


@contextmanager
def writing(run: RunFolder, step: int | None, given_id: str | None = None, **facts: object) -> Iterator[Ends]:
    """Record a start at `step` with these facts, and leave the run finished, interrupted or failed.

    What begins gets the id that is given or one of its own, which stays unless another is given later. Gives what
    records its end before the context is left.
    """
    before = run.status() if step is not None else {}
    starts = [*before.get("starts", []), {"time": now(), "step": step or 0, **facts}]
    recorder = _Recorder(run, before.get("wall_seconds", 0))
    identity = given_id or before.get("id") or token_hex(4)
    try:
        run.write_status("running", id=identity, error=None, concluded=False, starts=starts)
        yield Ends(recorder.finish, recorder.leave)
    except BaseException as failure:
        recorder.leave(failure)
        raise
    recorder.finish()
    with suppress(OSError):
        run.write_status("finished", concluded=True)


class _Recorder:
    """Of the end of a start, which only counts once. spent: seconds of the starts before it."""

    def __init__(self, run: RunFolder, spent: float) -> None:
        self._run, self._spent, self._started = run, spent, time.monotonic()
        self._finished = False

    def finish(self) -> None:
        if not self._finished:
            self._end("finished")
            self._finished = True

    def leave(self, failure: BaseException) -> None:
        if self._finished:
            return
        with suppress(OSError, UserError):  # a full disk, say, of which the failure itself tells
            if isinstance(failure, Exception):
                self._end("failed", f"{type(failure).__name__}: {failure}")
            else:
                self._end("interrupted", str(failure))

    def _end(self, state: str, error: str | None = None) -> None:
        steps = [row["step"] for row in self._run.rows()] + [saved for saved, _ in self._run.saved()]
        seconds = round(self._spent + time.monotonic() - self._started, 1)
        self._run.write_status(state, error=error, step=max(steps, default=None), wall_seconds=seconds)
