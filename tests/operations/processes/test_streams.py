"""Output without a reader or on a full disk does not end a command; logs and terminals get the right format."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL
from faults import Command

from taskcluster.operations.processes.streams import console, stream
from taskcluster.runs.folder import RunFolder

NAME = "[red]x[/] [3,5] :smile: [/nothing]"  # that Rich would read as markup, and fail on
ESCAPE = "\x1b"
MULTIRUN = ("-m", *SMALL, "name=sweep", "seed=0,1", "hydra.sweep.subdir=${seed}")


def closed_pipe() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize("output", [closed_pipe, lambda: os.open("/dev/full", os.O_WRONLY)])
def test_what_cannot_be_written_is_dropped(output: Callable[[], int]) -> None:
    print("nobody reads this", file=stream(output()), flush=True)


@pytest.mark.parametrize(("encoding", "printed"), [("ascii", rb"jos\xe9 \udcff"), ("utf-8", b"jos\xc3\xa9 \\udcff")])
def test_characters_that_an_encoding_lacks_are_escaped(tmp_path: Path, encoding: str, printed: bytes) -> None:
    with (tmp_path / "log").open("w") as log:
        print("josé " + os.fsdecode(b"\xff"), file=stream(log.fileno(), encoding), flush=True)
    assert (tmp_path / "log").read_bytes() == printed + b"\n"


def test_a_log_is_plain_and_has_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with (tmp_path / "log").open("w") as log:
        screen = console(stream(log.fileno()))
        with screen.status("waiting"):
            screen.print(NAME, "long " * 60, style="red", soft_wrap=True)
    assert (tmp_path / "log").read_text() == f"{NAME} {'long ' * 60}\n"


@pytest.mark.parametrize(
    ("variables", "coloured", "moving"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, True),
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
    terminal, descriptor = pty.openpty()
    screen = console(stream(descriptor))
    with screen.status("waiting"):
        screen.print("a word", style="red")
    text = ""
    while "a word" not in text:  # a terminal gives what it has so far
        text += os.read(terminal, 65536).decode()
    assert (f"{ESCAPE}[31m" in text, f"{ESCAPE}[?25l" in text) == (coloured, moving)


@pytest.mark.slow
def test_a_multirun_continues_when_its_reader_leaves(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    command = Command(tmp_path, *MULTIRUN, output=tmp_path / "fifo")
    with open(tmp_path / "fifo", "rb") as reader:
        assert reader.read(10)  # head -1
    assert command.end()[0] == 0
    runs = [RunFolder(tmp_path / f"multirun/sweep/{seed}") for seed in (0, 1)]
    assert [run.state for run in runs] == ["finished", "finished"]


@pytest.mark.slow
def test_closed_streams_do_not_end_in_the_files_of_the_run(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "taskcluster.train", *SMALL, "hydra.run.dir=run"]
    ended = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *line], cwd=tmp_path, timeout=120)
    assert ended.returncode == 0
    run = RunFolder(tmp_path / "run")
    assert run.state == "finished"
    assert [row["step"] for row in run.rows()] == [0, 2, 4, 6]
    assert (run.path / ".lock").read_text() == ""
