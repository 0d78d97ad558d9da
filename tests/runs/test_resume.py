"""Where a run begins or resumes, and which folders and checkpoints are refused."""

from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, Train
from faults import Command, assert_equal, assert_identical, timeless, train
from planted import config, plant, wanted

from taskcluster.metrics import OWN
from taskcluster.runs.checkpoints import load
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.resume import find_start, is_finished

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]


def learning_rate(run: RunFolder, step: int) -> float:
    state: Any = load(run.checkpoint(step))["optimizer_states"][0]
    return float(state["param_groups"][0]["lr"])


def test_resume_never_refuses_a_folder_with_a_run_and_must_one_without(
    taskcluster_train: Train, small_run: RunFolder
) -> None:
    before = small_run.journal.read_bytes()
    assert (
        "already contains a run (finished); choose another name="
        in taskcluster_train(*SMALL, "hydra.run.dir=run", "resume=never").refusal()
    )
    assert (
        "contains nothing to resume from; leave resume out to start a new run"
        in taskcluster_train(*SMALL, "hydra.run.dir=other", "resume=must").refusal()
    )
    assert taskcluster_train(*SMALL, "hydra.run.dir=run", "resume=must").exit_code == 0
    assert small_run.journal.read_bytes() == before


@pytest.mark.parametrize(
    ("measured", "start"),
    [([], None), ([9], 9), ([9, 10], 10), ([10], None), ([9, 100], 9), ([5, 9, 10, 100, 200], 200)],
)
def test_a_series_resumes_before_the_first_checkpoint_that_the_journal_lacks(
    tmp_path: Path, measured: list[int], start: int | None
) -> None:
    run = RunFolder(tmp_path)
    run.start(config(0), None, OWN)
    for step in measured:
        run.append({"step": step}, elapsed=0, measuring=0)
    assert find_start(run, wanted(0), (9, 10, 100)).step == start


def test_a_finished_run_is_known_and_one_without_its_configuration_refused(tmp_path: Path) -> None:
    run = plant(tmp_path, 0.9, config(0))
    assert is_finished(run, wanted(0))
    assert not is_finished(run, wanted(1))
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(
        ValueError, match=r"contains a run without its config\.yaml; restore it, or choose another folder"
    ):
        find_start(run, wanted(0))


def test_more_steps_continue_a_finished_run_with_the_longer_schedule(
    taskcluster_train: Train, small_run: RunFolder
) -> None:
    first = timeless(small_run)
    assert learning_rate(small_run, 6) == 0
    assert (
        f"trainer.max_steps=5 is not above the 6 steps that {small_run.path} has done; raise it"
        in taskcluster_train(*SMALL, "hydra.run.dir=run", "trainer.max_steps=5").refusal()
    )
    output = taskcluster_train(*SMALL, "hydra.run.dir=run", "trainer.max_steps=12").output()
    assert "trainer.max_steps is 12 instead of 6: from here on the learning rate follows the schedule of 12" in output
    assert [row["step"] for row in small_run.rows()] == [0, 2, 4, 6, 8, 12]
    assert timeless(small_run)[:4] == first
    assert [(start["step"], start["max_steps"]) for start in small_run.status()["starts"]] == [(0, 6), (6, 12)]
    assert learning_rate(small_run, 8) > 0


def test_a_run_can_begin_with_the_checkpoint_of_another(
    taskcluster_train: Train, small_run: RunFolder, tmp_path: Path
) -> None:
    checkpoint = f"ckpt_path={small_run.checkpoint(4)}"
    taskcluster_train(*SMALL, checkpoint, "hydra.run.dir=same").output()
    same = RunFolder(tmp_path / "same")
    assert timeless(same) == timeless(small_run)[2:]
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_equal(load(same.checkpoint(6))[key], load(small_run.checkpoint(6))[key], at=key)
    assert same.results()["claims"][0]["value"] is None  # a claim about step 0
    changes = ("optimizer.lr=0.0001", "trainer.max_steps=8")
    taskcluster_train(*SMALL, checkpoint, "hydra.run.dir=slower", *changes).output()
    groups = load(RunFolder(tmp_path / "slower").checkpoint(8))["optimizer_states"][0]["param_groups"]
    assert [group["initial_lr"] for group in groups] == [0.0001] * 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ckpt_path=nowhere.ckpt"], "nowhere.ckpt' cannot be used: it does not exist; choose another"),
        (["ckpt_path=some.ckpt"], "some.ckpt contains more than tensors and plain containers"),
        (["trainer.max_steps=3", "ckpt_path=CHECKPOINT"], "was saved at step 6, after trainer.max_steps=3; raise it"),
        (["optimizer=sgd", "ckpt_path=CHECKPOINT"], "was trained with torch.optim.AdamW, not torch.optim.SGD; choose"),
        (["model.n_layer=1", "ckpt_path=CHECKPOINT"], "has a different architecture: transformer.h.1.attn.c_attn.bias"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    taskcluster_train: Train, small_run: RunFolder, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "some.ckpt").write_text("not a checkpoint")
    arguments = [argument.replace("CHECKPOINT", str(small_run.checkpoint(6))) for argument in arguments]
    assert sentence in taskcluster_train(*SMALL, *arguments, "hydra.run.dir=other").refusal()
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize(
    "kind",
    [
        *([f"optimizer={optimizer}"] for optimizer in ("muon", "sgd", "adafactor", "radam")),
        ["trainer.accumulate_grad_batches=2", "model.dropout=0.1", "data.layout=sequences"],
        [
            "objective=[next_token,bottleneck,detached,pull]",
            "objective.bottleneck.probability=0.5",
            "objective.pull.layers=[1]",
            "objective.pull.at=input",
        ],
    ],
    ids=" ".join,
)
def test_every_kind_of_training_resumes_exactly(taskcluster_train: Train, tmp_path: Path, kind: list[str]) -> None:
    assert taskcluster_train(*SMALL, *kind, "hydra.run.dir=run").exit_code == 0
    run, again = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "again")
    branch = [f"ckpt_path={run.checkpoint(2)}", "hydra.run.dir=again"]
    assert taskcluster_train(*SMALL, *kind, *branch).exit_code == 0
    assert timeless(again) == timeless(run)[1:]
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "loops"):
        assert_equal(load(again.checkpoint(6))[key], load(run.checkpoint(6))[key], at=key)


