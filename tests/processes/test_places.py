"""Processes that a launcher starts, on one node or several; variables left over from one; and signals in any phase."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import SMALL, Outcome
from faults import Command, train

from taskcluster.processes import leading
from taskcluster.processes.places import ALONE, Place, place, refuse_other_world
from taskcluster.runs.folder import RunFolder
from taskcluster.validation import UserError

Train = Callable[..., Outcome]

RUN = (*SMALL, "trainer=ddp", "model.dropout=0.1", "trainer.max_steps=10")
TORCHRUN = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
SRUN = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2",
    "SLURM_PROCID": "1", "SLURM_LOCALID": "0",
}  # fmt: skip


@pytest.mark.parametrize(
    "left_over",
    [
        {"NODE_RANK": "1"},
        {"WORLD_SIZE": "4", "RANK": "3"},
        {"MASTER_ADDR": "nowhere", "MASTER_PORT": "1"},
        {"LOCAL_RANK": "1", "GROUP_RANK": "1"},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},  # inside salloc, without srun
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        {**TORCHRUN, "WORLD_SIZE": "1", "MASTER_PORT": "29500"},
        {"OMPI_COMM_WORLD_SIZE": "4", "PMI_RANK": "1", "JSM_NAMESPACE_SIZE": "2", "KUBERNETES_PORT": "1"},
    ],
    ids=" ".join,
)
def test_variables_without_their_launcher_do_not_count(left_over: dict[str, str]) -> None:
    assert place(left_over) == ALONE


def test_a_launchers_variables_give_the_place() -> None:
    assert place(TORCHRUN | {"MASTER_PORT": "29500", "GROUP_WORLD_SIZE": "2"}) == Place(
        0, 0, 2, 2, "torchrun", "127.0.0.1", 29500
    )
    assert place(SRUN)._replace(address="") == Place(1, 0, 2, 2, "srun", "", meeting=".meeting-7.0.0")


@pytest.mark.parametrize(
    "contradiction",
    [
        TORCHRUN | {"MASTER_PORT": "29500", "RANK": "2"},
        TORCHRUN | {"MASTER_PORT": "none"},
        TORCHRUN | {"MASTER_PORT": "0"},
        TORCHRUN | {"MASTER_PORT": "29500", "MASTER_ADDR": "no such host."},
        SRUN | {"SLURM_PROCID": "5"},
    ],
    ids=str,
)
def test_variables_that_contradict_each_other_are_refused(contradiction: dict[str, str]) -> None:
    with pytest.raises(UserError):
        place(contradiction)


def test_processes_that_nobody_starts_are_refused() -> None:
    with pytest.raises(UserError, match=r"trainer.num_nodes=2, but this process was started alone"):
        refuse_other_world(ALONE, 2, 2)
    with pytest.raises(UserError, match="do not match the 2 processes on 2 node"):
        refuse_other_world(place(SRUN), 1, 1)


@pytest.mark.slow
def test_several_nodes_are_refused_at_once_without_a_launcher(taskcluster_train: Train) -> None:
    for setting in ("trainer.num_nodes=2", "+trainer.num_nodes=2", "++trainer.num_nodes=2"):
        outcome = taskcluster_train(*RUN, setting)
        assert outcome.exit_code == 2
        (line,) = outcome.err.splitlines()
        assert "trainer.num_nodes=2, but this process was started alone; start the same command on every node" in line


@pytest.fixture(scope="module")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two processes that one command starts, with a variable left over from elsewhere."""
    folder = tmp_path_factory.mktemp("one")
    train(folder, *RUN, "hydra.run.dir=run", variables={"NODE_RANK": "1"})
    return RunFolder(folder / "run")


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@contextmanager
def nodes(folder: Path, *arguments: str) -> Iterator[list["subprocess.Popen[str]"]]:
    """torchrun's agents of two nodes, here on one machine."""
    port = free_port()
    agents = []
    for rank in range(2):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={rank}"]
        command += ["--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"]
        command += ["-m", "taskcluster.train", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        agents.append(subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes))  # type: ignore[call-overload]
    try:
        yield agents
    finally:
        for agent in agents:
            with suppress(ProcessLookupError):
                os.killpg(agent.pid, signal.SIGKILL)
            agent.wait()


TWO_NODES = (*RUN, "trainer.devices=1", "++trainer.num_nodes=2", "hydra.run.dir=run")


@pytest.mark.lasting
@pytest.mark.slow
def test_two_nodes_of_torchrun_end_as_two_processes_on_one(one_node: RunFolder, tmp_path: Path) -> None:
    with nodes(tmp_path, *TWO_NODES) as agents:
        outputs = [agent.communicate(timeout=120)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], "\n".join(outputs)
    run = RunFolder(tmp_path / "run")
    assert [row["step"] for row in run.rows()] == [row["step"] for row in one_node.rows()]
    for row, other in zip(run.rows(), one_node.rows(), strict=True):
        assert {k: v for k, v in row.items() if "/" in k} == {k: v for k, v in other.items() if "/" in k}


@pytest.mark.slow
def test_a_process_that_does_not_come_is_named(
    taskcluster_train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert leading.COMING <= 120
    monkeypatch.setattr(leading, "COMING", 2)
    for name, value in (TORCHRUN | {"MASTER_PORT": free_port(), "GROUP_WORLD_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    outcome = taskcluster_train(*TWO_NODES)
    assert outcome.exit_code == 1
    (line,) = outcome.err.splitlines()
    assert "process 1 of 2 did not appear within 2 s; check that it was started" in line
    assert RunFolder(tmp_path / "run").status()["state"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_another_process(tmp_path: Path, number: signal.Signals) -> None:
    variables = TORCHRUN | {"MASTER_PORT": free_port(), "GROUP_WORLD_SIZE": "2"}
    run = RunFolder(tmp_path / "run")
    process = Command(tmp_path, *TWO_NODES, variables=variables)
    process.until(lambda: run.status().get("state") == "running")
    began = time.monotonic()
    process.send(number)
    code, output = process.end()
    assert time.monotonic() - began < 15
    assert code == (143 if number == signal.SIGTERM else 130)
    assert "Traceback" not in output
    assert run.status()["state"] == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["measuring", "drawing"])
def test_a_signal_ends_what_takes_long_and_the_command_makes_up_for_it(tmp_path: Path, phase: str) -> None:
    run = RunFolder(tmp_path / "run")
    large = "clusterer.n_init=100000" if phase == "measuring" else "trainer.max_steps=6"
    command = [*SMALL, large, "hydra.run.dir=run"]
    process = Command(tmp_path, *command, figures=True)
    process.until(lambda: run.status().get("state") == ("running" if phase == "measuring" else "finished"))
    time.sleep(0.5)
    began = time.monotonic()
    process.send(signal.SIGTERM)
    code, output = process.end()
    assert time.monotonic() - began < 15
    assert code in ((143,) if phase == "measuring" else (143, 0))
    assert "Traceback" not in output
    if phase == "drawing":
        train(tmp_path, *command, figures=True)
        assert (run.figures / "index.html").is_file()
    else:
        assert run.status()["state"] == "interrupted"
