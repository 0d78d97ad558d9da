"""Launchers of Slurm and Ray that give a failed result for a job that is lost: killed for good, cancelled, or on a node
that never came back. Those that they derive from raise at the first such job, and ask for no result of those after it.

in:  the settings of the launcher, and the overrides of the jobs
out: a JobReturn for every job
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

AT_INIT = {"submitit_folder", "max_num_timeout"}  # settings that submitit takes when its executor is made


def launch_on_slurm(
    call: Callable[..., JobReturn],
    settings: Mapping[str, Any],
    folder: Path,
    jobs: Sequence[Sequence[str]],
    first: int,
) -> list[JobReturn]:
    """All jobs as one array, numbered from `first` on, for a multirun in `folder`.

    call: what each of them does, submitit's launcher itself; settings: of the launcher.
    """
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from submitit import AutoExecutor
    from submitit.core.utils import UncompletedJobError

    logs, timeouts = settings["submitit_folder"], settings["max_num_timeout"]
    executor = AutoExecutor(folder=logs, cluster="slurm", slurm_max_num_timeout=timeouts)
    shared = OmegaConf.structured(BaseQueueConf).keys()  # by all of submitit's executors
    chosen = {key: value for key, value in settings.items() if key not in AT_INIT}
    executor.update_parameters(**{key if key in shared else f"slurm_{key}": value for key, value in chosen.items()})
    folder.mkdir(parents=True, exist_ok=True)
    calls = [
        (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state())
        for number, overrides in enumerate(jobs, first)
    ]
    results = []
    for job in executor.map_array(call, *zip(*calls, strict=True)):
        try:
            results.append(job.results()[0])
        except UncompletedJobError as error:  # the first two lines: the rest is the job's whole error stream
            results.append(_lost(" ".join(str(error).split("\n")[:2])))
    return results


def launch_on_ray(
    context: HydraContext,
    function: TaskFunction,
    config: DictConfig,
    settings: Mapping[str, Any],
    jobs: Sequence[Sequence[str]],
    first: int,
) -> list[JobReturn]:
    """Each job as a task, numbered from `first` on. config: of the multirun; settings: of the launcher."""
    import ray

    setup_globals()
    if not ray.is_initialized():
        ray.init(**settings["init"])
    task = ray.remote(**settings["remote"])(call_on_ray)
    started = []
    for number, overrides in enumerate(jobs, first):
        own = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(own):
            own.hydra.job.id, own.hydra.job.num = f"job_id_for_{number}", number
        started.append(task.remote(context, function, own, Singleton.get_state()))
    results = []
    for running in started:
        try:
            results.append(ray.get(running))
        except ray.exceptions.RayError as error:
            results.append(_lost(str(error).split("\n")[0]))
    return results


def call_on_ray(
    context: HydraContext, function: TaskFunction, config: DictConfig, state: Mapping[str, object]
) -> JobReturn:
    """One job, in a process of Ray."""
    setup_globals()
    Singleton.set_state(state)
    HydraConfig.instance().set_config(config)
    return run_job(
        hydra_context=context,
        task_function=function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _lost(reason: str) -> JobReturn:
    lost = JobReturn()
    lost.status, lost.return_value = JobStatus.FAILED, RuntimeError(reason)
    return lost
