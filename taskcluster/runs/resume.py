"""Find where a run begins or resumes, and record each start. Free of torch, so plans are quick.

in:  the run folder, the configuration, and the steps of a series of pretrained checkpoints if the model is one
out: a Start: step 0, the newest intact checkpoint, or the last pretrained checkpoint that was measured
"""

import hashlib
import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

from taskcluster.config import RunConfig
from taskcluster.runs.folder import RunFolder, digest_file
from taskcluster.runs.journal import Row, now
from taskcluster.validation import UserError

NO_DIGEST = "its SHA-256 is missing"

DRAWN = ("tsne.json", "index.html")  # the last figure to be written


class Start(NamedTuple):
    """step: that of the run's checkpoint, or of the last pretrained checkpoint that was measured; None for a run
    that begins. checkpoint: the run's, or that of another run. measured: the last step that the journal has up to
    there, -1 for none. notes: sentences for the user.
    """

    step: int | None = None
    checkpoint: Path | None = None
    measured: int = -1
    notes: tuple[str, ...] = ()


def with_recorded_frame(run: RunFolder, config: RunConfig) -> RunConfig:
    """The configuration with the chat frame of the run in the folder, if there is one: a chat template may write
    today's date, and the prompts of one run must have the same."""
    frame = run.config().get("data", {}).get("chat_frame")
    return config.with_frame(frame) if frame and config.data.arguments.get("chat") else config


def is_finished(run: RunFolder, config: RunConfig, steps: Collection[int] = ()) -> bool:
    """Whether the folder holds this very run, finished. steps: those of a series of pretrained checkpoints.

    Raises UserError where one of its files is damaged.
    """
    if run.state != "finished" or config.resume == "never" or not run.config() or run.differing_keys(config.as_dict()):
        return False
    measured, last = [row["step"] for row in run.rows()], config.trainer.max_steps
    if not last and {*(steps or (0,))} - {*measured}:
        return False  # there are more pretrained checkpoints by now
    if last and measured[-1:] != [last]:
        raise UserError(f"{run.journal} is damaged (it lacks step {last}); restore it, or choose another folder")
    return bool(run.catalogue() and run.results())


def is_illustrated(run: RunFolder) -> bool:
    """Whether a finished run has its controls and its figures, which are made after its end."""
    return "controls" in run.results() and all((run.figures / name).is_file() for name in DRAWN)


def is_concluded(run: RunFolder) -> bool:
    """Whether a finished run needs no further figures, controls or uploads."""
    return run.status().get("concluded") is True and is_illustrated(run)


def find_start(run: RunFolder, config: RunConfig, steps: Collection[int] = ()) -> Start:
    """Where to begin. steps: those of a series of pretrained checkpoints.

    Raises UserError where the folder holds another run, or not what `resume` asks for.
    """
    begun = run.config()
    if not begun and (run.status() or run.rows() or run.saved()):
        raise UserError(f"{run.path} contains a run without its config.yaml; restore it, or choose another folder")
    if begun and config.resume == "never":
        raise UserError(f"resume='never', but {run.path} already contains a run ({run.state}); choose another name=")
    length = begun.get("trainer", {}).get("max_steps")
    differing = run.differing_keys(config.as_dict())
    if length is not None and "trainer.max_steps" in differing:  # another length of the same run
        differing = [key for key in differing if key not in ("trainer.max_steps", "scheduler.max_steps")]
    if differing:
        raise UserError(
            f"{run.path} contains a run with another configuration, which differs in {', '.join(differing)}; "
            "choose another name= or hydra.run.dir="
        )
    start = _after_measured(run, steps) if steps else _newest(run)
    if start.step is None and config.resume == "must":
        raise UserError(
            f"resume='must', but {run.path} contains nothing to resume from; leave resume out to start a new run"
        )
    notes = start.notes + _change_of_length(run, length, config.trainer.max_steps) if begun else ()
    if start.step is None and config.ckpt_path:
        start, problem = Start(checkpoint=Path(config.ckpt_path)), damage(Path(config.ckpt_path))
        if problem == NO_DIGEST:
            notes += (f"{config.ckpt_path} has no SHA-256 file beside it and is used unchecked",)
        elif problem:
            raise UserError(f"ckpt_path={config.ckpt_path!r} cannot be used: {problem}; choose another")
    return start._replace(notes=notes)


