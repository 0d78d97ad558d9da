"""Mirrors of a run, for those who follow it elsewhere.

The run folder is the truth: whatever a mirror shows can be made again from metrics.jsonl and training.jsonl. So a
mirror that fails says so in a line and is given up; the run continues without it.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from pytorch_lightning.loggers import Logger
from rich.console import Console

from taskcluster.config import Node
from taskcluster.processes.interrupts import Interrupted
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import Row, finite, read


class Mirror(Logger):
    """None at all: the run folder alone. Others are made of it.

    Making one checks its settings and touches nothing; a `with` block opens it and finishes it, however the block ends.
    """

    def __init__(self, run: RunFolder, config: Mapping[str, Any], console: Console) -> None:
        super().__init__()
        self._run, self._config, self._console = run, config, console
        self.given_id: str | None = None  # the id that the run must have here

    def __enter__(self) -> "Mirror":
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(error.exit_code if isinstance(error, Interrupted) else int(error is not None))

    @property
    def name(self) -> str:
        return self._run.name

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing: the whole configuration is there from the start."""

    def open(self) -> None:
        """Prepare for the rows of a run that begins or resumes, and show those that its folder has."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Show what the folder has got. A step may come twice: with the loss of its batch, and with its measurement."""

    def conclude(self) -> None:
        """Show what came of a run that trained to its last step: verdict and figures."""

    def finish(self, exit_code: int) -> None:
        """Show no more. exit_code: 0, or that with which the run ends."""

    def note(self, sentence: str) -> None:
        """One line for whoever waits for the run."""
        self._console.print(sentence, soft_wrap=True)

    def survives(self, failed: str, action: Callable[[], None]) -> bool:
        """Whether `action` came to its end; if it did not, it is noted that it `failed`, and why."""
        try:
            action()
        except Exception as error:
            self.note(f"{failed} ({in_a_line(error)}); the run folder has everything")
            return False
        return True


def mirror_of(logger: Node, config: Mapping[str, object], run: RunFolder, console: Console) -> Mirror:
    """The mirror that a run's configuration asks for. Raises UserError."""
    return logger.build(Mirror, run=run, config=dict(config), console=console)


def rows_of(run: RunFolder) -> list[tuple[int, Row]]:
    """Every step of both files with its metrics, in order: what a mirror holds, row for row."""
    merged: dict[int, Row] = {}
    for row in (*read(run.training), *run.rows()):
        merged.setdefault(row["step"], {}).update(metrics_of(row))
    return sorted(merged.items())


def metrics_of(row: Mapping[str, Any]) -> Row:
    """The metrics among the values of a row, without those that are no numbers."""
    return {key: value for key, value in row.items() if "/" in key and finite(value) is not None}


def in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
