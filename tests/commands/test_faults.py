"""Runs that are killed, starved or corrupted, and the same command afterwards."""

import hashlib
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import torch
from conftest import SMALL
from faults import RUN, Command, assert_identical, fill, train

from taskcluster.runs.folder import RunFolder, digest_file

pytestmark = pytest.mark.slow

EVERY_STEP = "callbacks.checkpoint.every_minutes=1e-9"  # a checkpoint a step: most of the time goes into saving
ENDLESS = "trainer.max_steps=100000"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder, *RUN, "hydra.run.dir=run", figures=True)
    return RunFolder(folder / "run")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run killed after step 20, with checkpoints of steps 0, 5, 10 and 20."""
    folder = tmp_path_factory.mktemp("killed")
    run = RunFolder(folder / "run")
    Command(folder, *RUN, "hydra.run.dir=run").until(lambda: run.checkpoint(20).exists()).kill()
    for step, file in run.saved():
        if step > 20:
            file.unlink()
    return run


@pytest.fixture
def cut_short(killed: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy to be damaged or resumed."""
    return RunFolder(Path(shutil.copytree(killed.path, tmp_path / "run")))


def test_runs_killed_at_any_moment_end_as_the_undisturbed_one(
    undisturbed: RunFolder, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    kills, longest = pytestconfig.getoption("kills"), 1 + 2 * undisturbed.status()["wall_seconds"]
    moments = random.Random(kills)
    for k in range(kills):
        run = RunFolder(tmp_path / f"run{k}")
        command = [*RUN, f"hydra.run.dir={run.path}", *[EVERY_STEP] * (k % 2)]
        for _ in range(moments.randint(1, 3)):
            process = Command(tmp_path, *command, figures=True)
            time.sleep(moments.uniform(0, longest))
            process.kill()
        train(tmp_path, *command, figures=True)
        assert_identical(run, undisturbed)


@pytest.mark.slow
def test_a_multirun_killed_twice_ends_as_an_untouched_one(tmp_path: Path) -> None:
    sweep = ["-m", *RUN, "seed=0,1,2", "hydra.sweep.subdir=${seed}"]
    train(tmp_path, *sweep, "name=untouched")
    runs = [RunFolder(tmp_path / f"multirun/killed/{seed}") for seed in (0, 1, 2)]
    for run in runs[1:]:
        Command(tmp_path, *sweep, "name=killed").until(lambda: len(run.rows()) > 1).kill()  # noqa: B023
    output = train(tmp_path, *sweep, "name=killed")
    assert "already finished, skipped" in output
    assert "killed, resumes after step" in output
    for run in runs:
        assert_identical(run, RunFolder(tmp_path / "multirun/untouched" / run.path.name))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_after_the_step_and_the_same_command_resumes(
    undisturbed: RunFolder, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = RunFolder(tmp_path / "run")
    process = Command(tmp_path, *RUN, "hydra.run.dir=run").until(lambda: len(run.rows()) > 1)
    process.send(number)
    ended, output = process.end()
    assert ended == code
    assert f"interrupted by {number.name}; rerun the same command to resume from" in output
    status, (saved, _) = run.status(), run.saved()[-1]
    assert (status["state"], status["error"], status["step"]) == ("interrupted", number.name, saved)
    assert f"run resumes after step {saved}" in train(tmp_path, *RUN, "hydra.run.dir=run")
    assert [start["step"] for start in run.status()["starts"]] == [0, saved]
    assert_identical(run, undisturbed)


def test_a_signal_ends_a_multirun_and_not_only_its_run(tmp_path: Path) -> None:
    sweep = ["-m", *SMALL, "name=sweep", ENDLESS, "seed=0,1", "hydra.sweep.subdir=${seed}"]
    runs = [RunFolder(tmp_path / f"multirun/sweep/{seed}") for seed in (0, 1)]
    process = Command(tmp_path, *sweep).until(lambda: len(runs[0].rows()) > 2)
    process.send(signal.SIGTERM)
    code, output = process.end()
    assert code == 143
    assert (runs[0].state, runs[1].state) == ("interrupted", "new")
    assert "not begun" in output


@contextmanager
def side_by_side(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[RunFolder]]]:
    """Three runs of a multirun, two at a time, in processes of joblib's, once both have measured."""
    runs = [RunFolder(folder / f"multirun/sweep/{seed}") for seed in (0, 1, 2)]
    words = ["-m", *SMALL, "name=sweep", "seed=0,1,2", "hydra.sweep.subdir=${seed}", "hydra/launcher=joblib"]
    command = [sys.executable, "-m", "taskcluster.train", *words, "hydra.launcher.n_jobs=2", *arguments]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        while not all(len(run.rows()) > 2 for run in runs[:2]):
            assert process.poll() is None
            time.sleep(0.1)
        yield process, runs
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
def test_a_signal_to_a_multirun_side_by_side_reaches_every_run(tmp_path: Path) -> None:
    with side_by_side(tmp_path, ENDLESS) as (process, runs):
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 143
    assert [run.state for run in runs] == ["interrupted", "interrupted", "new"]


@pytest.mark.slow
def test_a_killed_worker_does_not_stop_the_jobs_beside_it(tmp_path: Path) -> None:
    with side_by_side(tmp_path, "trainer.max_steps=200", "callbacks.measurement.every_n_steps=40") as (process, runs):
        children = psutil.Process(process.pid).children()
        next(child for child in children if "Loky" in " ".join(child.cmdline())).kill()
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "JoblibLauncher: A worker process managed by the executor was unexpectedly terminated" in err
    assert "Traceback" not in err
    assert [run.state for run in runs] == ["finished"] * 3
    assert max(len(run.status()["starts"]) for run in runs) == 2


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    undisturbed: RunFolder, cut_short: RunFolder, tmp_path: Path
) -> None:
    file = cut_short.checkpoint(20)
    content = file.read_bytes()
    file.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    lines = cut_short.journal.read_text().splitlines(keepends=True)
    cut_short.journal.write_text("".join([*lines[:2], "\0" * 100 + "\n", *lines[3:]]))
    output = train(tmp_path, *RUN, "hydra.run.dir=run")
    assert f"{file} is skipped: its SHA-256 does not match" in output
    assert "is skipped: the journal lacks step 10" in output
    assert "run resumes after step 5" in output
    assert_identical(cut_short, undisturbed)


