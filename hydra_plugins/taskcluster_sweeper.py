"""Hydra finds sweepers in this namespace alone. What ours does is in taskcluster.multirun."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ResumingSweeper(BasicSweeper):
    """Every combination, as Hydra's own sweeper, but what is finished is skipped and a table at the end lists all."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from taskcluster.multirun import Multirun

        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        assert self.launcher is not None
        self.task_function = task_function
        self.launcher = Multirun(self.launcher, hydra_context.config_loader, config)

    def sweep(self, arguments: list[str]) -> Any:
        from taskcluster.multirun import jobs

        assert self.hydra_context is not None
        self.launcher.plan(jobs(arguments, self.hydra_context.config_loader, self.config))
        self.launcher.make_room()
        try:
            return self.launcher.run(self.max_batch_size)
        finally:
            self.task_function.exit_code = self.launcher.conclude()
