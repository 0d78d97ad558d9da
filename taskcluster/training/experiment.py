"""The parts of one run, built from its configuration and wired together."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from rich.console import Console
from transformers import PreTrainedModel

from taskcluster.config import build, check
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.models.training_module import LanguageModel
from taskcluster.processes.group import RunEnvironment
from taskcluster.processes.interrupts import Interrupts
from taskcluster.processes.places import ALONE, Place, refuse_other_world
from taskcluster.runs.checkpoints import TrustedCheckpointIO, load, refuse_other_model
from taskcluster.runs.folder import RunFolder
from taskcluster.training.callbacks import CheckpointCallback, ClusteringCallback
from taskcluster.training.progress import ProgressCallback
from taskcluster.validation import UserError

OURS = {  # what the Trainer must leave to the other modules
    "max_epochs": -1,
    "use_distributed_sampler": False,  # the batches divide themselves
    "num_sanity_val_steps": 0,
    "logger": False,  # opened once everything else has been accepted
    "enable_checkpointing": False,  # a checkpoint belongs to a measurement
    "enable_progress_bar": False,
    "enable_model_summary": False,
}

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")  # others start processes themselves, or split the model


class TrainingStopped(RuntimeError):
    """Training ended before its last step, though neither a signal nor a limit asked for it."""

    def __init__(self, step: int, max_steps: int) -> None:
        super().__init__(f"a callback stopped training at step {step} of {max_steps}; remove it, or lower max_steps")


def prepare(config: Any) -> tuple[SequenceDataModule, PreTrainedModel]:
    """The data and the untrained network of a resolved configuration. Raises UserError."""
    check(config)
    data = build(config, "data", family=build(config, "task"))
    return data, build(config, "model", vocab_size=len(data.tokenizer), longest=data.longest)


class Experiment:
    """Everything that a run consists of, in any of its processes. Raises UserError where it cannot be built.

    console: where the first process shows how it goes, None for the others; label: how it names itself there.
    """

    def __init__(
        self,
        config: Any,
        run: RunFolder,
        interrupts: Interrupts,
        place: Place = ALONE,
        console: Console | None = None,
        label: str = "",
    ) -> None:
        self.config, self.interrupts = config, interrupts
        self.data, self.network = prepare(config)
        training = partial(build, config, "optimizer"), partial(build, config, "scheduler")
        self.model = LanguageModel(self.network, *training, config["seeds"]["model"])
        self.clustering: ClusteringCallback = build(config, "callbacks.clustering", data=self.data, run=run)
        wired = {"clustering": self.clustering, "run": run, "config": config, "interrupts": interrupts}
        limit = {"max_time": config["trainer"].get("max_time")}
        self.checkpointing: CheckpointCallback = build(config, "callbacks.checkpoint", **wired, **limit)
        others = [build(config, f"callbacks.{k}") for k in config["callbacks"] if k not in ("clustering", "checkpoint")]
        callbacks: list[Callback] = [self.clustering, *others, self.checkpointing]
        if console:
            callbacks.append(ProgressCallback(self.clustering, console, label))
        # With deterministic algorithms torch fills memory that nothing reads: a tenth of a step.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        of_lightning = {"trainer": {key: value for key, value in config["trainer"].items() if key != "max_time"}}
        strategy = config["trainer"].get("strategy", "auto")
        if strategy not in STRATEGIES:
            raise UserError(f"trainer.strategy={strategy!r} is not supported; choose from {', '.join(STRATEGIES)}")
        plugins = [RunEnvironment(place), TrustedCheckpointIO()]
        self.trainer: Trainer = build(
            of_lightning, "trainer", callbacks=callbacks, default_root_dir=run.path, plugins=plugins, **OURS
        )
        refuse_other_world(place, self.trainer.num_devices, self.trainer.num_nodes)
        if self.data.n_rows < self.trainer.world_size:
            raise UserError(f"data.batch_size={self.data.batch_size} leaves a process without a row; raise it")

    def refuse(self, checkpoint: Path) -> None:
        """Raise UserError for a checkpoint that this run cannot begin with."""
        content = load(checkpoint)
        refuse_other_model(checkpoint, content, self.config, self.network)
        if content["global_step"] > self.trainer.max_steps:
            raise UserError(
                f"{checkpoint} is {content['global_step']} steps old, more than "
                f"trainer.max_steps={self.trainer.max_steps}; raise it"
            )

    def fit(self, checkpoint: Path | None, measured: int) -> None:
        """Train to the last step, from a checkpoint if there is one; `measured`: the last step that the journal has.

        Raises TrainingStopped where one of the user's callbacks ended it sooner.
        """
        self.clustering.measured = measured
        with self.interrupts.deferred():
            self.trainer.fit(self.model, self.data, ckpt_path=checkpoint)
            if self.clustering.measured < self.trainer.global_step == self.trainer.max_steps:
                # Of a branch with nothing left to train, Lightning calls no callback.
                self.clustering.on_train_start(self.trainer, self.model)
                self.checkpointing.on_train_start(self.trainer, self.model)
        if self.trainer.global_step < self.trainer.max_steps:
            raise TrainingStopped(self.trainer.global_step, self.trainer.max_steps)
