"""Callbacks that measure, record and save a run."""

import math
import time
from datetime import timedelta
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from taskcluster.measures.measure import Measurement, not_kept
from taskcluster.models.training_module import LanguageModel, TrainingDiverged
from taskcluster.operations.processes.interrupts import Interrupted, Interrupts, ends_the_run
from taskcluster.runs.folder import RunFolder, drop_checkpoint
from taskcluster.runs.journal import PartialRow, Row
from taskcluster.training.snapshots import Snapshots, spread
from taskcluster.validation import validated


class MeasurementCallback(pl.Callback):
    """Measures at the steps of `schedule`; then appends to the journal and mirrors the row to the loggers. Every
    `trainer.log_every_n_steps` it does likewise with the loss of the batch and the learning rate.

    measured: the last step that the journal has, -1 for none; to be set before a run resumes.

    Raises ValueError for a measure that would never run between the first step and the last; TrainingDiverged,
    before anything is written, where the loss is not finite, and MeasureFailed for a measure that fails.
    """

    @validated
    def __init__(
        self, measurement: Measurement, run: RunFolder, every_n_steps: PositiveInt, n_early: NonNegativeInt
    ) -> None:
        for name, measure in measurement.measures.items():
            interval = measure.every_n_steps or every_n_steps
            if interval > 1 and interval % every_n_steps:
                raise ValueError(
                    f"every_n_steps={every_n_steps} does not divide measures.{name}.every_n_steps={interval}; "
                    "choose a multiple of it, or 1 for every measured step"
                )
        self.measurement = measurement
        self.rows: list[Row] = []  # what this process measured
        self.measured = -1
        self.snapshots = Snapshots()
        self._run, self._every, self._n_early = run, every_n_steps, n_early

    def schedule(self, max_steps: int) -> list[int]:
        """Steps to measure: 0, `n_early` halvings of `every_n_steps`, its multiples, and the last step."""
        early = {self._every >> k for k in range(1, self._n_early + 1)}
        return sorted({step for step in early | {*range(0, max_steps, self._every)} if step < max_steps} | {max_steps})

    def begin(self, trainer: pl.Trainer) -> None:
        """Count the seconds from here on, after those that the journal has."""
        rows = self._run.rows() if trainer.is_global_zero else []
        self._started = time.monotonic() - (rows[-1].get("elapsed", 0.0) if rows else 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin(trainer)
        first = trainer.global_step
        schedule = self.schedule(trainer.max_steps)
        if self.measured < 0:
            schedule = sorted({first, *(step for step in schedule if step >= first)})
        self.snapshots.planned = spread(schedule)
        self.due = [step for step in schedule if step >= first and step > self.measured]
        self._measure_if_due(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        updated = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if updated and trainer.is_global_zero and trainer.global_step % every == 0:
            row = {k: float(trainer.callback_metrics[k]) for k in ("train/batch_loss", "train/learning_rate")}
            self._run.append_training({"step": trainer.global_step, **row}, time.monotonic() - self._started)
            self._mirror(trainer, row, trainer.global_step)
        self._measure_if_due(trainer, pl_module)

    def _measure_if_due(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        step = trainer.global_step
        if self.due and step >= self.due[0]:
            assert isinstance(module, LanguageModel)
            self.measure(trainer, module, step, last=step == trainer.max_steps)

    def measure(self, trainer: pl.Trainer, module: LanguageModel, step: int, last: bool) -> None:
        """Measure the first step unless it has been measured or a signal arrives."""
        started = time.monotonic()
        # Only runs without training measure for so long, and a single process knows what it keeps.
        kept = None if trainer.max_steps or trainer.world_size > 1 else PartialRow(self._run.path, step)
        try:
            look = partial(self.snapshots.take, step)
            metrics = self.measurement(module.network, step, last, look, kept or not_kept)
        except FloatingPointError as error:
            raise TrainingDiverged(step) from error
        except Interrupted:  # still unmeasured: the CheckpointCallback saves, and the resumed run measures first
            return
        self.measured = self.due.pop(0)
        now = time.monotonic()
        self.rows.append({"step": step, **metrics})
        if trainer.is_global_zero:
            self._run.append(self.rows[-1], elapsed=now - self._started, measuring=now - started)
            if kept:
                kept.clear()
            self._mirror(trainer, metrics, step)

    def _mirror(self, trainer: pl.Trainer, row: Row, step: int) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(row, step)


class CheckpointCallback(pl.Callback):
    """Saves the whole state of training at every measured step, once the journal has it, so that no checkpoint lacks
    its measurement; every `every_minutes` in between; and when a signal has come or `max_time` is over, which then ends
    the run. A signal waits for the end of the step, and for what is being saved; the time limit for an update of this
    start, so that even the shortest one makes progress. A run of no steps saves nothing, unless it begins with another
    run's checkpoint: its weights are those of the model as it is built.

    Comes after the MeasurementCallback. Raises Interrupted.
    """

    @validated
    def __init__(
        self,
        measuring: MeasurementCallback,
        run: RunFolder,
        config: dict[str, Any],
        every_minutes: PositiveFloat,
        max_time: timedelta | None,
    ) -> None:
        self._measuring, self._run, self._config = measuring, run, config
        self._seconds = 60 * every_minutes
        self._limit = max_time.total_seconds() if max_time else math.inf
        self._needless = not (config["trainer"]["max_steps"] or config["ckpt_path"])

    def begin(self) -> None:
        """Start to handle signals and to count `max_time`."""
        Interrupts.current.listen()  # Lightning has taken SIGTERM by now
        self._saved_at = self._started_at = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin()
        self.save_if_due(trainer, done=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.save_if_due(trainer, done=trainer.global_step == trainer.max_steps)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self._config

    def save_if_due(self, trainer: pl.Trainer, done: bool) -> None:
        """Save where it is time to, if the run has checkpoints; then end it for a signal, and for the time limit unless
        it is `done`."""
        measured = self._measuring.measured == trainer.global_step
        signal, overdue, late = self._agreed(trainer)
        late = late and not done
        if (measured or overdue or signal or late) and not self._needless:
            self._save(trainer, measured)
        if signal and ends_the_run(signal):
            raise Interrupted(signal)
        if signal:
            Interrupts.current.received = 0  # the run is saved; Slurm requeues the job
        if late:
            raise Interrupted(0)

    def _agreed(self, trainer: pl.Trainer) -> list[int]:
        """The signal that any process of the run has received, 0 for none, whether it is time to save, and whether
        training has taken longer than its limit."""
        now = time.monotonic()
        overdue, late = now - self._saved_at > self._seconds, now - self._started_at > self._limit
        here = [Interrupts.current.received, int(overdue), int(late)]
        if trainer.world_size == 1:
            return here
        agreed = trainer.strategy.reduce(torch.tensor(here, device=trainer.strategy.root_device), reduce_op="max")
        return [int(value) for value in agreed]

    def _save(self, trainer: pl.Trainer, measured: bool) -> None:
        target = self._run.checkpoint(trainer.global_step, measured)
        trainer.save_checkpoint(target, weights_only=False)  # every process takes part
        self._saved_at = time.monotonic()
        if trainer.is_global_zero:
            for _, file in self._run.saved():
                if file.name.startswith("last=") and file != target:
                    drop_checkpoint(file)
