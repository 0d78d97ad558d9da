"""Mirrors of the journal for those who follow runs elsewhere."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger

from taskcluster.runs import RunFolder


def wandb_offline(run: RunFolder, config: Mapping[str, Any], project: str) -> Logger:
    """A W&B run of its own, kept in the run folder; `wandb sync` uploads it. Needs no account and no network."""
    import wandb

    run.path.mkdir(parents=True, exist_ok=True)
    mirror = wandb.init(
        mode="offline",
        project=project,
        dir=run.path,
        name=run.name,
        group=run.path.parent.name,  # the condition: runs that differ in their seed alone stand together
        config=dict(config),
        reinit="finish_previous",
        settings=wandb.Settings(silent=True, console="off"),
    )
    return WandbLogger(experiment=mirror)


def no_logger(run: RunFolder, config: Mapping[str, Any]) -> Logger:
    """The journal alone."""
    return DummyLogger()


def finish(logger: Logger | None) -> None:
    """End a W&B run, or the next run of this process would log into it."""
    if isinstance(logger, WandbLogger):
        logger.experiment.finish()
