"""taskcluster-train: compose the configuration, wire the parts, train, judge, draw."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from taskcluster import cli

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from taskcluster.datamodule import SequenceDataModule


OURS = {  # what the Trainer must leave to the other modules
    "max_epochs": -1,
    "use_distributed_sampler": False,  # the batches divide themselves
    "num_sanity_val_steps": 0,
    "logger": False,  # opened once everything else has been accepted
    "enable_checkpointing": False,  # a checkpoint belongs to a measurement
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def main() -> None:
    cli.run(job)


def job(cfg: DictConfig) -> None:
    """One run in the folder that Hydra chose. Imports what trains only here, so that --help is quick."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from taskcluster.model import TrainingDiverged
    from taskcluster.validation import ConfigError

    config: Any = OmegaConf.to_container(cfg, resolve=True)
    folder = Path(HydraConfig.get().runtime.output_dir)
    of_many = HydraConfig.get().mode is RunMode.MULTIRUN
    try:
        if of_many and config["trainer"].get("strategy") == "ddp":
            raise ConfigError("trainer.strategy='ddp' would repeat the whole multirun in every process; run it alone")
        train(config, folder, of_many)
    except ConfigError as error:
        cli.report(str(error))
        raise cli.Reported(2) from error
    except TrainingDiverged as error:
        cli.report(f"{error}; lower optimizer.lr. The journal and the checkpoints so far are in {folder}")
        raise cli.Reported(1) from error
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the first into the second
        cli.report(f"interrupted. The journal and the checkpoints so far are in {folder}")
        sys.exit(130)


def prepare(config: Any) -> "tuple[SequenceDataModule, PreTrainedModel]":
    """The data and the untrained network of a resolved configuration."""
    from taskcluster.config import build, check

    check(config)
    data = build(config, "data", family=build(config, "task"))
    return data, build(config, "model", vocab_size=len(data.tokenizer), longest=data.longest)


def train(config: Any, folder: Path, of_many: bool = False) -> None:
    """Train in `folder`, unless it holds this run already; then say what came of it. A run `of_many` names itself.

    Raises ConfigError before anything is written where the configuration or the folder cannot be used, and
    TrainingDiverged when the loss is lost.
    """
    import pytorch_lightning as pl
    import torch
    from rich.console import Console

    from taskcluster import tracking
    from taskcluster.config import build, check
    from taskcluster.interrupts import InterruptCallback
    from taskcluster.model import LanguageModel
    from taskcluster.progress import ProgressCallback, quieten
    from taskcluster.runs import RunFolder
    from taskcluster.validation import ConfigError

    quieten()
    check(config)
    run, console = RunFolder(folder), Console(force_terminal=False if of_many else None)
    if differing := run.differing_keys(config):
        raise ConfigError(
            f"{folder} holds a run of another configuration, which differs in {', '.join(differing)}; "
            "choose another name= or hydra.run.dir="
        )
    if run.status().get("state") == "finished":
        from taskcluster.outcome import show

        console.print("This run is finished already.")
        show(run, console)
        return

    # With deterministic algorithms torch fills memory that nothing reads: a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    pl.seed_everything(config["seeds"]["model"], verbose=False)
    data, network = prepare(config)
    model = LanguageModel(network, partial(build, config, "optimizer"), partial(build, config, "scheduler"))
    clustering = build(config, "callbacks.clustering", data=data, run=run)
    others = [build(config, f"callbacks.{name}") for name in config["callbacks"] if name != "clustering"]
    progress = ProgressCallback(clustering, console, run.name if of_many else "")
    interrupts = InterruptCallback()
    callbacks = [clustering, *others, progress, interrupts]
    trainer = build(config, "trainer", callbacks=callbacks, default_root_dir=folder, **OURS)
    if data.n_rows < trainer.world_size:
        raise ConfigError(f"data.batch_size={data.batch_size} leaves a process without a row; raise it")
    if trainer.is_global_zero:
        trainer.logger = build(config, "logger", run=run, config=config)
    with run.writing(config, owner=trainer.is_global_zero, device=str(trainer.strategy.root_device)):
        try:
            with interrupts:
                trainer.fit(model, data)
        finally:
            tracking.finish(trainer.logger)
        if trainer.is_global_zero:
            from taskcluster.outcome import conclude  # imported only now, as charts and t-SNE take long to load

            conclude(run, data, network, console)


if __name__ == "__main__":
    main()
