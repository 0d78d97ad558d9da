"""Show the progress of a run, and a line for each measurement."""

import logging
import math
import os
import warnings
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from transformers.utils import logging as transformers_logging

from taskcluster.metrics import LOSS, Catalogue
from taskcluster.operations.live.speaking import SHOWN
from taskcluster.runs.journal import Row, fixed, number, values_of
from taskcluster.training.callbacks import MeasurementCallback
from taskcluster.views import shown
from taskcluster.work import doing, duration, stages

REFRESH = 10  # steps between looks at the loss, each of which waits for a GPU


class ProgressCallback(pl.Callback):
    """The loss, the metrics of a run as they are measured, those by layer in the last one, and the time left."""

    def __init__(self, measuring: MeasurementCallback, console: Console, run_name: str) -> None:
        self._measuring, self._console, self._run_name = measuring, console, run_name
        self._printed = 0  # rows
        self._training = ExitStack()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self._steps = self._training.enter_context(doing("step", trainer.max_steps, trainer.global_step))
            self.print_rows()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        self._steps.done = trainer.global_step
        if trainer.global_step % REFRESH == 0:
            self._steps.note = f"loss {float(trainer.callback_metrics.get('train/batch_loss', math.nan)):.3f}"
        if len(self._measuring.rows) > self._printed:
            left = next((stage.left for stage in stages()), None)
            self.print_rows(f"{duration(left)} left" if left and not self._console.is_terminal else "")

    def close(self) -> None:
        """Training has ended, however it did."""
        self._training.close()

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
        measured = values_of(row, metric)
        values += [f"{metric.short} {fixed(measured[-1])}"] if measured else []
    split = "train" if LOSS.stem("train") in row else "val"  # a run without training
    return f"step {row['step']:6d}  loss {fixed(number(row, LOSS.stem(split)))}  validation: {'  '.join(values)}"


def quieten() -> None:
    """Silence third-party notes that need no action of the user."""
    transformers_logging.set_verbosity_error()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    logging.raiseExceptions = False  # on a full disk their logs would each print a traceback
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torch.jit|wandb")