class Malice:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def test_a_checkpoint_that_carries_code_is_refused_and_nothing_of_it_runs(cut_short: RunFolder, tmp_path: Path) -> None:
    content = torch.load(cut_short.checkpoint(20), weights_only=True)
    torch.save(content | {"callbacks": Malice()}, tmp_path / "malicious.ckpt")
    for malicious in ((tmp_path / "malicious.ckpt").read_bytes(), pickle.dumps(Malice())):
        file = cut_short.checkpoint(20)
        file.write_bytes(malicious)
        digest_file(file).write_text(f"{hashlib.sha256(malicious).hexdigest()}  {file.name}\n")
        for command in ([], [f"ckpt_path={cut_short.checkpoint(20)}", "hydra.run.dir=other"]):
            code, output = Command(tmp_path, *RUN, "hydra.run.dir=run", *command).end()
            assert code == 2
            assert "possibly code; it was refused, and none of it was run" in output
            assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("rows", [1, 2])
def test_a_full_disk_costs_nothing_that_was_saved(
    undisturbed: RunFolder, small_disk: Path, tmp_path: Path, rows: int
) -> None:
    run = RunFolder(small_disk / "run")
    command = [*RUN, f"hydra.run.dir={run.path}", *[EVERY_STEP] * (rows == 2)]
    process = Command(tmp_path, *command).until(lambda: len(run.rows()) >= rows)
    filler = fill(small_disk)
    code, output = process.end()
    assert code == 1
    assert "No space left on device; the files saved so far are intact; rerun the same command to resume" in output
    assert "Traceback" not in output
    filler.unlink()
    train(tmp_path, *command)
    assert_identical(run, undisturbed)


def test_a_folder_that_cannot_be_written_to_is_refused(small_disk: Path, cut_short: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(cut_short.path, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    folders = [f"hydra.run.dir={small_disk}/run"], [f"hydra.run.dir={small_disk}/new"]
    for command in (*folders, ["-m", f"hydra.sweep.dir={small_disk}/m"]):
        code, output = Command(tmp_path, *command, *RUN).end()
        assert code == 2
        assert "Read-only file system; choose" in output
        assert len(output.splitlines()) == 1
