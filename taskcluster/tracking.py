"""Mirrors of the journal for those who follow runs elsewhere."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyLogger

from taskcluster.runs import RunFolder

STEP = "trainer/global_step"  # Lightning's name of the axis


class WandbMirror(Logger):
    """A W&B run of its own, kept in the run folder; `wandb sync` uploads it. Needs no account and no network.

    It opens in the background: that takes a second or more, in which the model can be measured already.
    """

    def __init__(self, run: RunFolder, config: Mapping[str, Any], project: str) -> None:
        super().__init__()
        self._run, self._config, self._project = run, config, project
        self._opening = ThreadPoolExecutor(1).submit(self._open)

    def _open(self) -> Any:
        import wandb

        self._run.path.mkdir(parents=True, exist_ok=True)
        mirror = wandb.init(
            mode="offline",
            project=self._project,
            dir=self._run.path,
            name=self._run.name,
            group=self._run.path.parent.name,  # the condition: runs that differ in their seed alone stand together
            config=dict(self._config),
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off"),
        )
        mirror.define_metric("*", step_metric=STEP)
        return mirror

    @property
    def name(self) -> str:
        return self._project

    @property
    def version(self) -> str:
        return self._run.name

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing: the whole configuration is there from the start."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._opening.result().log({**metrics, STEP: step})

    def finish(self) -> None:
        """End the W&B run, or the next run of this process would log into it."""
        self._opening.result().finish()


def no_logger(run: RunFolder, config: Mapping[str, Any]) -> Logger:
    """The journal alone."""
    return DummyLogger()


def finish(logger: Logger | None) -> None:
    """End a W&B run, if that is what the logger is."""
    if isinstance(logger, WandbMirror):
        logger.finish()
