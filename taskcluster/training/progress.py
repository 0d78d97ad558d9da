"""What a user sees while a run trains: a bar on a terminal, a line for each measurement elsewhere."""

import logging
import os
import warnings
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers.utils import logging as transformers_logging

from taskcluster.metrics import LOSS, Catalogue
from taskcluster.operations.live.terminal import SHOWN
from taskcluster.runs.journal import Row, fixed, layers_of, number
from taskcluster.training.callbacks import MeasurementCallback
from taskcluster.views import shown

REFRESH = 10  # steps between updates of the bar
DAY = 86400.0  # seconds over which the speed is averaged: steps with a measurement take longer than others


class ProgressCallback(pl.Callback):
    """The loss, the metrics of a run as they are measured, those by layer in the last one, and the time left."""

    def __init__(self, measuring: MeasurementCallback, console: Console, run_name: str) -> None:
        self._measuring, self._console, self._run_name = measuring, console, run_name
        self._printed = 0  # rows
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=DAY,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self._task = self._bar.add_task("", total=trainer.max_steps, completed=trainer.global_step)
            self._bar.start()
            self.print_rows()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        measured = len(self._measuring.rows) > self._printed
        if trainer.is_global_zero and (measured or trainer.global_step % REFRESH == 0):
            loss = float(trainer.callback_metrics.get("train/batch_loss", float("nan")))
            self._bar.update(self._task, completed=trainer.global_step, description=f"loss {loss:.3f}")
            left = self._bar.tasks[-1].time_remaining
            self.print_rows("" if self._console.is_terminal or left is None else f"{left:.0f} s left")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._bar.stop()

    def print_rows(self, note: str = "") -> None:
        """Print the rows that were measured since the last call."""
        known = self._measuring.measurement.catalogue
        for row in self._measuring.rows[self._printed :]:
            if SHOWN not in os.environ:
                self._console.print(f"{self._run_name}  {_line(row, known)}  {note}".strip(), soft_wrap=True)
        self._printed = len(self._measuring.rows)


def _line(row: Row, known: Catalogue) -> str:
    values = []
    for metric in shown(known, "runs"):
        measured = layers_of(row, metric.stem("val")) if metric.by_layer else [number(row, metric.stem("val"))]
        values += [f"{metric.short} {fixed(measured[-1])}"] if measured else []
    split = "train" if LOSS.stem("train") in row else "val"  # of a model that nothing is trained on
    return f"step {row['step']:6d}  loss {fixed(number(row, LOSS.stem(split)))}  validation: {'  '.join(values)}"


def quieten() -> None:
    """Leave the terminal to what is said here: third-party notes that ask nothing of the user are dropped."""
    transformers_logging.set_verbosity_error()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    logging.raiseExceptions = False  # on a full disk their logs would each print a traceback
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torch.jit|wandb")
