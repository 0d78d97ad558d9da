"""When a run is measured, and what is recorded of it."""

import os
import time
from typing import Any

import pytorch_lightning as pl
from pydantic import NonNegativeInt, PositiveInt

from taskcluster.clustering import Clusterer
from taskcluster.datamodule import SequenceDataModule
from taskcluster.measurement import Measurement
from taskcluster.model import LanguageModel, TrainingDiverged
from taskcluster.runs import Row, RunFolder
from taskcluster.validation import Seed, validated


class ClusteringCallback(pl.Callback):
    """Measures at the steps of `schedule`; then appends to the journal, mirrors the row to the loggers and keeps a
    checkpoint, in this order, so that no checkpoint exists whose measurement is missing.

    n_clusters: k of KMeans over all tasks; None for the number of tasks.
    Raises ValueError for more clusters than probe states, and TrainingDiverged, before anything is written, where the
    loss is not finite.
    """

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        run: RunFolder,
        every_n_steps: PositiveInt,
        n_early: NonNegativeInt,
        n_clusters: PositiveInt | None,
        n_init: PositiveInt,
        seed: Seed,
    ) -> None:
        k = n_clusters or len(data.family.tasks)
        fewest = min(len(rows) for rows in data.probe.values())
        if k > fewest:
            raise ValueError(
                f"n_clusters={k} exceeds the {fewest} states of the smallest probe; lower it, or raise data.probe_size"
            )
        self.measurement = Measurement(data.probe, data.loss_on, Clusterer(n_init, seed), k)
        self.rows: list[Row] = []  # what this process measured
        self.seconds = 0.0  # spent measuring
        self._run, self._every, self._n_early = run, every_n_steps, n_early

    def schedule(self, max_steps: int) -> list[int]:
        """Steps to measure: 0, `n_early` halvings of `every_n_steps`, its multiples, and the last step."""
        early = {self._every >> k for k in range(1, self._n_early + 1)}
        return sorted({step for step in early | {*range(0, max_steps, self._every)} if step < max_steps} | {max_steps})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.monotonic()
        self.due = self.schedule(trainer.max_steps)
        self._measure_if_due(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self._measure_if_due(trainer, pl_module)

    def _measure_if_due(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        step = trainer.global_step
        if not self.due or step < self.due[0]:
            return
        self.due.pop(0)
        if trainer.is_global_zero:  # the states of one process stand for all: the weights are the same
            assert isinstance(module, LanguageModel)
            started = time.monotonic()
            try:
                metrics = self.measurement(module.network)
            except FloatingPointError as error:
                raise TrainingDiverged(step) from error
            now = time.monotonic()
            self.seconds += now - started
            self.rows.append({"step": step, **metrics})
            self._run.append(self.rows[-1], elapsed=now - self._started, measuring=now - started)
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step)
        self._save(trainer, step)

    def _save(self, trainer: pl.Trainer, step: int) -> None:
        """Weights of this step for analysis, and the whole state of training as the last checkpoint."""
        for target, weights_only in ((self._run.checkpoint(step), True), (self._run.checkpoints / "last.ckpt", False)):
            partial = target.with_suffix(".partial")
            trainer.save_checkpoint(partial, weights_only=weights_only)  # every process takes part
            if trainer.is_global_zero:
                os.replace(partial, target)