def damage(checkpoint: Path) -> str:
    """Return what is wrong with a checkpoint's bytes, "" if they are intact."""
    if not checkpoint.is_file():
        return "it does not exist"
    if not digest_file(checkpoint).is_file():
        return NO_DIGEST
    with checkpoint.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return "" if digest_file(checkpoint).read_bytes().startswith(digest.encode()) else "its SHA-256 does not match"


def _newest(run: RunFolder) -> Start:
    """The last intact checkpoint up to which the journal has the step of every measured checkpoint."""
    measured, saved = {row["step"] for row in run.rows()}, run.saved()
    lost = next((step for step, file in saved if file == run.checkpoint(step) and step not in measured), math.inf)
    notes: tuple[str, ...] = ()
    for step, file in reversed(saved):
        problem = damage(file) or (f"the journal lacks step {lost}" if lost <= step else "")
        if not problem:
            return Start(step, file, max((s for s in measured if s <= step), default=-1), notes)
        notes += (f"{file} is skipped: {problem}",)
    return Start(notes=notes)


def _after_measured(run: RunFolder, steps: Collection[int]) -> Start:
    """After the last step before the first checkpoint of a series that the journal lacks."""
    rows = {row["step"] for row in run.rows()}
    lacking = min((step for step in steps if step not in rows), default=None)
    measured = [step for step in rows if lacking is None or step < lacking]
    return Start(max(measured), measured=max(measured)) if measured else Start()


def _change_of_length(run: RunFolder, old: int | None, new: int) -> tuple[str, ...]:
    done = _last_step(run) or 0
    if new != old and new <= done:
        raise UserError(
            f"trainer.max_steps={new} is not above the {done} steps that {run.path} has done; raise it, or choose "
            "another name="
        )
    said = (
        f"trainer.max_steps is {new} instead of {old}: from here on the learning rate follows the schedule of {new} "
        f"steps, so the result differs from a run of {new} steps from the beginning"
    )
    return (said,) if new != old and done else ()


def _last_step(run: RunFolder) -> int | None:
    """The last step that was measured or saved."""
    return max([row["step"] for row in run.rows()] + [step for step, _ in run.saved()], default=None)


@contextmanager
def writing(
    run: RunFolder, step: int | None, given_id: str | None = None, **facts: object
) -> Iterator[Callable[[], None]]:
    """Record a start at `step` with these facts, and leave the run finished, interrupted or failed.

    A run that begins gets `given_id` or a random id, which it keeps unless another one is given later. Yields a
    function that records the run as finished before the context ends; then it stays finished, even after a failure.
    """
    before: Row = run.status() if step is not None else {}
    starts = [*before.get("starts", []), {"time": now(), "step": step or 0, **facts}]
    identity = given_id or before.get("id") or token_hex(4)
    began = time.monotonic() - before.get("wall_seconds", 0)

    def record(state: str, error: str | None = None) -> None:
        if run.status().get("state") == "running":
            run.write_status(state, error=error, step=_last_step(run), wall_seconds=round(time.monotonic() - began, 1))

    try:
        run.write_status("running", id=identity, error=None, concluded=False, starts=starts)
        yield partial(record, "finished")
    except BaseException as failure:
        failed = isinstance(failure, Exception)
        with suppress(OSError, UserError):  # such as a full disk, which the failure itself reports
            record("failed" if failed else "interrupted", f"{type(failure).__name__}: " * failed + str(failure))
        raise
    record("finished")
    with suppress(OSError):
        run.write_status("finished", concluded=True)
