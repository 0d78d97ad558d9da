"""Mirrors of the journal for those who follow runs elsewhere."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyLogger

from taskcluster.runs import RunFolder

STEP = "trainer/global_step"  # Lightning's name of the axis


class WandbMirror(Logger):
    """A W&B run in the run folder, one for every start, each with the whole journal: `wandb sync` uploads the newest.

    Needs no account and no network.
    """

    def __init__(self, run: RunFolder, config: Mapping[str, Any], project: str) -> None:
        import wandb

        super().__init__()
        self._name, self._project = run.name, project
        self._mirror = wandb.init(
            mode="offline",
            project=project,
            dir=run.path,
            id=run.status()["id"],
            name=run.name,
            group=run.path.parent.name,  # the condition: runs that differ in their seed alone stand together
            config=dict(config),
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._mirror.define_metric("*", step_metric=STEP)
        for row in run.rows():
            self.log_metrics({key: value for key, value in row.items() if "/" in key}, row["step"])

    @property
    def name(self) -> str:
        return self._project

    @property
    def version(self) -> str:
        return self._name

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing: the whole configuration is there from the start."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._mirror.log({**metrics, STEP: step})

    def finish(self) -> None:
        """End the W&B run, or the next run of this process would log into it."""
        self._mirror.finish()


def no_logger(run: RunFolder, config: Mapping[str, Any]) -> Logger:
    """The journal alone."""
    return DummyLogger()


def finish(logger: Logger | None) -> None:
    """End a W&B run, if that is what the logger is."""
    if isinstance(logger, WandbMirror):
        logger.finish()
