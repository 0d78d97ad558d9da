"""Jobs of a multirun that are lost: killed for good, cancelled, or on a node that never came back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher


@contextmanager
def lost_jobs_fail(launcher: Launcher) -> Iterator[None]:
    """A context in which the launcher of Slurm or Ray returns a failed JobReturn for a job that is lost.

    By itself it raises at the first such job, and asks for no result of those after it.
    """
    if type(launcher).__name__ == "SlurmLauncher":
        from submitit.core.core import Job
        from submitit.core.utils import UncompletedJobError

        results = Job.results

        def results_or_lost(job: Any) -> list[Any]:
            try:
                return results(job)
            except UncompletedJobError as error:  # the first two lines: the rest is the job's whole error stream
                return [_lost(" ".join(str(error).split("\n")[:2]))]

        with patch.object(Job, "results", results_or_lost):
            yield
    elif type(launcher).__name__ == "RayLauncher":
        import ray

        get = ray.get

        def get_or_lost(task: Any, **options: Any) -> Any:
            try:
                return get(task, **options)
            except ray.exceptions.RayError as error:
                return _lost(str(error).split("\n")[0])

        with patch.object(ray, "get", get_or_lost):
            yield
    else:
        yield


def _lost(reason: str) -> JobReturn:
    lost = JobReturn()
    lost.status, lost.return_value = JobStatus.FAILED, RuntimeError(reason)
    return lost
