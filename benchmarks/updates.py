"""Updates of the default run, as taskcluster-train makes them by Lightning and without it.

in:  overrides of the configuration
out: `ours`: a function that gives sequences a second, the model and the data; `updates_of`: the same in a bare loop
"""

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule, TrainingBatches
from taskcluster.models.training_module import LanguageModel
from taskcluster.operations.command_line.cli import composed
from taskcluster.training.experiment import OURS, language_model, prepare

STEPS = 20  # timed at once
UNTIMED = 4  # updates before these: in the first ones code is compiled, and its CUDA graphs are recorded
SEQUENCES = 160  # an update


class Stopwatch(pl.Callback):
    """Seconds of STEPS updates, the last of which the device has finished."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step in (UNTIMED, trainer.max_steps):
            wait()
        if trainer.global_step == UNTIMED:
            self._started = time.perf_counter()
        if trainer.global_step == trainer.max_steps:
            self.seconds = time.perf_counter() - self._started


def wait() -> None:
    """Wait until the GPU, if any, has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ours(*overrides: str) -> tuple[Callable[[], float], LanguageModel, SequenceDataModule]:
    """Sequences a second of STEPS updates as taskcluster-train makes them."""
    config = RunConfig.of(composed(f"data.batch_size={SEQUENCES}", f"trainer.max_steps={UNTIMED + STEPS}", *overrides))
    data, network = prepare(config)
    model = language_model(config, data, network)

    def measure() -> float:
        watch = Stopwatch()
        config.trainer.build(pl.Trainer, leave_out=config.trainer.EXTRA, callbacks=[watch], **OURS).fit(model, data)
        return STEPS * config.data.arguments["batch_size"] / watch.seconds  # type: ignore[operator]

    return measure, model, data


def updates_of(model: LanguageModel, data: SequenceDataModule) -> Callable[[], None]:
    """STEPS updates without Lightning."""
    batches = TrainingBatches(data.train_rows, data.n_rows, data.loss_on, 0, pl.Trainer(accelerator="cpu", **OURS))
    optimizer = model.configure_optimizers()["optimizer"]

    def updates() -> None:
        for step in range(STEPS):
            batch = batches[step]
            optimizer.zero_grad()
            batch.loss(model.network(**batch.inputs).logits).backward()
            optimizer.step()

    return updates
