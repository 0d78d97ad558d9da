"""Multiruns on a real Slurm and a real Ray: interrupted runs end bit-equal to uninterrupted ones."""

import contextlib
import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import SMALL
from faults import assert_identical, timeless

from taskcluster.runs.folder import RunFolder

pytestmark = pytest.mark.slow

SLURM = Path(__file__).parents[1] / "slurm"
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "sacctmgr", "munged", "mariadbd", "mariadb-install-db")
MISSING = [name for name in PROGRAMS if not shutil.which(name)]
MISSING += [] if importlib.util.find_spec("submitit") else ["submitit"]
# Five seconds of training or more, and a journal of 16 rows. (Of two values of a key the later counts.)
RUN = (*SMALL, "trainer.max_steps=600", "callbacks.measurement.every_n_steps=40", "callbacks.measurement.n_early=0")
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "SLURM_", "RAY_"))}
ENVIRONMENT["RAY_worker_niceness"] = "0"  # Ray's 15 leaves its jobs a thirtieth of the cores beside other tests

needs_slurm = pytest.mark.skipif(
    bool(MISSING) or os.geteuid() != 0,
    reason=f"needs root, and slurm-wlm munge slurmdbd mariadb-server submitit; not here: {' '.join(MISSING) or '-'}",
)
needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason='needs Ray: pip install ".[ray]"')


class Multirun:
    """`taskcluster-train -m ARGUMENTS` in a folder, while it runs and after."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder
        self.out = folder / "output.txt"
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "taskcluster.train", "-m", "name=engine", *RUN, *arguments],
                cwd=folder,
                env=ENVIRONMENT | environment,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def run(self, seed: int) -> RunFolder:
        found = list(self.folder.glob(f"multirun/engine/*/seed={seed}"))
        return RunFolder(found[0] if found else self.folder / "not yet")

    def until(self, happened: Callable[[], object], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert self.process.poll() is None, self.out.read_text()
            assert time.monotonic() < end, self.out.read_text()
            time.sleep(0.05)

    def ends_well(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):  # the output says more
            self.process.wait(timeout=480)
        assert self.process.poll() == 0, self.out.read_text()
        assert "Traceback" not in self.out.read_text()
        assert "Warning" not in self.out.read_text()


@pytest.fixture
def multirun(tmp_path: Path) -> Iterator[Callable[..., Multirun]]:
    started: list[Multirun] = []

    def start(*arguments: str, **environment: str) -> Multirun:
        started.append(Multirun(tmp_path, *arguments, **environment))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Seed 0, alone and with one thread, as a job of one core has."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = [sys.executable, "-m", "taskcluster.train", *RUN, "hydra.run.dir=run"]
    subprocess.run(command, cwd=folder, check=True, env=ENVIRONMENT | {"OMP_NUM_THREADS": "1"}, capture_output=True)
    return RunFolder(folder / "run")


def assert_resumed(run: RunFolder, undisturbed: RunFolder) -> None:
    """It was started at least twice, later not from the beginning, and this is not to be seen in the result."""
    begun, *again = (start["step"] for start in run.status()["starts"])
    assert begun == 0
    assert again
    assert all(again)
    assert_identical(run, undisturbed)


# Slurm


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """The environment in which commands reach a Slurm of two nodes that is ours alone."""
    folder = tempfile.mkdtemp(prefix="slurm")  # not pytest's: a socket's path must be short
    try:
        subprocess.run([SLURM / "start.sh", folder, "2"], check=True, timeout=120)
        yield {"SLURM_CONF": f"{folder}/slurm.conf"}
    finally:
        subprocess.run([SLURM / "stop.sh", folder], check=True, timeout=120)
        shutil.rmtree(folder)


ON_SLURM = ("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1")


@needs_slurm
def test_a_job_that_reaches_its_time_limit_ends_as_the_undisturbed_one(
    slurm: dict[str, str], multirun: Callable[..., Multirun], undisturbed: RunFolder
) -> None:
    def ask(*command: str) -> str:
        return subprocess.run(command, env=ENVIRONMENT | slurm, check=True, capture_output=True, text=True).stdout

    one = multirun(*ON_SLURM, "seed=0", "hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=10", **slurm)
    one.until(lambda: len(one.run(0).rows()) >= 2)  # more would take a busy machine longer than the limit
    job = ask("squeue", "--noheader", "--format=%i").strip()
    # It sleeps until Slurm's signal wakes it, 20 to 50 s after its start, however long the machine would take to train.
    ask("scancel", "--signal=STOP", job)
    one.until(lambda: "Restarts=1" in ask("scontrol", "show", "job", job))
    # Slurm holds a requeued job for two minutes. A busy machine would train for another limit, and wait once more.
    ask("scontrol", "update", f"JobId={job}", "TimeLimit=10")
    one.ends_well()
    assert_resumed(one.run(0), undisturbed)


@needs_slurm
def test_a_run_on_two_nodes_ends_as_one_of_two_processes(
    slurm: dict[str, str], multirun: Callable[..., Multirun], tmp_path: Path
) -> None:
    ddp = ("trainer=ddp", "trainer.max_steps=80")
    across = ("hydra.launcher.nodes=2", "trainer.devices=1", "trainer.num_nodes=2")
    one = multirun(*ON_SLURM, *ddp, *across, "seed=0", **slurm, MASTER_ADDR="127.0.0.1")  # node1 is no host's name
    command = [sys.executable, "-m", "taskcluster.train", *RUN, *ddp, "hydra.run.dir=here"]
    subprocess.run(command, cwd=tmp_path, check=True, env=ENVIRONMENT | {"OMP_NUM_THREADS": "2"}, capture_output=True)
    one.ends_well()
    assert timeless(one.run(0)) == timeless(RunFolder(tmp_path / "here"))


# Ray


@pytest.fixture
def token(tmp_path: Path) -> dict[str, str]:
    """What a Ray and those who ask it share, in place of a file in the home folder."""
    file = tmp_path / "token"
    file.write_text(secrets.token_hex(32))
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}


def workers(folder: Path) -> list[psutil.Process]:
    """The processes of Ray that execute a job in this folder."""
    processes = psutil.process_iter(["cmdline", "cwd"])
    found = [process for process in processes if process.info["cwd"] == str(folder)]
    return [process for process in found if "".join(process.info["cmdline"] or ()).startswith("ray::job")]


@needs_ray
def test_a_job_whose_process_is_killed_ends_as_the_undisturbed_one(
    multirun: Callable[..., Multirun], token: dict[str, str], undisturbed: RunFolder, tmp_path: Path
) -> None:
    many = multirun("hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=1", "seed=0,1", **token)
    many.until(lambda: len(many.run(0).rows()) >= 4)
    (process,) = workers(tmp_path)
    process.kill()
    many.ends_well()
    assert_resumed(many.run(0), undisturbed)
    assert many.run(1).status()["state"] == "finished"
