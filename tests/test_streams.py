"""Output that goes elsewhere: to a reader who leaves or sleeps, a full disk, a log, terminals of all kinds, nowhere."""

import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path

import psutil
import pytest
from conftest import SMALL, Outcome
from faults import RUN, Command
from rich.table import Table

from taskcluster import streams
from taskcluster.runs.folder import RunFolder
from taskcluster.streams import Outlet, console, stream

ODD = "[red]x[/] [3,5] :smile: [/nothing]"  # a name that Rich would read as markup, and fail on
ESCAPE = "\x1b"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    fcntl(write, F_SETPIPE_SZ, 4096)
    yield read, write
    for descriptor in (read, write):
        try:
            os.close(descriptor)
        except OSError:
            continue


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PATIENCE", 0.05)


def test_a_reader_who_left_is_not_missed(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    print("nobody reads this", file=stream(pipe[1]), flush=True)


def test_a_reader_who_sleeps_is_waited_for_once_and_then_has_the_newest(
    pipe: tuple[int, int], impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CAPACITY", 20_000)
    output, began = stream(pipe[1]), time.monotonic()
    for k in range(1000):
        print(f"line {k}", "." * 90, file=output, flush=True)
    assert time.monotonic() - began < 2
    received = b""
    while not received.endswith(b"line 999 " + b"." * 90 + b"\n"):
        received += os.read(pipe[0], 4096)
    numbers = [int(line.split()[1]) for line in received.splitlines()]
    assert numbers == sorted(set(numbers))
    assert len(numbers) < 300


def test_a_slow_reader_and_a_non_blocking_descriptor_lose_nothing(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    received: list[bytes] = []

    def read() -> None:
        while content := os.read(pipe[0], 4096):
            received.append(content)
            time.sleep(0.001)

    reader, output = threading.Thread(target=read), stream(pipe[1])
    reader.start()
    lines = [f"line {k} {'.' * 200}\n" for k in range(500)]
    for line in lines:
        output.write(line)
    output.flush()
    os.close(pipe[1])
    reader.join()
    assert b"".join(received).decode() == "".join(lines)


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [("ascii", rb"jos\xe9 \udcff"), ("latin-1", b"jos\xe9 \\udcff"), ("utf-8", b"jos\xc3\xa9 \\udcff")],
)
def test_what_an_encoding_lacks_is_escaped(tmp_path: Path, encoding: str, printed: bytes) -> None:
    with (tmp_path / "log").open("w") as log:
        print("josé " + os.fsdecode(b"\xff"), file=stream(log.fileno(), encoding), flush=True)
    assert (tmp_path / "log").read_bytes() == printed + b"\n"


def shown(descriptor: int) -> None:
    """Print everything that a console can be asked for."""
    screen = console(stream(descriptor))
    table = Table("run", "status", title=ODD)
    table.add_row(ODD, "long " * 60)
    with screen.status("waiting"):
        screen.print(table)
        screen.print(ODD, {"a": [1, 2]}, soft_wrap=True)


@pytest.mark.parametrize(
    "variables",
    [{"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1"}, {"COLUMNS": "10"}, {"TERM": "xterm"}],
)
def test_a_log_is_plain_and_has_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "log").open("w") as log:
        shown(log.fileno())
    text = (tmp_path / "log").read_text()
    assert ESCAPE not in text
    assert "\r" not in text
    assert text.count(ODD) == 3
    assert "long " * 60 in text
    assert text.endswith("{'a': [1, 2]}\n")


@pytest.mark.parametrize(
    ("variables", "coloured", "moving"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, True),
        ({"TERM": "xterm", "NO_COLOR": "1", "FORCE_COLOR": "1"}, False, True),
        ({"TERM": "xterm", "COLUMNS": "0"}, True, True),
        ({"TERM": "xterm", "COLUMNS": "1"}, False, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, False, False),
        ({"TERM": ""}, False, False),
    ],
)
def test_a_terminal_gets_what_it_can_show(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool, moving: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    master, slave = pty.openpty()
    screen = console(stream(slave))
    with screen.status("waiting"):
        screen.print("a word", style="red")
    text = ""
    while "a word" not in text:  # a terminal gives what it has so far
        text += os.read(master, 65536).decode()
    assert (f"{ESCAPE}[31m" in text, f"{ESCAPE}[?25l" in text) == (coloured, moving)
    assert moving or ESCAPE not in text
    for descriptor in (master, slave):
        os.close(descriptor)


def read_by(folder: Path, *arguments: str) -> tuple[Command, int]:
    """A command that prints into a pipe of the least size, and the end for reading."""
    path = folder / "fifo"
    os.mkfifo(path)
    command = Command(folder, *arguments, figures=False, output=path)
    reader = os.open(path, os.O_RDONLY)
    fcntl(reader, F_SETPIPE_SZ, 4096)
    return command, reader


def finished(folder: Path) -> list[str]:
    return [RunFolder(file.parent).state for file in sorted(folder.rglob("status.json"))]


MULTIRUN = ("-m", *SMALL, "name=sweep", "seed=0,1")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.lasting)])
def test_a_multirun_goes_on_when_its_reader_leaves(tmp_path: Path, launcher: str) -> None:
    command, reader = read_by(tmp_path, *MULTIRUN, f"hydra/launcher={launcher}", "hydra.sweep.subdir=${seed}")
    assert os.read(reader, 10)
    os.close(reader)  # head -1
    command.until((tmp_path / "multirun/sweep/report/index.html").exists)
    assert finished(tmp_path) == ["finished", "finished"]
    if launcher == "basic":
        assert command.end()[0] == 0
    else:  # workers that idle keep a process of multiprocessing's from its end
        for process in (*psutil.Process(command.pid).children(recursive=True), command):
            process.kill()


