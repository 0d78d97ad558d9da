"""The run folder: journal, status, and whose folder it is."""

import json
from pathlib import Path

import pytest

from taskcluster.runs import RunFolder

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


def test_differing_keys_are_named_and_none_differ_in_a_new_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.differing_keys(CONFIG) == []
    run.start(CONFIG)
    assert run.differing_keys(CONFIG) == []
    changed = {"seed": 0, "model": {"n_layer": 2, "n_embd": 128, "n_head": 4}}
    assert run.differing_keys(changed) == ["model.n_head", "model.n_layer"]


def test_status_follows_the_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with run.writing(CONFIG, owner=True, device="cpu"):
        assert run.status()["state"] == "running"
        assert "torch" in run.status()["versions"]
        run.append({"step": 7}, elapsed=0, measuring=0)
    assert run.status()["state"] == "finished"
    assert run.status()["step"] == 7


def test_a_failure_is_recorded_and_passed_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(RuntimeError, match="lost"), run.writing(CONFIG, owner=True, device="cpu"):
        run.append({"step": 3}, elapsed=0, measuring=0)
        raise RuntimeError("lost")
    assert run.status()["state"] == "failed"
    assert run.status()["error"] == "RuntimeError: lost"
    assert [row["step"] for row in run.rows()] == [3]


def test_a_process_that_does_not_own_the_folder_leaves_it_alone(tmp_path: Path) -> None:
    with RunFolder(tmp_path).writing(CONFIG, owner=False, device="cpu"):
        pass
    assert list(tmp_path.iterdir()) == []
