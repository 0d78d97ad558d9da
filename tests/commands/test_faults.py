"""What happens to a run when it is killed, starved or corrupted, and what the same command makes of the rest."""

import hashlib
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import torch
from conftest import SMALL
from faults import RUN, Command, assert_identical, fill, train, wandb_steps

from taskcluster.runs.folder import RunFolder, digest_file

pytestmark = pytest.mark.slow

EVERY_STEP = "callbacks.checkpoint.every_minutes=1e-9"  # a checkpoint a step: most of the time goes into saving
ENDLESS = "trainer.max_steps=100000"


class Undisturbed(NamedTuple):
    """A run that nothing happened to; how many seconds it took, and how many until its last measurement."""

    run: RunFolder
    seconds: float
    training: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder, "--version")  # by now the server is there that all others are forked from
    run, started = RunFolder(folder / "run"), time.time()
    train(folder, *RUN, "hydra.run.dir=run", figures=True)
    return Undisturbed(run, time.time() - started, run.journal.stat().st_mtime - started)


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
    """A copy to be damaged or gone on with."""
    return RunFolder(Path(shutil.copytree(killed.path, tmp_path / "run")))


def test_runs_killed_at_any_moment_end_as_if_nothing_had_happened(
    undisturbed: Undisturbed, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    moments = random.Random(pytestconfig.getoption("kills"))
    seen = {"before the first row": 0, "while saving": 0, "between": 0, "after the last row": 0}
    for k in range(pytestconfig.getoption("kills")):
        run = RunFolder(tmp_path / f"run{k}")
        command = [*RUN, f"hydra.run.dir={run.path}", *[EVERY_STEP] * (k % 2)]
        for _ in range(moments.randint(1, 3)):
            process = Command(tmp_path, *command, figures=True)
            time.sleep(moments.uniform(0, moments.choice([undisturbed.seconds, *[undisturbed.training] * 3])))
            process.kill()
            steps = [row["step"] for row in run.rows()]
            half = list(run.path.rglob(".*.ckpt*.partial"))
            seen[
                "while saving" if half else
                "before the first row" if not steps else
                "after the last row" if steps[-1] == 30 else
                "between"
            ] += 1  # fmt: skip
        train(tmp_path, *command, figures=True)
        assert_identical(run, undisturbed.run)
    print(f"killed: {seen}")


@pytest.mark.lasting
def test_a_multirun_killed_three_times_ends_as_an_untouched_one(tmp_path: Path) -> None:
    sweep = ["-m", *RUN, "seed=0,1,2", "data.batch_size=8,16", "hydra.sweep.subdir=${data.batch_size}_${seed}"]
    train(tmp_path, *sweep, "name=untouched")
    moments = random.Random(0)

    def finished() -> int:
        return len(list(tmp_path.glob("multirun/killed/*/results.json")))

    def early() -> list[RunFolder]:
        """Those that have measured something, but are far from their end."""
        found = [RunFolder(journal.parent) for journal in tmp_path.glob("multirun/killed/*/metrics.jsonl")]
        return [run for run in found if (rows := run.rows()) and rows[-1]["step"] < 20]

    for k in range(3):
        process = Command(tmp_path, *sweep, "name=killed")
        process.until(lambda: finished() > k)  # noqa: B023
        time.sleep(moments.uniform(0, 1))
        process.until(lambda: bool(early())).kill()
    output = train(tmp_path, *sweep, "name=killed")
    assert "already finished, skipped" in output
    assert any(
        plan in output
        for plan in ("killed, resumes after step", "killed, starts from the beginning", "some figures are missing")
    ), output
    for size in (8, 16):
        for seed in (0, 1, 2):
            one, other = (RunFolder(tmp_path / f"multirun/{name}/{size}_{seed}") for name in ("killed", "untouched"))
            assert_identical(one, other)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143), (signal.SIGUSR2, 143)]
)
def test_a_signal_ends_the_run_after_the_step_and_the_command_goes_on_from_it(
    undisturbed: Undisturbed, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = RunFolder(tmp_path / "run")
    process = Command(tmp_path, *RUN, "hydra.run.dir=run").until(lambda: len(run.rows()) > 1)
    process.send(number)
    ended, output = process.end()
    assert ended == code
    assert f"interrupted by {number.name}; rerun the same command to resume from" in output
    status = run.status()
    assert (status["state"], status["error"]) == ("interrupted", number.name)
    saved, _ = run.saved()[-1]
    assert status["step"] == saved
    assert f"run resumes after step {saved}" in train(tmp_path, *RUN, "hydra.run.dir=run")
    assert [start["step"] for start in run.status()["starts"]] == [0, saved]
    assert_identical(run, undisturbed.run)


def test_a_signal_ends_a_multirun_and_not_only_its_run(tmp_path: Path) -> None:
    sweep = ["-m", *SMALL, "name=sweep", ENDLESS, "seed=0,1", "hydra.sweep.subdir=${seed}"]
    runs = [RunFolder(tmp_path / f"multirun/sweep/{seed}") for seed in (0, 1)]
    process = Command(tmp_path, *sweep).until(lambda: len(runs[0].rows()) > 2)
    process.send(signal.SIGTERM)
    code, output = process.end()
    assert code == 143
    assert (runs[0].state, runs[1].state) == ("interrupted", "new")
    assert "not begun" in output


@pytest.mark.lasting
def test_a_signal_to_a_multirun_side_by_side_reaches_every_run(tmp_path: Path) -> None:
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep = ["-m", *SMALL, "name=sweep", ENDLESS, "seed=0,1,2", "hydra.sweep.subdir=${seed}", *launcher]
    runs = [RunFolder(tmp_path / f"multirun/sweep/{seed}") for seed in (0, 1, 2)]
    command = [sys.executable, "-m", "taskcluster.train", *sweep]
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    try:
        while not all(len(run.rows()) > 2 for run in runs[:2]):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 143
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert [run.state for run in runs] == ["interrupted", "interrupted", "new"]
    assert all(file.name.startswith("last=") or step % 2 == 0 for run in runs for step, file in run.saved()[-1:])


@pytest.mark.lasting
def test_a_killed_worker_does_not_stop_the_jobs_beside_it(tmp_path: Path) -> None:
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep = [
        "-m",
        *SMALL,
        "trainer.max_steps=200",
        "callbacks.measurement.every_n_steps=40",
        "name=sweep",
        "seed=0,1,2",
        "hydra.sweep.subdir=${seed}",
        *launcher,
    ]
    runs = [RunFolder(tmp_path / f"multirun/sweep/{seed}") for seed in (0, 1, 2)]
    command = [sys.executable, "-m", "taskcluster.train", *sweep]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        while not all(len(run.rows()) > 2 for run in runs[:2]):
            assert process.poll() is None
            time.sleep(0.1)
        workers = [worker for worker in psutil.Process(process.pid).children() if "Loky" in " ".join(worker.cmdline())]
        workers[0].kill()
        _, err = process.communicate(timeout=300)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == 0
    assert "JoblibLauncher: A worker process managed by the executor was unexpectedly terminated" in err
    assert "Traceback" not in err
    for run in runs:
        assert run.state == "finished"
    assert max(len(run.status()["starts"]) for run in runs) == 2


DAMAGES = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "bit-flipped": lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    undisturbed: Undisturbed, cut_short: RunFolder, tmp_path: Path, damage: str
) -> None:
    file = cut_short.checkpoint(20)
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    output = train(tmp_path, *RUN, "hydra.run.dir=run")
    assert f"{file} is skipped: its SHA-256 does not match" in output
    assert "run resumes after step 10" in output
    assert_identical(cut_short, undisturbed.run)


