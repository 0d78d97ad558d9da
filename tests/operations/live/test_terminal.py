"""The view of a multirun: a real terminal's screen while it runs, and its parts."""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from pathlib import Path

import pyte
import pytest
from conftest import SMALL

from taskcluster.operations.live.live import Live
from taskcluster.operations.live.terminal import foremost, sparkline

COLUMNS, LONG = 130, 120


def test_a_sparkline_has_a_block_for_each_value() -> None:
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([-0.1, 1.1]) == "▁█"
    assert sparkline([]) == sparkline([], low=None, high=None) == ""
    assert sparkline([2.0, 3.0, 4.0], low=None, high=None) == sparkline([2.0, 3.0, 4.0], low=2, high=4) == "▁▅█"
    assert sparkline([3.0, 3.0], low=None, high=None) == "▁▁"
    assert sparkline([k / 99 for k in range(100)]) == "▁▁▂▂▃▃▄▄▅▅▆▆▇▇██"


def test_runs_that_matter_now_are_shown_if_not_all_have_room() -> None:
    states = ["finished", "failed", "finished", "running", "waiting"]
    runs = [Live(str(k), str(k), "", state=state) for k, state in enumerate(states)]
    assert [run.name for run in foremost(runs, 3)] == ["0", "1", "3"]


class Terminal:
    """A command in a terminal of so many lines, and what its screen shows."""

    def __init__(self, folder: Path, lines: int, *command: str) -> None:
        self.pid, self._file = pty.fork()
        if not self.pid:
            os.chdir(folder)
            os.environ |= {"TERM": "xterm-256color"}
            os.execvp(command[0], command)
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, struct.pack("HHHH", lines, COLUMNS, 0, 0))
        self._screen = pyte.Screen(COLUMNS, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._until = time.monotonic() + LONG

    def screens(self) -> list[list[str]]:
        """Every screen until the command ends, line by line."""
        seen: list[list[str]] = []
        while self._next():
            lines = [line.rstrip() for line in self._screen.display if line.strip()]
            if lines and (not seen or seen[-1] != lines):
                seen.append(lines)
        return seen

    def _next(self) -> bool:
        assert time.monotonic() < self._until, self._screen.display
        ready, _, _ = select.select([self._file], [], [], 1)
        if not ready:
            return True
        try:
            content = os.read(self._file, 65536)
        except OSError:  # the other end is closed
            return False
        self._stream.feed(content)
        return bool(content)


@pytest.mark.slow
def test_every_run_is_a_line_that_grows_and_nothing_else_is_printed(tmp_path: Path) -> None:
    longer = [*SMALL, "trainer.max_steps=60", "callbacks.measurement.every_n_steps=10", "hydra/launcher=joblib"]
    sweep = ["name=sweep", "hydra.sweep.subdir=${model.n_head}_${seed}", "model.n_head=3,2", "seed=0,1"]
    terminal = Terminal(tmp_path, 12, sys.executable, "-m", "taskcluster.train", "-m", *longer, *sweep)
    screens = terminal.screens()
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 2
    views = [screen for screen in screens if screen[-1].startswith("2 runs: ")]
    assert any("running" in view[-1] for view in views)
    lines = [line for view in views for line in view if line.startswith("2_1 ")]
    assert lines[0].split() == ["2_1", "waiting"]
    assert any("running" in line and "▁" in line and "/60" in line for line in lines)
    assert not any("validation: accuracy" in line for screen in screens for line in screen)  # as plain lines have it
    said = " ".join(line for screen in screens for line in screen)
    assert "3_0: refused: model.n_head=3 does not divide" in said
    assert f"The report is {tmp_path}/multirun/sweep/report/index.html" in "".join(screens[-1])
