"""Mirror a run in W&B or TensorBoard.

The run folder is the source: everything a mirror shows can be rebuilt from metrics.jsonl and training.jsonl. A mirror
that fails prints one line and stops; the run continues without it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Self

from pytorch_lightning.loggers import Logger
from rich.console import Console

from taskcluster.config import Node
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import Row, finite, read


class Mirror(Logger):
    """No mirror: the run folder alone. Subclasses implement `start`, `add`, `add_conclusion` and `close`.

    Creating one checks its settings and touches nothing; a `with` block starts it and closes it, however it ends.
    """

    name = version = ""  # required by Lightning's Logger
    title = ""
    remedy = "the run folder has everything"  # advice after a failure
    given_id: str | None = None  # the run id set in the environment

    def __init__(self, run: RunFolder, config: Mapping[str, Any], console: Console) -> None:
        super().__init__()
        self._run, self._config, self._console = run, config, console
        self._active = True

    def __enter__(self) -> Self:
        self._attempt(self.start)
        return self

    def __exit__(self, *_: object) -> None:
        self._attempt(self.close)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Show a row. A step may come twice: with the loss of its batch, and with its measurement."""
        self._attempt(lambda: self.add(step or 0, metrics_of(metrics)))

    def conclude(self) -> None:
        """Show the verdict and the figures of a run that trained to its last step."""
        self._attempt(self.add_conclusion)

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def start(self) -> None: ...

    def add(self, step: int, row: Row) -> None: ...

    def add_conclusion(self) -> None: ...

    def close(self) -> None: ...

    def note(self, sentence: str) -> None:
        self._console.print(sentence, soft_wrap=True)

    def replay(self) -> None:
        """Add every row of the run folder."""
        for step, row in rows_of(self._run):
            self.add(step, row)

    def _attempt(self, action: Callable[[], None]) -> None:
        if self._active:
            try:
                action()
            except Exception as error:
                self._active = False
                self.note(f"{self.title}: not everything arrived ({in_a_line(error)}); {self.remedy}")


def mirror_of(logger: Node, config: Mapping[str, object], run: RunFolder, console: Console) -> Mirror:
    """Return the mirror of a run's configuration. Raises UserError."""
    return logger.build(Mirror, run=run, config=dict(config), console=console)


def rows_of(run: RunFolder) -> list[tuple[int, Row]]:
    """The metrics of every step of both journals, in order: what a mirror holds, row for row."""
    merged: dict[int, Row] = {}
    for row in (*read(run.training), *run.rows()):
        merged.setdefault(row["step"], {}).update(metrics_of(row))
    return sorted(merged.items())


def metrics_of(row: Mapping[str, Any]) -> Row:
    """The metrics in a row that are finite numbers. Matrices are shown as figures."""
    numbers = {key: value for key, value in row.items() if "/" in key and isinstance(value, int | float)}
    return {key: value for key, value in numbers.items() if finite(value) is not None}


def in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
