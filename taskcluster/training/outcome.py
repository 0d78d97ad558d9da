"""Report in one sentence why a run ended before its last step. Free of torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskcluster.operations.command_line import cli
from taskcluster.operations.command_line.arguments import say
from taskcluster.operations.processes.interrupts import Interrupted, Interrupts
from taskcluster.operations.processes.launch import launcher
from taskcluster.runs.atomic_files import ADVICE
from taskcluster.validation import UserError


@contextmanager
def in_one_sentence(folder: Path) -> Iterator[None]:
    """A context in which a run trains in its folder, and signals end it. Raises Failed for a failure that its user
    can do something about, and Interrupted once that is reported."""
    try:
        with Interrupts():
            yield
    except Interrupted as signal:
        say(cli.program(), f"interrupted by {signal}; rerun the same command to resume from {folder}")
        raise
    except UserError:
        raise
    except Exception as error:
        if said := _sentence(error, folder):
            raise cli.Failed(said) from error
        raise


def _sentence(error: Exception, folder: Path) -> str:
    """Return what a user can do about a failure, "" if unknown."""
    from taskcluster.measures.measure import MeasureFailed  # torch is loaded by now
    from taskcluster.models.training_module import TrainingDiverged
    from taskcluster.operations.processes.group import lost_connection
    from taskcluster.training.experiment import TrainingStopped

    if isinstance(error, TrainingDiverged):
        return (
            f"{error}; lower optimizer.lr or, where no update has been made, choose other weights or "
            f"model.dtype=float32. The journal and the checkpoints so far are in {folder}"
        )
    if isinstance(error, ChildProcessError | TrainingStopped | MeasureFailed):
        return f"{error}; rerun the same command to resume from {folder}"
    if launcher() and lost_connection(error):
        return f"another process of the run has ended ({error}); rerun the same command to resume from {folder}"
    if isinstance(error, OSError) and (str(error.filename).startswith(f"{folder}{os.sep}") or error.errno in ADVICE):
        return (
            f"{error.filename or folder}: {error.strerror}; the files saved so far are intact; rerun the same command "
            "to resume"
        )
    return ""
