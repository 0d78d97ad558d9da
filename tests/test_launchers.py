"""Jobs of Slurm and Ray that are lost fail, and the results of all others are still there."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from taskcluster.operations.multiruns.launchers import launch_on_ray, launch_on_slurm

JOBS = [["seed=0"], ["seed=1"], ["seed=2"]]
DONE = JobReturn(overrides=[], status=JobStatus.COMPLETED)
LOST = 11  # the number of the second job


def assert_only_the_second_is_lost(results: list[JobReturn], reason: str) -> None:
    assert [result.status for result in results] == [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.COMPLETED]
    with pytest.raises(RuntimeError, match=f"^{reason}$"):
        _ = results[1].return_value


def test_a_lost_job_of_slurm_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit")
    lost = importlib.import_module("submitit.core.utils").UncompletedJobError
    given: dict[str, object] = {}

    def results(number: int) -> list[JobReturn]:
        if number == LOST:
            raise lost("Job 1_1 has not produced any output\n(state: CANCELLED)\nits error stream\nfollows")
        return [DONE]

    def map_array(call: object, *arguments: tuple[int, ...]) -> list[object]:
        return [SimpleNamespace(results=lambda number=number: results(number)) for number in arguments[2]]

    executor = SimpleNamespace(update_parameters=given.update, map_array=map_array)
    monkeypatch.setattr(submitit, "AutoExecutor", lambda **made_with: given.update(made_with) or executor)
    settings = {"submitit_folder": "logs", "max_num_timeout": 3, "timeout_min": 5, "partition": "short"}
    returned = launch_on_slurm(lambda: DONE, settings, tmp_path, JOBS, first=10)
    assert_only_the_second_is_lost(returned, r"Job 1_1 has not produced any output \(state: CANCELLED\)")
    made_with = {"folder": "logs", "cluster": "slurm", "slurm_max_num_timeout": 3}
    assert given == {**made_with, "timeout_min": 5, "slurm_partition": "short"}


def test_a_lost_job_of_ray_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def get(number: int) -> JobReturn:
        if number == LOST:
            raise ray.exceptions.WorkerCrashedError
        return DONE

    task = SimpleNamespace(remote=lambda context, function, config, state: config.hydra.job.num)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "remote", lambda num_cpus: lambda call: task)
    monkeypatch.setattr(ray, "get", get)
    loader = SimpleNamespace(load_sweep_config=lambda config, overrides: OmegaConf.create({"hydra": {"job": {}}}))
    context = SimpleNamespace(config_loader=loader)
    settings = {"init": {}, "remote": {"num_cpus": 1}}
    returned = launch_on_ray(context, lambda config: None, OmegaConf.create(), settings, JOBS, first=10)
    assert_only_the_second_is_lost(returned, "The worker died unexpectedly while executing this task.*")
