"""Hydra finds launchers in this namespace alone. What ours do is in taskcluster.operations.multiruns.launchers.

A launcher whose extra is not installed is not there, as in Hydra's own plugins.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hydra.core.utils import JobReturn
from omegaconf import OmegaConf

with suppress(ImportError):
    from hydra_plugins.hydra_submitit_launcher import submitit_launcher

    class SlurmLauncher(submitit_launcher.SlurmLauncher):
        """Jobs of Slurm. One that is lost fails, and the results of all others are still collected."""

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            from taskcluster.operations.multiruns.launchers import launch_on_slurm

            folder = Path(str(self.config.hydra.sweep.dir))
            return launch_on_slurm(self, self.params, folder, job_overrides, initial_job_idx)


with suppress(ImportError):
    from hydra_plugins.hydra_ray_launcher import ray_launcher

    class RayLauncher(ray_launcher.RayLauncher):
        """Tasks of Ray. One that is lost fails, and the results of all others are still collected."""

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            from taskcluster.operations.multiruns.launchers import launch_on_ray

            settings = OmegaConf.to_container(self.ray_cfg, resolve=True)
            about = self.hydra_context, self.task_function, self.config
            return launch_on_ray(*about, settings, job_overrides, initial_job_idx)
