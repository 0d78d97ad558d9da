"""Where a run begins: at step 0, after the newest intact checkpoint, or after the last pretrained checkpoint that it
has measured. Free of torch, so plans are quick."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from taskcluster.config import RunConfig
from taskcluster.runs.folder import RunFolder, digest_file
from taskcluster.runs.journal import Row
from taskcluster.runs.series import measured_up_to, series
from taskcluster.validation import UserError

DRAWN = ("tsne.json", "index.html")  # without which a run's figures are not all there


class Start(NamedTuple):
    """step: that of the run's own checkpoint, or of the last of others' checkpoints that was measured; None for a run
    that begins. checkpoint: the run's own, or that of another run. measured: the last step that the journal has
    up to there, -1 for none. notes: sentences for the user.
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


def is_finished(run: RunFolder, config: RunConfig) -> bool:
    """Whether the folder holds this very run, finished. Raises UserError where one of its files is damaged."""
    if run.state != "finished" or config.resume == "never" or not run.config() or run.differing_keys(config.as_dict()):
        return False
    rows, last = run.rows(), config.trainer.max_steps
    if not last and {*(series(config) or (0,))} - {row["step"] for row in rows}:
        return False  # there are more pretrained checkpoints by now
    if last and [row["step"] for row in rows][-1:] != [last]:
        raise UserError(f"{run.journal} is damaged (it lacks step {last}); restore it, or choose another folder")
    return bool(run.catalogue() and run.results())


def is_illustrated(run: RunFolder) -> bool:
    """Whether a finished run has what is made after its end, its controls and its figures."""
    return "controls" in run.results() and all((run.figures / name).is_file() for name in DRAWN)


def is_concluded(run: RunFolder) -> bool:
    """Whether nothing remains to be made of a finished run, nor to be told to those who follow it elsewhere."""
    return run.status().get("concluded") is True and is_illustrated(run)


def find_start(run: RunFolder, config: RunConfig) -> Start:
    """Where to begin. Raises UserError where the folder holds another run, or not what `resume` asks for."""
    run.refuse_foreign()
    resume, begun = config.resume, run.config()
    if not begun and (run.status() or run.rows() or run.saved()):
        raise UserError(f"{run.path} holds a run without its config.yaml; restore it, or choose another folder")
    if begun and resume == "never":
        raise UserError(f"resume='never', but {run.path} holds a run already ({run.state}); choose another name=")
    differing = run.differing_keys(config.as_dict())
    if "trainer.max_steps" in differing and _length(begun) is not None:  # which is another length of the same run
        differing = [key for key in differing if key not in ("trainer.max_steps", "scheduler.max_steps")]
    if differing:
        raise UserError(
            f"{run.path} holds a run of another configuration, which differs in {', '.join(differing)}; "
            "choose another name= or hydra.run.dir="
        )
    steps = series(config)
    start = _after(measured_up_to(steps, run.rows())) if steps else _newest(run)
    if start.step is None and resume == "must":
        raise UserError(f"resume='must', but {run.path} holds nothing to resume from; leave it out to start a new run")
    notes = start.notes + _change_of_length(run, _length(begun), config.trainer.max_steps) if begun else ()
    if start.step is None and config.ckpt_path:
        return _branch(Path(config.ckpt_path), notes)
    return start._replace(notes=notes)


def _after(measured: int | None) -> Start:
    """After the last of others' checkpoints that was measured."""
    return Start() if measured is None else Start(measured, measured=measured)


def damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint's bytes, "" for nothing."""
    if not checkpoint.is_file():
        return "it is not a file" if checkpoint.exists() else "it does not exist"
    if not digest_file(checkpoint).is_file():
        return "its SHA-256 is missing"
    recorded = digest_file(checkpoint).read_bytes().split(b" ")[0]
    with checkpoint.open("rb") as content:
        same = hashlib.file_digest(content, "sha256").hexdigest().encode() == recorded
    return "" if same else "its SHA-256 does not match"


def _newest(run: RunFolder) -> Start:
    """The last checkpoint that is whole and whose measurements, and those before it, are all in the journal."""
    measured = {row["step"] for row in run.rows()}
    saved = run.saved()
    notes: tuple[str, ...] = ()
    for step, file in reversed(saved):
        lost = [s for s, f in saved if s <= step and f == run.checkpoint(s) and s not in measured]
        problem = damage(file) or (f"the journal has lost step {lost[0]}" if lost else "")
        if not problem:
            return Start(step, file, max((s for s in measured if s <= step), default=-1), notes)
        notes += (f"{file} is skipped: {problem}",)
    return Start(notes=notes)


def _branch(checkpoint: Path, notes: tuple[str, ...]) -> Start:
    """A run that begins with the state of another."""
    problem = damage(checkpoint)
    if problem == "its SHA-256 is missing":
        notes += (f"{checkpoint} has no SHA-256 beside it and is used unchecked",)
    elif problem:
        raise UserError(f"ckpt_path={str(checkpoint)!r} cannot be used: {problem}; choose another")
    return Start(checkpoint=checkpoint, notes=notes)


def _change_of_length(run: RunFolder, old: int | None, new: int) -> tuple[str, ...]:
    if new == old:
        return ()
    done = max([row["step"] for row in run.rows()] + [step for step, _ in run.saved()], default=0)
    if new <= done:
        raise UserError(
            f"trainer.max_steps={new} is not above the {done} steps that {run.path} has done; raise it, or choose "
            "another name="
        )
    if not done:
        return ()
    return (
        f"trainer.max_steps is {new} instead of {old}: from here on the learning rate follows the schedule of {new} "
        f"steps, so the result differs from that of a run with {new} steps from the beginning",
    )


def _length(config: Row) -> int | None:
    """Steps of a recorded configuration."""
    return config.get("trainer", {}).get("max_steps")
