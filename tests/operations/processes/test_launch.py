"""Runs of several processes: started by the command itself, by torchrun, or refused; resumed, signalled and killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import SMALL, Train
from faults import Command, assert_identical, timeless, train

from taskcluster.config import RunConfig
from taskcluster.operations.command_line.cli import composed
from taskcluster.operations.processes.launch import launcher, missing_processes, rank
from taskcluster.runs.folder import RunFolder

RUN = (*SMALL, "trainer=ddp", "model.dropout=0.1", "trainer.max_steps=10")
ENDLESS = "trainer.max_steps=100000"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "elsewhere"}, ("", 0)),  # without torchrun
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, ("", 0)),  # inside salloc, without srun
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, ("", 0)),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, ("srun", 1)),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "RANK": "1"}, ("torchrun", 1)),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "1", "RANK": "0"}, ("", 0)),
    ],
)
def test_only_a_launcher_of_several_processes_counts(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple[str, int]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (launcher(), rank()) == expected


@pytest.mark.parametrize(("devices", "n"), [("1", 1), ("3", 3), ("[0,1]", 2), ("auto", 1), ("-1", 1)])
def test_as_many_processes_are_missing_as_devices(devices: str, n: int) -> None:
    config = RunConfig.of(composed(*SMALL, "trainer=ddp", f"trainer.devices={devices}"))
    assert missing_processes(config.trainer) == n


def test_several_nodes_are_refused_without_a_launcher(taskcluster_train: Train) -> None:
    assert (
        "trainer.num_nodes=2, but this process was started alone; start the same command on every node"
        in taskcluster_train(*RUN, "trainer.num_nodes=2").refusal()
    )


@pytest.mark.slow
def test_two_nodes_of_torchrun_measure_what_two_processes_of_one_command_do(tmp_path: Path) -> None:
    train(tmp_path, *RUN, "hydra.run.dir=one", variables={"NODE_RANK": "1"})  # left over from elsewhere
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*RUN, "trainer.devices=1", "++trainer.num_nodes=2", "hydra.run.dir=two"]
    agents = []
    for node in range(2):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}"]
        command += ["--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"]
        command += ["-m", "taskcluster.train", *words]
        agents.append(subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}))
    try:
        assert [agent.wait(120) for agent in agents] == [0, 0]
    finally:
        for agent in agents:
            agent.kill()
    one, two = (RunFolder(tmp_path / name) for name in ("one", "two"))
    assert timeless(one) == timeless(two) != []


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_processes_that_share_a_run_measure_what_one_does_in_a_multirun_too(
    taskcluster_train: Train, tmp_path: Path
) -> None:
    asked = [
        "objective=[next_token,bottleneck,detached]",
        "objective.bottleneck.probability=0.5",
        "objective.bottleneck.until=4",
    ]
    sweep = ["-m", *SMALL, *asked, "hydra.sweep.subdir=${trainer.devices}", "name=sweep"]
    assert taskcluster_train(*sweep, "trainer=cpu,ddp").exit_code == 0
    one, two = (RunFolder(tmp_path / f"multirun/sweep/{devices}") for devices in (1, 2))
    assert [row["step"] for row in one.rows()] == [row["step"] for row in two.rows()] == [0, 2, 4, 6]
    for row, other in zip(one.rows(), two.rows(), strict=True):
        for key in ("train/loss", "val/loss"):
            assert row[key] == pytest.approx(other[key], abs=1e-5)
    assert one.rows()[0]["ari/val/layer_2"] == pytest.approx(two.rows()[0]["ari/val/layer_2"], abs=0.05)


@pytest.mark.slow
def test_processes_that_share_a_run_stop_and_resume_together(tmp_path: Path) -> None:
    command = [*RUN, "trainer.max_steps=40", "hydra.run.dir=run"]
    run = RunFolder(tmp_path / "run")
    process = Command(tmp_path, *command).until(lambda: len(run.rows()) > 2)
    process.send(signal.SIGTERM)
    code, output = process.end()
    assert (code, run.state) == (143, "interrupted")
    assert output.count("interrupted by SIGTERM; rerun the same command to resume from") == 1
    train(tmp_path, *command)
    train(tmp_path, *command, "hydra.run.dir=straight")
    assert_identical(run, RunFolder(tmp_path / "straight"))


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_in_one_sentence(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    process = Command(tmp_path, *RUN, ENDLESS, "hydra.run.dir=run").until(lambda: len(run.rows()) > 2)
    children = psutil.Process(process.pid).children(recursive=True)
    (second,) = [child for child in children if child.environ().get("RANK") == "1"] or children[-1:]
    second.kill()
    killed_at = time.monotonic()
    code, output = process.end()
    assert time.monotonic() - killed_at < 30
    assert (code, run.state in ("failed", "interrupted")) == (1, True)
    assert "process 1 of the run was killed by SIGKILL; rerun the same command to resume from" in output
    assert "Traceback" not in output
    assert not any(child.is_running() for child in children)


@pytest.mark.slow
def test_a_signal_drops_what_takes_long_and_the_same_command_repeats_it(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    command = [*SMALL, "trainer.max_steps=6", "hydra.run.dir=run"]
    process = Command(tmp_path, *command, figures=True).until(lambda: run.status().get("state") == "finished")
    time.sleep(0.5)  # by now it draws
    signalled_at = time.monotonic()
    process.send(signal.SIGTERM)
    code, output = process.end()
    assert time.monotonic() - signalled_at < 10
    assert (code, "Traceback" in output, run.state) == (143, False, "finished"), output
    assert "already finished" in train(tmp_path, *command, figures=True)
    assert (run.figures / "index.html").is_file()
