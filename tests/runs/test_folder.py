"""The run folder: journal, status, and whose folder it is."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcluster.metrics import OWN
from taskcluster.processes.interrupts import Interrupted
from taskcluster.runs import journal
from taskcluster.runs.files import replace_file
from taskcluster.runs.folder import RunFolder, digest_file
from taskcluster.runs.starts import writing
from taskcluster.validation import UserError

CONFIG = {"seed": 0, "model": {"n_layer": 6, "n_embd": 128}}


def test_the_journal_gives_back_what_was_appended(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append({"step": 0, "val/loss": 0.1 + 0.2}, elapsed=1.23456, measuring=0)
    run.append({"step": 5, "val/loss": float("nan")}, elapsed=2, measuring=0)
    first, second = run.rows()
    assert first["val/loss"] == 0.1 + 0.2
    assert (first["step"], first["elapsed"]) == (0, 1.235)
    assert second["val/loss"] is None
    assert all(json.loads(line) for line in run.journal.read_text().splitlines())


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append({"step": 0}, elapsed=0, measuring=0)
    with run.journal.open("a") as journal:
        journal.write('{"step": 5, "val')
    assert [row["step"] for row in run.rows()] == [0]


def test_a_damaged_line_ends_what_can_be_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (0, 5, 10):
        run.append({"step": step}, elapsed=0, measuring=0)
    run.journal.write_text(run.journal.read_text().replace('"step": 5', '"step" 5'))
    assert [row["step"] for row in run.rows()] == [0]


def test_going_on_drops_what_was_written_later(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.start(CONFIG, None, OWN)
    for step in (0, 5, 10):
        run.append({"step": step}, elapsed=0, measuring=0)
    for file in (run.checkpoint(5), run.checkpoint(7, measured=False), run.checkpoint(10)):
        file.touch()
        digest_file(file).touch()
    (run.checkpoints / ".step=000015.ckpt.partial").touch()
    run.start(CONFIG, 7, OWN)
    assert [row["step"] for row in run.rows()] == [0, 5]
    assert [step for step, _ in run.saved()] == [5, 7]
    run.start(CONFIG, None, OWN)
    assert run.rows() == run.saved() == list(run.checkpoints.iterdir()) == []


def test_differing_keys_are_named_and_none_differ_in_a_new_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.differing_keys(CONFIG) == []
    run.start(CONFIG, None, OWN)
    assert run.differing_keys(CONFIG | {"name": "other", "logger": {"project": "other"}}) == []
    changed = {"seed": 0, "model": {"n_layer": 2, "n_embd": 128, "n_head": 4}}
    assert run.differing_keys(changed) == ["model.n_head", "model.n_layer"]


def test_status_follows_the_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.state == "new"
    with run.locked(), writing(run, None, device="cpu"):
        assert run.state == "running"
        run.append({"step": 7}, elapsed=0, measuring=0)
    assert run.state == "finished"
    assert run.status()["step"] == 7
    (start,) = run.status()["starts"]
    assert (start["step"], start["device"]) == (0, "cpu")


def test_a_failure_is_recorded_and_passed_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(RuntimeError, match="lost"), writing(run, None):
        run.append({"step": 3}, elapsed=0, measuring=0)
        raise RuntimeError("lost")
    assert run.status()["state"] == "failed"
    assert run.status()["error"] == "RuntimeError: lost"
    assert [row["step"] for row in run.rows()] == [3]
    with pytest.raises(Interrupted), writing(run, 3):
        raise Interrupted(15)
    assert (run.state, run.status()["error"]) == ("interrupted", "SIGTERM")
    assert [start["step"] for start in run.status()["starts"]] == [0, 3]


def test_a_locked_folder_is_refused_to_others_and_an_unused_lock_leaves_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with run.locked():
        assert run.in_use()
        (tmp_path / ".lock").chmod(0o400)  # of somebody else's run
        with pytest.raises(UserError, match="is in use by another process"), RunFolder(tmp_path).locked():
            pass
    assert not run.in_use()
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_status_is_said_to_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(UserError, match=r"status\.json is damaged; restore it, or choose another folder"):
        RunFolder(tmp_path).status()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "file"
    replace_file(file, b"old")
    (tmp_path / ".file.partial").mkdir()  # whatever makes writing fail
    with pytest.raises(OSError, match="directory"):
        replace_file(file, b"new")
    assert file.read_bytes() == b"old"


JOURNALS = {
    "a step twice in succession": ([0, 10, 10], "line 3 has step 10 again after step 10"),
    "a step again later": ([0, 10, 20, 10, 30], "line 4 has step 10 again after step 20"),
    "two whole runs": ([0, 10, 20, 0, 10, 20], "line 4 has step 0 again after step 20"),
    "steps in turn": ([0, 10, 5], "line 3 has step 5 after step 10"),
}


@pytest.mark.parametrize("name", ["metrics.jsonl", "training.jsonl"])
@pytest.mark.parametrize("case", JOURNALS)
def test_a_journal_that_two_processes_wrote_is_refused_and_nothing_is_changed(
    tmp_path: Path, case: str, name: str
) -> None:
    steps, problem = JOURNALS[case]
    file = tmp_path / name
    file.write_text("".join(f'{{"step": {step}}}\n' for step in steps))
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    run.checkpoint(30).touch()
    before = file.read_bytes()
    with pytest.raises(UserError) as refused:
        run.start(CONFIG, 20, OWN)
    assert str(refused.value) == (
        f"{file} is damaged ({problem}: two processes wrote this file); restore a copy of it, or move {tmp_path} away "
        "and rerun the command"
    )
    assert file.read_bytes() == before
    assert run.checkpoint(30).exists()


@given(st.lists(st.integers(0, 50), max_size=12))
def test_a_journal_is_read_whole_if_and_only_if_its_steps_ascend(steps: list[int]) -> None:
    content = "".join(f'{{"step": {step}}}\n' for step in steps).encode()
    if steps == sorted({*steps}):
        assert [row["step"] for row in journal.complete(content)[0]] == steps
    else:
        with pytest.raises(journal.WrittenTwice):
            journal.complete(content)
