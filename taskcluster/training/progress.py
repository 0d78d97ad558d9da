"""What a user sees while a run trains: a bar on a terminal, a line for each measurement elsewhere."""

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from transformers.utils import logging as transformers_logging

from taskcluster.metrics import LOSS, Catalogue
from taskcluster.runs.journal import Row, fixed, layers_of, number
from taskcluster.training.callbacks import MeasurementCallback
from taskcluster.views import shown
from taskcluster.watch.terminal import SHOWN

REFRESH = 10  # steps between updates of the bar


class ProgressCallback(pl.Callback):
    """The loss, the metrics of a run as they are measured, those by layer in the last one, and the time left.

    The time left counts the steps and the measurements that are still to come, each at its mean so far.
    """

    def __init__(self, measuring: MeasurementCallback, console: Console, run_name: str) -> None:
        self._measuring, self._console, self._run_name = measuring, console, run_name
        self._shown = 0
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self._started = time.monotonic() - self._measuring.seconds  # the first step is measured by now
            self._first_step = trainer.global_step
            self._bar.start()
            self._task = self._bar.add_task("", total=trainer.max_steps, completed=trainer.global_step)
            self._show_rows()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        measured = len(self._measuring.rows) > self._shown
        if trainer.is_global_zero and (measured or trainer.global_step % REFRESH == 0):
            loss = float(trainer.callback_metrics.get("train/batch_loss", float("nan")))
            left = f"{self._seconds_left(trainer):.0f} s left"
            self._bar.update(self._task, completed=trainer.global_step, description=f"loss {loss:.3f}  {left}")
            if measured:
                self._show_rows("" if self._console.is_terminal else left)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._bar.stop()

    @contextmanager
    def over(self, due: Sequence[int]) -> Iterator[Callable[[], None]]:
        """A context around the measurement of steps without training in between, of which `due` are left. Gives what
        shows the rows that came."""

        def show() -> None:
            done = len(self._measuring.rows)
            left = f"{self._measuring.seconds / max(done, 1) * len(due):.0f} s left"
            self._bar.update(self._task, completed=done, description=left)
            self._show_rows("" if self._console.is_terminal else left)

        self._task = self._bar.add_task("", total=len(due))
        with self._bar:
            yield show

    def _seconds_left(self, trainer: pl.Trainer) -> float:
        elapsed, measuring = time.monotonic() - self._started, self._measuring.seconds
        a_step = (elapsed - measuring) / max(trainer.global_step - self._first_step, 1)
        a_measurement = measuring / max(len(self._measuring.rows), 1)
        return a_step * (trainer.max_steps - trainer.global_step) + a_measurement * len(self._measuring.due)

    def _show_rows(self, note: str = "") -> None:
        known = self._measuring.measurement.catalogue
        for row in self._measuring.rows[self._shown :]:
            if SHOWN not in os.environ:
                self._console.print(f"{self._run_name}  {_line(row, known)}  {note}".strip(), soft_wrap=True)
        self._shown = len(self._measuring.rows)


def _line(row: Row, known: Catalogue) -> str:
    values = []
    for metric in shown(known, "runs"):
        of_metric = layers_of(row, metric.stem("val")) if metric.by_layer else [number(row, metric.stem("val"))]
        values += [f"{metric.short} {fixed(of_metric[-1])}"] if of_metric else []
    split = "train" if LOSS.stem("train") in row else "val"  # of a model that nothing is trained on
    return f"step {row['step']:6d}  loss {fixed(number(row, LOSS.stem(split)))}  validation: {'  '.join(values)}"


def quieten() -> None:
    """Leave the terminal to what is said here: third-party notes that ask nothing of the user are dropped."""
    transformers_logging.set_verbosity_error()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    logging.raiseExceptions = False  # on a full disk their logs would each print a traceback
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torch.jit|wandb")