@pytest.mark.slow
def test_a_run_goes_on_when_its_reader_sleeps(tmp_path: Path) -> None:
    much = ("callbacks.measurement.every_n_steps=1", "trainer.max_steps=60")  # more than the pipe holds
    command, reader = read_by(tmp_path, *SMALL, *much, "hydra.run.dir=run")
    assert command.end()[0] == 0
    assert finished(tmp_path) == ["finished"]
    assert 4096 - 100 < len(os.read(reader, 65536)) <= 4096  # as many whole lines as it holds
    os.close(reader)


@pytest.mark.slow
def test_a_full_disk_under_a_log_is_not_that_of_the_runs(tmp_path: Path) -> None:
    assert Command(tmp_path, *MULTIRUN, figures=False, output=Path("/dev/full")).end()[0] == 0
    assert finished(tmp_path) == ["finished", "finished"]


@pytest.mark.slow
def test_a_terminal_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    run, place = RunFolder(tmp_path / "run"), Path(os.ttyname(slave))
    variables = {"TERM": "xterm"}
    command = Command(tmp_path, *RUN, "hydra.run.dir=run", variables=variables, figures=False, output=place)
    command.until(lambda: bool(run.rows()))
    for descriptor in (master, slave):
        os.close(descriptor)
    assert command.end()[0] == 0
    assert run.state == "finished"


@pytest.mark.slow
def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    place = Path(os.ttyname(slave))
    variables = {"TERM": "dumb", "PYTHONIOENCODING": "ascii"}
    command = Command(tmp_path, *MULTIRUN, variables=variables, figures=False, output=place)
    received = b""
    while b"The report is" not in received:
        received += os.read(master, 65536)
    assert command.end()[0] == 0
    lines = received.decode().splitlines()
    assert ESCAPE not in received.decode()
    assert any(line.startswith("default/seed=0  step") or "seed=0  step" in line for line in lines)
    for descriptor in (master, slave):
        os.close(descriptor)


@pytest.mark.slow
def test_closed_streams_do_not_end_in_the_files_of_the_run(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "taskcluster.train", *SMALL, "hydra.run.dir=run"]
    ended = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *line], cwd=tmp_path, timeout=120)
    assert ended.returncode == 0
    run = RunFolder(tmp_path / "run")
    assert run.state == "finished"
    assert [row["step"] for row in run.rows()] == [0, 2, 4, 6]
    assert (run.path / ".lock").read_text() == ""


def test_names_are_printed_as_they_are(taskcluster_train: Callable[..., Outcome]) -> None:
    folder = "hydra.run.dir='out/[red]x [/b] :smile:'"
    outcome = taskcluster_train(*SMALL, folder, "trainer.max_steps=1")
    assert outcome.exit_code == 0
    assert "out/[red]x [/b] :smile: " in outcome.out
    assert "already" in taskcluster_train(*SMALL, folder, "trainer.max_steps=1").out


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_what_hydra_prints_may_go_unread(
    taskcluster_train: Callable[..., Outcome],
    pipe: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    os.close(pipe[0])
    monkeypatch.setattr(sys, "stdout", open(pipe[1], "w", closefd=False))  # noqa: SIM115
    assert taskcluster_train(*arguments).exit_code == 0
    assert isinstance(sys.stdout.buffer, Outlet)