def test_a_journal_that_lost_a_line_is_made_whole_again(
    undisturbed: Undisturbed, cut_short: RunFolder, tmp_path: Path
) -> None:
    lines = cut_short.journal.read_text().splitlines(keepends=True)
    cut_short.journal.write_text("".join([*lines[:2], "\0" * 100 + "\n", *lines[3:]]))
    output = train(tmp_path, *RUN, "hydra.run.dir=run")
    assert "is skipped: the journal has lost step 10" in output
    assert "run resumes after step 5" in output
    assert_identical(cut_short, undisturbed.run)


def test_with_every_checkpoint_damaged_the_run_restarts(
    undisturbed: Undisturbed, cut_short: RunFolder, tmp_path: Path
) -> None:
    for _, file in cut_short.saved():
        digest_file(file).unlink()
    code, output = Command(tmp_path, *RUN, "hydra.run.dir=run", "resume=must").end()
    assert (code, "holds nothing to resume from" in output) == (2, True)
    assert "its SHA-256 is missing" in train(tmp_path, *RUN, "hydra.run.dir=run")
    assert_identical(cut_short, undisturbed.run)


def replant(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    digest_file(file).write_text(f"{hashlib.sha256(content).hexdigest()}  {file.name}\n")


def test_a_checkpoint_of_another_architecture_is_refused(cut_short: RunFolder, tmp_path: Path) -> None:
    wider = [*RUN, "model.n_embd=32", "hydra.run.dir=wider"]
    other = RunFolder(tmp_path / "wider")
    Command(tmp_path, *wider).until(lambda: other.checkpoint(0).exists()).kill()
    before = cut_short.journal.read_bytes()
    replant(cut_short.checkpoint(20), other.checkpoint(0).read_bytes())
    code, output = Command(tmp_path, *RUN, "hydra.run.dir=run").end()
    assert code == 2
    assert "is of another architecture: lm_head.weight is 30 x 32 there and 30 x 16 here" in output
    assert cut_short.journal.read_bytes() == before


class Malice:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def test_a_checkpoint_that_carries_code_is_refused_and_nothing_of_it_runs(cut_short: RunFolder, tmp_path: Path) -> None:
    content = torch.load(cut_short.checkpoint(20), weights_only=True)
    torch.save(content | {"callbacks": Malice()}, tmp_path / "malicious.ckpt")
    for malicious in ((tmp_path / "malicious.ckpt").read_bytes(), pickle.dumps(Malice())):
        replant(cut_short.checkpoint(20), malicious)
        for command in ([], [f"ckpt_path={cut_short.checkpoint(20)}", "hydra.run.dir=other"]):
            code, output = Command(tmp_path, *RUN, "hydra.run.dir=run", *command).end()
            assert code == 2
            assert "perhaps code; it was refused, and nothing of it run" in output
            assert not (tmp_path / "harm").exists()


@pytest.mark.lasting
def test_an_offline_mirror_holds_the_whole_journal_and_replaces_the_one_before(tmp_path: Path) -> None:
    run, command = RunFolder(tmp_path / "run"), [*RUN, "hydra.run.dir=run", "logger=wandb"]
    Command(tmp_path, *command).until(lambda: len(run.rows()) > 2).kill()
    train(tmp_path, *command)
    (mirror,) = run.path.glob("wandb/offline-run-*/run-*.wandb")
    assert mirror.name == f"run-{run.status()['id']}.wandb"
    assert wandb_steps(mirror) == [row["step"] for row in run.rows()]


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    first = Command(tmp_path, *SMALL, ENDLESS, "hydra.run.dir=run").until(lambda: len(run.rows()) > 1)
    code, output = Command(tmp_path, *SMALL, ENDLESS, "hydra.run.dir=run").end()
    assert code == 2
    assert f"{run.path} is in use by another process; wait for its end, or end it" in output
    assert run.state == "running"
    first.kill()
    assert run.state == "killed"


@pytest.mark.parametrize("logger", ["none", pytest.param("wandb", marks=pytest.mark.lasting)])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_full_disk_costs_nothing_that_was_saved(
    undisturbed: Undisturbed, small_disk: Path, tmp_path: Path, rows: int, logger: str
) -> None:
    run = RunFolder(small_disk / "run")
    command = [*RUN, f"hydra.run.dir={run.path}", f"logger={logger}", *[EVERY_STEP] * (rows == 2)]
    process = Command(tmp_path, *command).until(lambda: len(run.rows()) >= rows)
    filler = fill(small_disk)
    code, output = process.end()
    assert code == 1
    assert "No space left on device; the files saved so far are intact; rerun the same command to resume" in output
    assert "Traceback" not in output
    filler.unlink()
    train(tmp_path, *command)
    assert_identical(run, undisturbed.run)


def test_a_journal_on_a_full_disk_keeps_its_lines(small_disk: Path) -> None:
    run = RunFolder(small_disk)
    run.append({"step": 0}, elapsed=0, measuring=0)
    fill(small_disk)
    with pytest.raises(OSError, match="No space left"):
        for step in range(1, 1000):
            run.append({"step": step}, elapsed=0, measuring=0)
    steps = [row["step"] for row in run.rows()]
    assert steps == list(range(len(steps)))


def test_a_folder_that_cannot_be_written_to_is_refused(small_disk: Path, cut_short: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(cut_short.path, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    folders = [f"hydra.run.dir={small_disk}/run"], [f"hydra.run.dir={small_disk}/new"]
    for command in (*folders, ["-m", f"hydra.sweep.dir={small_disk}/m"]):
        code, output = Command(tmp_path, *command, *RUN).end()
        assert code == 2
        assert "Read-only file system; choose" in output
        assert len(output.splitlines()) == 1
