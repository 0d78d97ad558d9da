"""The parts of one run, built from its configuration and wired together."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from rich.console import Console
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from taskcluster.config import RunConfig
from taskcluster.config import Trainer as TrainerConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.clusterers.clusterer import Clusterer
from taskcluster.measures.measure import SPLITS, Measure, Measurement
from taskcluster.models.architecture import takes_mask
from taskcluster.models.attention import attend_selectively
from taskcluster.models.hidden_states import check
from taskcluster.models.training_module import LanguageModel
from taskcluster.objectives.objective import Objective, Objectives
from taskcluster.operations.processes.group import count, share_out
from taskcluster.operations.processes.interrupts import Interrupts
from taskcluster.operations.processes.launch import cluster_environment
from taskcluster.runs.checkpoints import TrustedCheckpointIO, load, network_weights, refuse_other_weights
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.resume import Start
from taskcluster.tasks.family import TaskFamily
from taskcluster.training.callbacks import CheckpointCallback, MeasurementCallback
from taskcluster.training.progress import ProgressCallback
from taskcluster.training.series import Series, put_checkpoint, refuse_different, series
from taskcluster.training.snapshots import spread
from taskcluster.validation import UserError
from taskcluster.work import doing

OURS = {  # features of the Trainer that other modules replace
    "max_epochs": -1,
    "use_distributed_sampler": False,  # the batches divide themselves
    "num_sanity_val_steps": 0,
    "logger": False,  # opened once everything else has been accepted
    "enable_checkpointing": False,  # a checkpoint belongs to a measurement
    "enable_progress_bar": False,
    "enable_model_summary": False,
}

WEIGHTS = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}  # by precision

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")  # others start processes themselves or split the model


class TrainingStopped(RuntimeError):
    """Training ended before its last step without a signal or a limit."""


def prepare(config: RunConfig) -> tuple[SequenceDataModule, PreTrainedModel]:
    """The data and the network of a run as it begins, in the precision that training holds its weights in: of several
    checkpoints, the first. Raises UserError."""
    steps = series(config)
    refuse_placed(config, steps)
    refuse_different(steps or {0: config})
    config = next(iter(steps.values()), config)
    data = config.data.build(SequenceDataModule, family=config.task.build(TaskFamily))
    network = config.model.build(PreTrainedModel, vocab_size=len(data.tokenizer), longest=data.longest)
    if precision := WEIGHTS.get(str(config.trainer.precision)):
        network.to(precision)  # type: ignore[arg-type]  # wrapped without types
    check(network)
    if not data.padding and not takes_mask(network):
        raise UserError(
            f"model: {type(network).__name__} accepts no mask of (T, T), which several sequences in a line need; "
            "choose data.layout=padded"
        )
    asked = objectives(config, data, network)
    data.weights, data.hidden = asked.weights, asked.measured
    data.fixed_shape = config.trainer.compile is not None
    if asked.is_selective:
        attend_selectively(network)
    return data, network


def objectives(config: RunConfig, data: SequenceDataModule, network: PreTrainedModel) -> Objectives:
    """Build the objectives. Raises UserError."""
    offered = {"data": data, "n_layer": network.config.num_hidden_layers}
    return Objectives({name: node.build(Objective, offered=offered) for name, node in config.objective.items()})


def refuse_device(chosen: TrainerConfig) -> None:
    """Raise UserError for a GPU that this machine does not have, and for a precision that needs one."""
    if torch.accelerator.is_available() and chosen.accelerator != "cpu":
        return
    if chosen.accelerator in ("gpu", "cuda"):
        raise UserError(
            f"trainer.accelerator={chosen.accelerator!r}: this machine has no GPU that torch can use; "
            "choose trainer=cpu"
        )
    if str(chosen.precision).startswith("16"):
        raise UserError(f"trainer.precision={chosen.precision!r} needs a GPU; choose bf16-mixed or 32-true")
    if chosen.compile == "reduce-overhead":
        raise UserError("trainer.compile='reduce-overhead' needs a GPU; choose default, or leave it out")


def refuse_placed(config: RunConfig, steps: Series) -> None:
    """Raise UserError for training with a map of devices or quantized weights, and for converting or replacing the
    latter."""
    model, trainer = config.model.arguments, config.trainer
    placed = [f"model.{key}={model[key]!r}" for key in ("device_map", "bits") if model.get(key)]
    if placed and trainer.max_steps:
        raise UserError(f"{placed[0]} is for a model that is only measured; set trainer.max_steps=0, or leave it out")
    if model.get("bits") and (len(steps) > 1 or str(trainer.precision) in WEIGHTS):
        asked = (
            "needs one model in its own precision, not several checkpoints or a trainer.precision that converts weights"
        )
        raise UserError(f"{placed[-1]} {asked}; leave it out")


def measuring(config: RunConfig, data: SequenceDataModule, network: PreTrainedModel) -> Measurement:
    """Build the measurement of a run; without training, of validation alone. Raises UserError."""
    clusterer = config.clusterer.build(Clusterer)  # type: ignore[type-abstract]
    offered = {"data": data, "clusterer": clusterer, "n_layer": network.config.num_hidden_layers}
    measures = {
        name: node.build(Measure, offered=offered)  # type: ignore[type-abstract]
        for name, node in config.measures.items()
    }
    try:
        measurement = Measurement(data, measures, SPLITS if config.trainer.max_steps else ("val",))
    except ValueError as error:
        raise UserError(f"measures: {error}") from error
    for name, measure in measures.items():
        if measure.reads_attention:
            attend_selectively(network, f"measures.{name}")
    measurement.executor, measurement.n_workers = share_out, count
    return measurement


def language_model(config: RunConfig, data: SequenceDataModule, network: PreTrainedModel) -> LanguageModel:
    """The network with its loss, optimizer and schedule. Raises UserError."""
    asked = objectives(config, data, network)
    asked.check(network, data)
    return LanguageModel(
        network,
        optimizer=lambda groups: config.optimizer.build(Optimizer, groups),
        scheduler=lambda optimizer: config.scheduler.build(LambdaLR, optimizer),
        loss=asked.compiled(mode) if (mode := config.trainer.compile) else asked.loss,
        seed=config.seeds.model,
    )


class Experiment:
    """A run's callbacks and its trainer around data, model and measures, in any of its processes.

    console: where the first process shows progress; label: the name of the run there. Raises UserError for parts that
    do not fit together.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunFolder,
        data: SequenceDataModule,
        model: LanguageModel,
        measurement: Measurement,
        console: Console,
        label: str = "",
    ) -> None:
        self.config, self.run, self.data, self.model, self.measurement = config, run, data, model, measurement
        self.series = series(config)
        self.last = max(self.series, default=config.trainer.max_steps)
        nodes = dict(config.callbacks)
        self.measuring = nodes.pop("measurement").build(MeasurementCallback, measurement=measurement, run=run)
        wired: dict[str, Any] = {
            "measuring": self.measuring,
            "run": run,
            "config": config.as_dict(),
            "max_time": config.trainer.max_time,
        }
        self.checkpointing = nodes.pop("checkpoint").build(CheckpointCallback, **wired)
        others = [node.build(Callback) for node in nodes.values()]
        self.progress = ProgressCallback(self.measuring, console, label)
        # With deterministic algorithms torch fills memory that nothing reads: a tenth of a step.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.trainer = self._trainer([self.measuring, *others, self.checkpointing, self.progress])
        self.is_first = self.trainer.is_global_zero  # whether this process writes
        if data.n_rows < self.trainer.world_size:
            raise UserError(f"data.batch_size={data.batch_size} leaves a process without data; raise it")
        if config.trainer.compile and self.trainer.world_size > 1:
            raise UserError(f"trainer.compile={config.trainer.compile!r} is for one process; leave it out")

    def _trainer(self, callbacks: list[Callback]) -> Trainer:
        chosen = self.config.trainer
        if chosen.strategy not in STRATEGIES:
            raise UserError(f"trainer.strategy={chosen.strategy!r} is not supported; choose {' or '.join(STRATEGIES)}")
        wired: dict[str, Any] = {
            "callbacks": callbacks,
            "default_root_dir": self.run.path,
            "plugins": [cluster_environment(), TrustedCheckpointIO()],
            **OURS,
        }
        try:
            return chosen.build(Trainer, leave_out=TrainerConfig.EXTRA, **wired)
        except MisconfigurationException as error:
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error

    def broadcast(self, start: Start) -> Start:
        """Return the first process's value in all processes of the run."""
        if self.trainer.world_size > 1:
            self.trainer.strategy.setup_environment()
        return self.trainer.strategy.broadcast(start)

    def refuse(self, checkpoint: Path) -> None:
        """Raise UserError for a checkpoint that this run cannot begin with."""
        content, optimizer = load(checkpoint), self.config.optimizer.target
        refuse_other_weights(checkpoint, network_weights(content), self.model.network)
        trained_with = content.get("config", {}).get("optimizer", {}).get("_target_")
        if trained_with != optimizer:
            raise UserError(
                f"{checkpoint} was trained with {trained_with}, not {optimizer}; choose the matching optimizer"
            )
        if content["global_step"] > self.trainer.max_steps:
            raise UserError(
                f"{checkpoint} was saved at step {content['global_step']}, after "
                f"trainer.max_steps={self.trainer.max_steps}; raise it"
            )

    def fit(self, checkpoint: Path | None, measured: int) -> None:
        """Train to the last step, from a checkpoint if there is one; `measured`: the last step that the journal has.

        Raises TrainingStopped where one of the user's callbacks ended it sooner.
        """
        self.measuring.measured = measured
        trainer = self.trainer
        try:
            with Interrupts.current.deferred():
                trainer.fit(self.model, self.data, ckpt_path=checkpoint)
                # Of a run with nothing left to train, Lightning calls no callback, and leaves the network on the CPU.
                if self.series:
                    self._measure_series()
                elif self.measuring.measured < trainer.global_step == trainer.max_steps:
                    self.model.to(trainer.strategy.root_device)
                    self.measuring.on_train_start(trainer, self.model)
                    self.checkpointing.on_train_start(trainer, self.model)
        finally:
            self.progress.close()
            if dist.is_initialized():
                dist.destroy_process_group()
        if trainer.global_step < trainer.max_steps:
            raise TrainingStopped(
                f"a callback stopped training at step {trainer.global_step} of {trainer.max_steps}; remove it, or "
                "lower max_steps"
            )

    def _measure_series(self) -> None:
        """Measure the checkpoints of a series that the journal lacks, each as it is; the network then has the last one.
        Raises Interrupted, and UserError for a checkpoint that cannot be measured."""
        self.model.to(self.trainer.strategy.root_device)
        self.measuring.due = [step for step in self.series if step > self.measuring.measured]
        self.measuring.snapshots.planned = spread([*self.series])
        self.measuring.begin(self.trainer)
        self.checkpointing.begin()
        if not self.measuring.due:
            put_checkpoint(self.series[self.last], self.data, self.model.network)
        with doing("checkpoint", total=len(self.measuring.due)) as part:
            while self.measuring.due:
                step = self.measuring.due[0]
                if step != min(self.series):  # which the network is built with
                    put_checkpoint(self.series[step], self.data, self.model.network)
                self.measuring.measure(self.trainer, self.model, step, last=step == self.last)
                self.progress.print_rows()
                self.checkpointing.save_if_due(self.trainer, done=not self.measuring.due)
                part.done = part.total - len(self.measuring.due)