def test_a_branch_with_nothing_left_to_train_is_measured(
    taskcluster_train: Train, small_run: RunFolder, tmp_path: Path
) -> None:
    """Claims about a missing row are undecided."""
    command = [*SMALL, f"ckpt_path={small_run.checkpoint(6)}", "hydra.run.dir=again"]
    taskcluster_train(*command).output()
    again = RunFolder(tmp_path / "again")
    assert timeless(again) == timeless(small_run)[-1:]
    assert_equal(load(again.checkpoint(6))["state_dict"], load(small_run.checkpoint(6))["state_dict"], at="weights")
    assert {claim["passed"] for claim in again.results()["claims"]} == {None}
    assert "already finished" in taskcluster_train(*command).out


@pytest.mark.parametrize(
    "changes",
    [
        ["trainer.accumulate_grad_batches=3", "data.batch_size=8"],
        ["data.layout=sequences"],
        ["trainer=ddp", "objective=[answer,pull]", "objective.pull.layers=[1]"],
    ],
    ids=" ".join,
)
def test_a_branch_with_other_batches_resumes_exactly(tmp_path: Path, changes: list[str]) -> None:
    train(tmp_path, *SMALL, "trainer.max_steps=3", "model.dropout=0.1", "hydra.run.dir=origin")
    branch = [*SMALL, "trainer.max_steps=40", "model.dropout=0.1", *changes]
    branch += [f"ckpt_path={RunFolder(tmp_path / 'origin').checkpoint(3)}"]
    train(tmp_path, *branch, "hydra.run.dir=straight")
    killed = RunFolder(tmp_path / "killed")
    Command(tmp_path, *branch, "hydra.run.dir=killed").until(lambda: len(killed.rows()) > 2).kill()
    train(tmp_path, *branch, "hydra.run.dir=killed")
    assert_identical(killed, RunFolder(tmp_path / "straight"))


def test_a_time_limit_saves_and_the_same_command_resumes(
    taskcluster_train: Train, small_run: RunFolder, tmp_path: Path
) -> None:
    limited = RunFolder(tmp_path / "limited")
    for step in (1, 2, 3):
        outcome = taskcluster_train(*SMALL, "hydra.run.dir=limited", "trainer.max_time={milliseconds: 1}")
        assert outcome.exit_code == 0, outcome.err
        assert "interrupted by trainer.max_time; rerun the same command" in outcome.err
        assert (limited.status()["state"], limited.status()["step"]) == ("interrupted", step)
    assert taskcluster_train(*SMALL, "hydra.run.dir=limited", "trainer.max_time='00:00:01:00'").exit_code == 0
    assert_identical(limited, small_run)


@pytest.mark.parametrize(
    "setting",
    [
        "+trainer.max_epochs=2", "+trainer.limit_train_batches=0", "+trainer.fast_dev_run=true",
        "+trainer.callbacks=[]", "+trainer.logger=true", "+trainer.enable_checkpointing=true",
        "trainer.precision=16-mixed", "+trainer.strategy=fsdp", "trainer.devices=0",
    ],
)  # fmt: skip
def test_settings_that_would_break_a_run_are_refused(taskcluster_train: Train, tmp_path: Path, setting: str) -> None:
    assert setting.lstrip("+").partition("=")[0].rpartition(".")[2] in taskcluster_train(*SMALL, setting).refusal()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
