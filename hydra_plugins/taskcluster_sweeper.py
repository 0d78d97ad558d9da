"""Register the sweeper: Hydra looks for sweepers in this namespace only. The code is in
taskcluster.operations.multiruns."""

from collections.abc import Sequence

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig


class ResumingSweeper(Sweeper):
    """Run every combination, as Hydra's own sweeper does, but skip finished runs and print a table of all runs at the
    end.

    max_batch_size: jobs handed to the launcher at once, None for all. params, grids: values to sweep, beside those of
    the command, which planning.jobs reads from the configuration.
    """

    def __init__(
        self, max_batch_size: int | None, params: DictConfig | None = None, grids: ListConfig | None = None
    ) -> None:
        self.max_batch_size, self.params, self.grids = max_batch_size, params, grids

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        from taskcluster.operations.multiruns.multirun import Multirun
        from taskcluster.operations.multiruns.planning import Planner, jobs

        loader = self.hydra_context.config_loader
        plan = Planner(self.launcher, loader, self.config)
        multirun = Multirun(self.launcher, self.config, plan(jobs(arguments, loader, self.config)))
        multirun.make_room()
        try:
            return multirun.run(self.max_batch_size)
        finally:
            self.task_function.exit_code = multirun.conclude()
