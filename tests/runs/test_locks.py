"""Two writers of one run folder: on this machine, in another container, and on another machine."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskcluster.runs import locks
from taskcluster.runs.folder import RunFolder
from taskcluster.validation import UserError

GONE = 2**22 + 1  # above every process number that Linux gives


def record(folder: Path, idle: float, **facts: Any) -> dict[str, Any]:
    """The record of a holder on another machine, which was last active `idle` seconds ago."""
    holder = locks._own() | {"host": "elsewhere", "boot": "other", "pid": 77, "flock": True} | facts
    file = folder / ".holder"
    file.write_text(json.dumps(holder))
    age(file, idle)
    return holder


def age(file: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(file, (then, then))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.05)


@pytest.fixture(params=["flock that every machine is granted", "no flock"])
def _mount(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that does not keep other machines out."""
    granted = None if request.param == "no flock" else True
    monkeypatch.setattr(locks, "_flock", lambda file, kind: granted)


OTHERS = {
    "another machine": {},
    "a container elsewhere with the same host name": {"host": locks._here()["host"]},
    "this machine before it was rebooted, or its clone": {**locks._here(), "boot": "earlier"},
    "a machine whose holder had no flock": {"flock": False},
    "another container here, without flock": {**locks._here(), "container": "pid:[1]", "flock": False},
}


@pytest.mark.usefixtures("_mount")
@pytest.mark.parametrize("other", OTHERS)
def test_a_holder_elsewhere_counts_as_alive_until_it_has_been_silent(tmp_path: Path, other: str) -> None:
    run = RunFolder(tmp_path)
    holder = record(tmp_path, 120, **OTHERS[other])
    with pytest.raises(UserError) as refused, run.locked():
        pass
    assert str(refused.value) == (
        f"{tmp_path} is in use by another process, number {holder['pid']} on {holder['host']}, which was active 120 s "
        f"ago; wait for its end, or end it. If it is certainly dead, rerun the command in 480 s, or delete "
        f"{tmp_path / '.holder'}"
    )
    (tmp_path / ".lock").touch()
    assert run.in_use()
    age(tmp_path / ".holder", locks.SILENCE + 1)
    assert not run.in_use()
    with run.locked():
        assert locks._holder(tmp_path) == locks._own() | {"flock": locks._flock(0, 0) is not None}


@pytest.mark.usefixtures("_mount")
@pytest.mark.parametrize("written", ["metrics.jsonl", "training.jsonl", "status.json", "checkpoints"])
def test_a_holder_that_writes_is_alive_though_its_record_is_old(tmp_path: Path, written: str) -> None:
    record(tmp_path, 10 * locks.SILENCE)
    file = tmp_path / written
    file.mkdir() if written == "checkpoints" else file.touch()
    age(file, 60)
    with pytest.raises(UserError, match="number 77 on elsewhere, which was active 60 s ago"), locks.hold(tmp_path):
        pass
    age(file, locks.SILENCE + 60)
    with locks.hold(tmp_path):
        pass


@pytest.mark.usefixtures("_mount")
@pytest.mark.parametrize("hours", [-5, 5])
def test_the_clock_of_this_machine_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    record(tmp_path, 60)
    wrong = time.time() + 3600 * hours
    monkeypatch.setattr(time, "time", lambda: wrong)
    with pytest.raises(UserError, match="active 60 s ago"), locks.hold(tmp_path):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    monkeypatch.setattr(locks, "_flock", lambda file, kind: True)
    age(tmp_path / ".holder", locks.SILENCE + 1)
    monkeypatch.setattr(time, "time", lambda: wrong)
    with locks.hold(tmp_path):
        pass


def test_what_died_in_another_container_of_this_machine_makes_room_at_once(tmp_path: Path) -> None:
    record(tmp_path, 0, **locks._here() | {"container": "pid:[1]"})
    with locks.hold(tmp_path):
        pass


@pytest.mark.usefixtures("_mount")
@pytest.mark.parametrize("born", ["", "1"])
def test_a_process_of_this_machine_is_looked_up_by_number_and_birth(tmp_path: Path, born: str) -> None:
    alive = {**locks._own(), "pid": os.getppid(), "born": locks._born(os.getppid())}
    record(tmp_path, 10 * locks.SILENCE, **alive)
    with pytest.raises(UserError, match="is in use by another process; wait for its end"), locks.hold(tmp_path):
        pass
    for dead in ({"pid": os.getppid(), "born": born}, {"pid": GONE}):  # the number is another process's by now
        record(tmp_path, 0, **alive | dead)
        with locks.hold(tmp_path):
            pass


@pytest.mark.usefixtures("_mount")
@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}'])
def test_a_record_that_cannot_be_read_counts_until_it_is_old(tmp_path: Path, content: str) -> None:
    (tmp_path / ".holder").write_text(content)
    with pytest.raises(UserError, match="is in use by another process"), locks.hold(tmp_path):
        pass
    age(tmp_path / ".holder", locks.SILENCE + 1)
    with locks.hold(tmp_path):
        pass


def test_a_holder_refreshes_its_record_while_it_only_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT", 0.02)
    with locks.hold(tmp_path):
        age(tmp_path / ".holder", 3600)
        end = time.monotonic() + 5
        while time.time() - (tmp_path / ".holder").stat().st_mtime > 60:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert not (tmp_path / ".holder").exists()


@pytest.mark.parametrize("how", ["another holds it", "it was deleted"])
def test_a_process_that_lost_the_lock_writes_nothing_more(tmp_path: Path, how: str) -> None:
    run = RunFolder(tmp_path)
    with run.locked():
        run.append({"step": 0}, elapsed=0, measuring=0)
        run.write_status("running")
        if how == "it was deleted":
            (tmp_path / ".holder").unlink()
        else:
            record(tmp_path, 0)
        before = {file: file.read_bytes() for file in tmp_path.iterdir()}
        writes = (
            lambda: run.append({"step": 10}, elapsed=0, measuring=0),
            lambda: run.append_training({"step": 10}, elapsed=0),
            lambda: run.write_status("finished"),
            lambda: run.write_results({}),
        )
        for write in writes:
            with pytest.raises(OSError, match="deleted, or another process has taken over this run"):
                write()
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


HOLDER = """
import sys, time
from pathlib import Path
from taskcluster.runs import locks
locks.PATIENCE = 0
with locks.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_process_that_is_killed_makes_room_at_once(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(UserError, match="is in use by another process; wait for its end"), locks.hold(tmp_path):
        pass
    other.kill()
    other.wait()
    with locks.hold(tmp_path):
        pass


def test_a_read_only_look_changes_nothing(tmp_path: Path) -> None:
    record(tmp_path, 60)
    (tmp_path / ".lock").touch()
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert RunFolder(tmp_path).in_use()
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


def test_a_lock_that_is_held_by_flock_alone_is_refused(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is in use by another process"), locks.hold(tmp_path):
            pass
