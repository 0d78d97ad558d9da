"""Jobs of Slurm and Ray that are lost fail, and the results of all others are still there."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from taskcluster.launchers import launch_on_ray, launch_on_slurm

JOBS = [["seed=0"], ["seed=1"], ["seed=2"]]
DONE = JobReturn(overrides=[], status=JobStatus.COMPLETED)


def assert_only_the_second_is_lost(results: list[JobReturn], reason: str) -> None:
    assert [result.status for result in results] == [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.COMPLETED]
    with pytest.raises(RuntimeError, match=f"^{reason}$"):
        _ = results[1].return_value


def test_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit")
    lost = importlib.import_module("submitit.core.utils").UncompletedJobError

    def results(number: int) -> list[JobReturn]:
        if number == 11:
            raise lost("Job 1_1 has not produced any output\n(state: CANCELLED)\nits error stream\nfollows")
        return [DONE]

    class Executor:
        def __init__(self, **made_with: object) -> None:
            assert made_with == {"folder": "logs", "cluster": "slurm", "slurm_max_num_timeout": 3}

        def update_parameters(self, **settings: object) -> None:
            assert settings == {"timeout_min": 5, "slurm_partition": "short"}

        def map_array(self, call: object, *arguments: tuple[object, ...]) -> list[object]:
            assert list(arguments[0]) == JOBS
            return [SimpleNamespace(results=lambda number=number: results(number)) for number in arguments[2]]

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    settings = {"submitit_folder": "logs", "max_num_timeout": 3, "timeout_min": 5, "partition": "short"}
    found = launch_on_slurm(lambda: DONE, settings, tmp_path / "sweep", JOBS, first=10)
    assert_only_the_second_is_lost(found, r"Job 1_1 has not produced any output \(state: CANCELLED\)")
    assert (tmp_path / "sweep").is_dir()


def test_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def get(number: int) -> JobReturn:
        if number == 11:
            raise ray.exceptions.WorkerCrashedError
        return DONE

    def remote(**settings: object) -> object:
        assert settings == {"num_cpus": 1}
        start = lambda context, function, config, state: config.hydra.job.num  # noqa: E731
        return lambda call: SimpleNamespace(remote=start)

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "get", get)
    loader = SimpleNamespace(load_sweep_config=lambda config, overrides: OmegaConf.create({"hydra": {"job": {}}}))
    context = SimpleNamespace(config_loader=loader)
    settings = {"init": {}, "remote": {"num_cpus": 1}}
    found = launch_on_ray(context, lambda config: None, OmegaConf.create(), settings, JOBS, first=10)
    assert_only_the_second_is_lost(found, "The worker died unexpectedly while executing this task.*")
