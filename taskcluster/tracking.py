"""Mirrors of the journal for those who follow runs elsewhere."""

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger

from taskcluster.runs import RunFolder


def wandb_offline(run: RunFolder, project: str) -> Logger:
    """A W&B run of its own, kept in the run folder; `wandb sync` uploads it. Needs no account and no network."""
    import wandb

    run.path.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(silent=True, console="off")
    name = "/".join(run.path.parts[-2:])
    group = run.path.parent.name  # the condition: runs that differ in their seed alone stand together
    return WandbLogger(
        name=name, save_dir=run.path, project=project, offline=True, group=group, settings=settings, log_model=False
    )


def no_logger(run: RunFolder) -> Logger:
    """The journal alone."""
    return DummyLogger()


def finish(logger: Logger | None) -> None:
    """End a W&B run, or the next run of this process would log into it."""
    if isinstance(logger, WandbLogger):
        logger.experiment.finish()
