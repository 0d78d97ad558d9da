"""Where a run begins, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, Outcome
from faults import Command, assert_equal, assert_identical, timeless, train

from taskcluster.runs.checkpoints import load
from taskcluster.runs.folder import RunFolder

Train = Callable[..., Outcome]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]


@pytest.fixture
def run(small_run: RunFolder) -> RunFolder:
    return small_run


def learning_rate(run: RunFolder, step: int) -> float:
    state: Any = load(run.checkpoint(step))["optimizer_states"][0]
    return float(state["param_groups"][0]["lr"])


def test_never_refuses_a_folder_with_a_run_and_must_one_without(taskcluster_train: Train, run: RunFolder) -> None:
    before = run.journal.read_bytes()
    outcome = taskcluster_train(*SMALL, "hydra.run.dir=run", "resume=never")
    assert outcome.exit_code == 2
    assert "resume='never', but" in outcome.err
    assert "holds a run already (finished); choose another name=" in outcome.err
    outcome = taskcluster_train(*SMALL, "hydra.run.dir=other", "resume=must")
    assert outcome.exit_code == 2
    assert "holds nothing to resume from; leave it out to start a new run" in outcome.err
    assert taskcluster_train(*SMALL, "hydra.run.dir=run", "resume=must").exit_code == 0
    assert run.journal.read_bytes() == before
    assert taskcluster_train(*SMALL, "hydra.run.dir=run", "resume=maybe").exit_code == 2


def test_more_steps_go_on_from_a_finished_run_with_the_schedule_of_the_longer(
    taskcluster_train: Train, run: RunFolder, tmp_path: Path
) -> None:
    first = timeless(run)
    assert learning_rate(run, 6) == 0
    outcome = taskcluster_train(*SMALL, "hydra.run.dir=run", "trainer.max_steps=12")
    assert outcome.exit_code == 0, outcome.err
    assert (
        "trainer.max_steps is 12 instead of 6: from here on the learning rate follows the schedule of 12" in outcome.out
    )
    assert [row["step"] for row in run.rows()] == [0, 2, 4, 6, 8, 12]
    assert timeless(run)[:4] == first
    assert [(start["step"], start["max_steps"]) for start in run.status()["starts"]] == [(0, 6), (6, 12)]
    assert taskcluster_train(*SMALL, "trainer.max_steps=12", "hydra.run.dir=straight").exit_code == 0
    straight = RunFolder(tmp_path / "straight")
    assert learning_rate(run, 8) == learning_rate(straight, 8) > 0


def test_fewer_steps_than_done_are_refused(taskcluster_train: Train, run: RunFolder) -> None:
    outcome = taskcluster_train(*SMALL, "hydra.run.dir=run", "trainer.max_steps=5")
    assert outcome.exit_code == 2
    assert f"trainer.max_steps=5 is not above the 6 steps that {run.path} has done; raise it" in outcome.err
    assert run.state == "finished"


def test_a_run_can_begin_with_the_checkpoint_of_another(
    taskcluster_train: Train, run: RunFolder, tmp_path: Path
) -> None:
    checkpoint = f"ckpt_path={run.checkpoint(4)}"
    outcome = taskcluster_train(*SMALL, checkpoint, "hydra.run.dir=same")
    assert outcome.exit_code == 0, outcome.err
    same = RunFolder(tmp_path / "same")
    assert timeless(same) == timeless(run)[2:]
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_equal(load(same.checkpoint(6))[key], load(run.checkpoint(6))[key], at=key)
    assert same.results()["claims"][0]["value"] is None  # what is said of step 0 is not known

    outcome = taskcluster_train(
        *SMALL, checkpoint, "hydra.run.dir=slower", "optimizer.lr=0.0001", "trainer.max_steps=8"
    )
    assert outcome.exit_code == 0, outcome.err
    groups = load(RunFolder(tmp_path / "slower").checkpoint(8))["optimizer_states"][0]["param_groups"]
    assert [group["initial_lr"] for group in groups] == [0.0001] * 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ckpt_path=nowhere.ckpt"], "nowhere.ckpt' cannot be used: it does not exist; choose another"),
        (["trainer.max_steps=3", "ckpt_path=CHECKPOINT"], "was saved at step 6, after trainer.max_steps=3; raise it"),
        (["optimizer=sgd", "ckpt_path=CHECKPOINT"], "was trained with torch.optim.AdamW, not torch.optim.SGD; choose"),
        (["model.n_layer=1", "ckpt_path=CHECKPOINT"], "is of another architecture: transformer.h.1.attn.c_attn.bias"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    taskcluster_train: Train, run: RunFolder, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    arguments = [argument.replace("CHECKPOINT", str(run.checkpoint(6))) for argument in arguments]
    outcome = taskcluster_train(*SMALL, *arguments, "hydra.run.dir=other")
    assert outcome.exit_code == 2
    assert sentence in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert list((tmp_path / "other").iterdir()) == []


def test_a_file_that_is_no_checkpoint_is_refused(taskcluster_train: Train, tmp_path: Path) -> None:
    (tmp_path / "some.ckpt").write_text("not a checkpoint")
    outcome = taskcluster_train(*SMALL, "ckpt_path=some.ckpt")
    assert outcome.exit_code == 2
    assert "some.ckpt" in outcome.err


@pytest.mark.parametrize(
    "kind",
    [
        *([f"optimizer={optimizer}"] for optimizer in ("muon", "sgd", "adafactor", "radam")),
        ["trainer.accumulate_grad_batches=2", "model.dropout=0.1", "data.layout=sequences"],
    ],
    ids=" ".join,
)
def test_every_kind_of_training_goes_on_exactly(taskcluster_train: Train, tmp_path: Path, kind: list[str]) -> None:
    assert taskcluster_train(*SMALL, *kind, "hydra.run.dir=run").exit_code == 0
    run, again = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "again")
    going_on = [f"ckpt_path={run.checkpoint(2)}", "hydra.run.dir=again"]
    assert taskcluster_train(*SMALL, *kind, *going_on).exit_code == 0
    assert timeless(again) == timeless(run)[1:]
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "loops"):
        assert_equal(load(again.checkpoint(6))[key], load(run.checkpoint(6))[key], at=key)


def test_a_change_of_machine_is_said(taskcluster_train: Train, run: RunFolder) -> None:
    starts = run.status()["starts"]
    starts[0] |= {"threads": 64, "versions": starts[0]["versions"] | {"torch": "2.8.0"}}
    run.write_status("failed", starts=starts)
    outcome = taskcluster_train(*SMALL, "hydra.run.dir=run")
    assert outcome.exit_code == 0
    assert "this run resumes with threads" in outcome.out
    assert "(before: 64), torch" in outcome.out


def test_a_branch_with_nothing_left_to_train_is_measured(
    taskcluster_train: Train, run: RunFolder, tmp_path: Path
) -> None:
    """Claims that need a row which is not there are neither held nor failed."""
    outcome = taskcluster_train(*SMALL, f"ckpt_path={run.checkpoint(6)}", "hydra.run.dir=again")
    assert outcome.exit_code == 0, outcome.err
    again = RunFolder(tmp_path / "again")
    assert timeless(again) == timeless(run)[-1:]
    assert_equal(load(again.checkpoint(6))["state_dict"], load(run.checkpoint(6))["state_dict"], at="weights")
    assert again.status()["state"] == "finished"
    assert {claim["passed"] for claim in again.results()["claims"]} == {None}
    assert "claim" not in outcome.out
    before = again.journal.read_bytes()
    assert "already finished" in taskcluster_train(*SMALL, f"ckpt_path={run.checkpoint(6)}", "hydra.run.dir=again").out
    assert again.journal.read_bytes() == before


@pytest.mark.lasting
@pytest.mark.parametrize(
    "changes",
    [
        ["trainer.accumulate_grad_batches=2"],
        ["trainer.accumulate_grad_batches=3", "data.batch_size=8"],
        ["data.layout=sequences"],
        ["trainer=ddp"],
    ],
    ids=" ".join,
)
def test_a_branch_with_other_batches_resumes_exactly(tmp_path: Path, changes: list[str]) -> None:
    origin = [*SMALL, "trainer.max_steps=3", "model.dropout=0.1", "hydra.run.dir=origin"]
    train(tmp_path, *origin)
    branch = [*SMALL, "trainer.max_steps=40", "model.dropout=0.1", *changes]
    branch += [f"ckpt_path={RunFolder(tmp_path / 'origin').checkpoint(3)}"]
    train(tmp_path, *branch, "hydra.run.dir=straight")
    straight, killed = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "killed")
    Command(tmp_path, *branch, "hydra.run.dir=killed").until(lambda: len(killed.rows()) > 2).kill()
    train(tmp_path, *branch, "hydra.run.dir=killed")
    assert_identical(killed, straight)
    an_update = 2 if "=2" in changes[0] else 3 if "=3" in changes[0] else 1
    batches = load(straight.checkpoint(40))["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
    assert batches == 40 * an_update


def test_a_time_limit_saves_and_the_same_command_resumes(taskcluster_train: Train, tmp_path: Path) -> None:
    command = [*SMALL, "trainer.max_steps=12", "model.dropout=0.1"]
    assert taskcluster_train(*command, "hydra.run.dir=straight").exit_code == 0
    limited, straight = RunFolder(tmp_path / "limited"), RunFolder(tmp_path / "straight")
    limits = ("00:00:00:01", "{seconds: 1}", "{milliseconds: 1}", "00:00:01:00")
    for limit in limits:
        outcome = taskcluster_train(
            *command, "hydra.run.dir=limited", f"trainer.max_time='{limit}'".replace("'{", "{").replace("}'", "}")
        )
        assert outcome.exit_code == 0, outcome.err
        if limited.status()["state"] == "finished":
            break
        assert limited.status()["error"] == "trainer.max_time"
        assert "interrupted by trainer.max_time; rerun the same command" in outcome.err
    assert_identical(limited, straight)


def test_a_time_limit_of_a_moment_still_makes_progress(taskcluster_train: Train, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    for step in (1, 2, 3):
        outcome = taskcluster_train(*SMALL, "hydra.run.dir=run", "trainer.max_time={milliseconds: 1}")
        assert outcome.exit_code == 0, outcome.err
        assert (run.status()["state"], run.status()["step"]) == ("interrupted", step)


@pytest.mark.parametrize(
    "limit", ["5m", "00:00:00", "-1:00:00:00", "00:00:00:00", "{hour: 1}", "[1]", "10", "1:2:3:4:5"]
)
def test_a_time_limit_that_is_none_is_refused(taskcluster_train: Train, limit: str) -> None:
    outcome = taskcluster_train(*SMALL, f"trainer.max_time={limit}")
    assert outcome.exit_code == 2
    (line,) = outcome.err.splitlines()
    assert "trainer.max_time=" in line


@pytest.mark.parametrize(
    "setting",
    [
        "+trainer.max_epochs=2", "+trainer.limit_train_batches=0", "+trainer.fast_dev_run=true", "+trainer.min_steps=9",
        "+trainer.overfit_batches=1", "+trainer.callbacks=[]", "+trainer.logger=true", "+trainer.plugins=[]",
        "+trainer.enable_checkpointing=true", "+trainer.default_root_dir=x", "trainer.precision=16-mixed",
        "trainer.precision=16", "trainer.precision=transformer-engine", "+trainer.strategy=fsdp", "trainer.devices=0",
    ],
)  # fmt: skip
def test_settings_that_would_break_a_run_are_refused(taskcluster_train: Train, tmp_path: Path, setting: str) -> None:
    outcome = taskcluster_train(*SMALL, setting)
    assert outcome.exit_code == 2
    (line,) = outcome.err.splitlines()
    assert setting.lstrip("+").partition("=")[0].rpartition(".")[2] in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
