"""Two writers of one run folder: on this machine, in another container of it, and on another machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, command

from taskcluster.runs import locks
from taskcluster.runs.folder import RunFolder
from taskcluster.validation import UserError

HOLDER = """
import sys, time
from pathlib import Path
from taskcluster.runs import locks
with locks.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.05)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def write_holder(folder: Path, idle: float, **facts: Any) -> Path:
    """The file of a holder that touched it `idle` seconds ago."""
    file = folder / ".holder"
    file.write_text(json.dumps({"host": "elsewhere", "pid": 77, "boot": "other"} | facts))
    set_age(file, idle)
    return file


def set_age(file: Path, seconds: float) -> None:
    os.utime(file, (time.time() - seconds,) * 2)


def test_a_run_in_use_is_refused_before_anything_is_loaded(
    tmp_path: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("taskcluster.train.speaking", None)  # within which all else happens
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    assert command(*SMALL, f"hydra.run.dir={tmp_path}") == 2
    assert f"{tmp_path} is in use by another process; wait for its end, or end it" in capfd.readouterr().err


def test_a_held_folder_is_refused_until_its_holder_is_killed(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    run = RunFolder(tmp_path)
    assert json.loads((tmp_path / ".holder").read_text())["pid"] == other.pid
    assert run.in_use()
    with pytest.raises(UserError, match="is in use by another process; wait for its end, or end it"), run.locked():
        pass
    other.kill()
    other.wait()
    assert not run.in_use()
    with run.locked():
        assert run.in_use()
    assert list(tmp_path.iterdir()) == []


def test_a_holder_on_another_machine_counts_until_it_is_silent(tmp_path: Path) -> None:
    run, holder = RunFolder(tmp_path), write_holder(tmp_path, idle=120)
    assert run.in_use()
    with pytest.raises(UserError) as refused, run.locked():
        pass
    assert str(refused.value) == (
        f"{tmp_path} is in use by another process, number 77 on elsewhere, which was active 120 s ago; wait for its "
        f"end, or end it. If that process is certainly dead, rerun the command in 480 s, or delete {holder}"
    )
    set_age(holder, locks.SILENCE + 1)
    assert not run.in_use()
    with run.locked():
        assert json.loads(holder.read_text())["pid"] == os.getpid()
    assert not holder.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "another container"])
def test_a_killed_holder_on_this_machine_makes_room_at_once(tmp_path: Path, content: str) -> None:
    holder = write_holder(tmp_path, idle=0, boot=locks._boot())
    if content != "another container":
        holder.write_text(content)
    assert not RunFolder(tmp_path).in_use()
    with locks.hold(tmp_path):
        pass


def test_a_holder_touches_its_file_while_it_only_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT", 0.02)
    with locks.hold(tmp_path):
        set_age(tmp_path / ".holder", 3600)
        end = time.monotonic() + 5
        while time.time() - (tmp_path / ".holder").stat().st_mtime > 60:
            assert time.monotonic() < end
            time.sleep(0.01)
