"""Checkpoints of a pretrained model, measured as the steps of one run: here those of a run of the package."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Outcome
from faults import Command, timeless, train, wandb_steps
from safetensors.torch import load_file, save_file

from taskcluster import load_run
from taskcluster.cli import Job
from taskcluster.results.findings import Findings
from taskcluster.runs.folder import RunFolder
from taskcluster.training.exporting import export
from taskcluster.validation import UserError
from taskcluster.watch.watcher import Watcher

Train = Callable[..., Outcome]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

NAMES = {0: "step0", 2: "step9", 4: "checkpoint-10", 6: "step100"}  # of the steps of the run
STEPS = [0, 9, 10, 100]

TASK = [word for word in SMALL if not word.startswith(("model.", "trainer.max_steps"))]
THEIRS = (
    *TASK,
    "model=pretrained",
    "model.path=theirs",
    "data=sequences",
    "data.tokenizer=theirs",
    "data.template='{instruction}<sep><x:{x}><y:{y}>'",
    "trainer.max_steps=0",
    "hydra.run.dir=probed",
)


@pytest.fixture(scope="module")
def exported(trained: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints, of all the steps of a run."""
    folder = tmp_path_factory.mktemp("exported")
    for step, name in NAMES.items():
        export(trained.path, folder / name, step)
    return folder


@pytest.fixture
def theirs(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "theirs"))


def of_validation(run: RunFolder) -> list[dict[str, Any]]:
    """What the journal has of validation, step after step, without the steps."""
    return [{key: value for key, value in row.items() if "/val" in key or key.startswith("val/")} for row in run.rows()]


def test_the_run_over_exported_checkpoints_has_the_numbers_of_the_run_that_trained_them(
    taskcluster_train: Train, theirs: Path, trained: RunFolder, tmp_path: Path
) -> None:
    outcome = taskcluster_train(*THEIRS)
    assert outcome.exit_code == 0, outcome.err
    run = RunFolder(tmp_path / "probed")
    assert [row["step"] for row in run.rows()] == STEPS
    assert of_validation(run) == of_validation(trained)
    assert (run.state, run.status()["step"], run.saved(), run.as_built) == ("finished", 100, [], STEPS)
    assert "step    100  loss" in outcome.out
    assert "already finished" in taskcluster_train(*THEIRS).out
    concluded = run.results()
    assert concluded["controls"]
    (run.path / "results.json").unlink()
    run.write_status("running")  # killed once all was measured
    assert taskcluster_train(*THEIRS).exit_code == 0
    assert (run.results(), of_validation(run)) == (concluded, of_validation(trained))


def test_a_step_can_be_loaded_measured_again_and_exported(
    taskcluster_train: Train, theirs: Path, tmp_path: Path
) -> None:
    assert taskcluster_train(*THEIRS).exit_code == 0
    run = RunFolder(tmp_path / "probed")
    loaded = load_run(run.path)
    assert loaded.step == 100
    for row in reversed(run.rows()):
        loaded.go_to(row["step"])
        assert loaded.measure().items() <= row.items()
    analyzed = subprocess.run(
        [sys.executable, "-m", "taskcluster.analyze", "probed", "steps=[10,100]"], capture_output=True, text=True
    )
    assert analyzed.returncode == 0, analyzed.stderr
    assert timeless(RunFolder(run.path / "analysis" / "default")) == timeless(run)[2:]
    assert export(run.path, tmp_path / "again", 9) == 9
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (theirs / "step9/model.safetensors").read_bytes()
    with pytest.raises(UserError, match="has no checkpoint of step 3; choose from: 0, 9, 10, 100"):
        loaded.go_to(3)
    shutil.rmtree(theirs / "step9")
    with pytest.raises(UserError, match=r"model\.path='theirs' has lost step 9; restore it"):
        loaded.go_to(9)


def test_pages_and_pictures_are_over_their_steps(theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(tmp_path, *THEIRS, figures=True)
    run = RunFolder(tmp_path / "probed")
    points = json.loads((run.figures / "tsne.json").read_text())["points"]
    assert [*dict.fromkeys(point["step"] for point in points)] == STEPS
    assert all((run.figures / f"{name}.png").stat().st_size > 5000 for name in ("ari", "ari_within_x", "tsne"))
    assert list(next(iter(run.results()["controls"].values()))) != []
    findings = Findings(run.path)
    assert {point["step"] for _, points in findings.points() for point in points} == set(STEPS)
    watcher = Watcher(run.path)
    watcher.scan()
    (live,) = watcher.runs()
    assert (live.state, live.step, live.max_steps, live.problem) == ("finished", 100, 100, "")
    assert live.trend == pytest.approx([row["ari/val/layer_2"] for row in run.rows()])


def test_killed_at_any_moment_it_resumes_after_the_last_measured_checkpoint_to_the_bit(
    theirs: Path, trained: RunFolder, tmp_path: Path
) -> None:
    words = (*THEIRS, "logger=wandb", "logger.mode=offline")
    run = RunFolder(tmp_path / "probed")
    Command(tmp_path, *words).until(lambda: len(run.rows()) == 2).kill()
    assert (run.state, [row["step"] for row in run.rows()]) == ("killed", [0, 9])
    before = run.journal.read_bytes()
    assert "probed resumes after step 9" in train(tmp_path, *words).replace(f"{tmp_path.name}/", "")
    assert run.journal.read_bytes().startswith(before)
    assert of_validation(run) == of_validation(trained)
    assert [start["step"] for start in run.status()["starts"]] == [0, 9]
    (segment,) = run.path.glob("wandb/offline-run-*/run-*.wandb")
    assert wandb_steps(segment) == STEPS


def test_a_signal_and_the_time_limit_end_it_between_checkpoints(
    taskcluster_train: Train, theirs: Path, trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "stopped", 0)
    append = RunFolder.append

    def interrupted(run: RunFolder, row: dict[str, object], elapsed: float, measuring: float) -> None:
        append(run, row, elapsed, measuring)
        if row["step"] == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    run = RunFolder(tmp_path / "probed")
    outcome = taskcluster_train(*THEIRS, "trainer.max_time={microseconds:1}")
    assert (outcome.exit_code, run.state, [row["step"] for row in run.rows()]) == (0, "interrupted", [0])
    Job.stopped = 0  # the command would be another process
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", interrupted)
        outcome = taskcluster_train(*THEIRS)
    assert (outcome.exit_code, run.state, [row["step"] for row in run.rows()]) == (143, "interrupted", [0, 9, 10])
    assert "rerun the same command to resume" in outcome.err
    Job.stopped = 0
    assert taskcluster_train(*THEIRS).exit_code == 0
    assert of_validation(run) == of_validation(trained)


def test_processes_of_a_run_share_the_checkpoints(theirs: Path, trained: RunFolder, tmp_path: Path) -> None:
    train(tmp_path, *THEIRS, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    rows = of_validation(RunFolder(tmp_path / "probed"))
    assert [row["ari/val/layer_2"] for row in rows] == [row["ari/val/layer_2"] for row in of_validation(trained)]


def test_checkpoints_that_come_later_are_measured_by_the_same_command(
    taskcluster_train: Train, theirs: Path, trained: RunFolder, tmp_path: Path
) -> None:
    later = shutil.move(theirs / "step100", tmp_path / "step100")
    assert taskcluster_train(*THEIRS).exit_code == 0
    run = RunFolder(tmp_path / "probed")
    assert [row["step"] for row in run.rows()] == STEPS[:3]
    shutil.move(later, theirs)
    outcome = taskcluster_train(*THEIRS)
    assert (outcome.exit_code, outcome.out.count("resumes after step 10")) == (0, 1)
    pairs = zip(of_validation(trained), of_validation(run), strict=True)
    assert all(row.items() <= measured.items() for row, measured in pairs)  # one was the last step, with more measures
    shutil.rmtree(theirs / "step9")  # what is measured stays
    assert "already finished" in taskcluster_train(*THEIRS).out
    assert [row["step"] for row in run.rows()] == STEPS


def test_revisions_of_a_model_on_the_hub_are_steps_likewise(exported: Path, trained: RunFolder, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--tiny--model"
    for k, (step, name) in enumerate({**NAMES, None: "main"}.items()):
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / (name if step is None else f"step{STEPS[k]}")).write_text(f"{k:040x}")
        shutil.copytree(exported / NAMES[step or 0], repository / "snapshots" / f"{k:040x}")
    words = [word.replace("=theirs", "=tiny/model") for word in THEIRS]
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "taskcluster.train", *words, "model.revisions=[step100,step9,step0,step10]"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    run = RunFolder(tmp_path / "probed")
    assert [row["step"] for row in run.rows()] == STEPS
    assert of_validation(run) == of_validation(trained)


def test_copies_are_named_once_and_kept_in_the_status(taskcluster_train: Train, theirs: Path, tmp_path: Path) -> None:
    for name in ("step100", "checkpoint-10"):
        shutil.copyfile(theirs / "step9/model.safetensors", theirs / name / "model.safetensors")
    later = shutil.move(theirs / "step100", tmp_path / "step100")
    same = "has the same weights, to the bit, as model.path='theirs/step9'"
    outcome = taskcluster_train(*THEIRS)
    assert (outcome.exit_code, outcome.out.count("the same weights")) == (0, 1)
    assert f"model.path='theirs/checkpoint-10' {same}:" in outcome.out
    shutil.move(later, theirs)
    outcome = taskcluster_train(*THEIRS)
    assert (outcome.exit_code, outcome.out.count("the same weights")) == (0, 1)
    assert f"model.path='theirs/step100' {same} and model.path='theirs/checkpoint-10':" in outcome.out
    run = RunFolder(tmp_path / "probed")
    assert run.status()["copies"] == [[9, 10, 100]]
    assert "the same weights" not in taskcluster_train(*THEIRS).out
    rows = of_validation(run)
    assert all(rows[1].items() <= row.items() for row in rows[2:])


def reconfigured(checkpoint: Path, **changes: object) -> None:
    config = json.loads((checkpoint / "config.json").read_text()) | changes
    (checkpoint / "config.json").write_text(json.dumps(config))


def truncated(checkpoint: Path) -> None:
    weights = (checkpoint / "model.safetensors").read_bytes()
    (checkpoint / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def with_other_words(checkpoint: Path) -> None:
    file = checkpoint / "tokenizer.json"
    file.write_text(file.read_text().replace('"<sep>": 1', '"<sep>": 1, "more": 99'))


def with_other_weights(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    save_file(weights | {"transformer.ln_f.bias": torch.zeros(3)}, checkpoint / "model.safetensors", {"format": "pt"})


MISTAKES: dict[str, tuple[Callable[[Path], object], tuple[str, ...], str]] = {
    "another architecture": (
        lambda theirs: reconfigured(theirs / "step9", n_head=4), (),
        "model.path='theirs/step9' differs from model.path='theirs/step0' in n_head (4, not 2); leave it out",
    ),
    "other weights": (
        lambda theirs: with_other_weights(theirs / "step100"), (),
        "model.path='theirs/step100' differs from model.path='theirs/checkpoint-10' in transformer.ln_f.bias "
        "(of shape [3], not of shape [16]); leave it out",
    ),
    "another tokenizer": (
        lambda theirs: with_other_words(theirs / "step9"), (), "in the tokenizer's model; leave it out"
    ),
    "an unreadable one": (
        lambda theirs: truncated(theirs / "checkpoint-10"), (), "model.path='theirs/checkpoint-10' cannot be loaded"
    ),
    "one without weights": (
        lambda theirs: (theirs / "step9" / "model.safetensors").unlink(), (),
        "model.path='theirs/step9' cannot be loaded",
    ),
    "two of one number": (
        lambda theirs: shutil.copytree(theirs / "step9", theirs / "v009"), (),
        "model.path='theirs' has two checkpoints of one step, step9 and v009; leave one of them out",
    ),
    "names that may be several steps": (
        lambda theirs: (theirs / "step9").rename(theirs / "7b-2024"), (),
        "model.path='theirs': '7b-2024' does not say which number is its step (7b, 2024); name it as step1000 or",
    ),
    "a revision of a folder": (
        lambda theirs: None, ("model.revision=step9",), "leave it out, or write model.path=theirs/step9",
    ),
    "an adapter": (
        lambda theirs: (theirs / "step9/config.json").rename(theirs / "step9/adapter_config.json"), (),
        "model.path='theirs/step9' cannot be loaded (it is an adapter",
    ),
    "another epsilon": (
        lambda theirs: reconfigured(theirs / "step9", layer_norm_epsilon=1e-3), (),
        "in layer_norm_epsilon (0.001, not 1e-05); leave it out",
    ),
    "no checkpoints": (
        lambda theirs: [shutil.rmtree(folder) for folder in theirs.iterdir()], (),
        "model.path='theirs' holds neither a model (config.json) nor checkpoints (folders such as step1000",
    ),
    "fine-tuning": (
        lambda theirs: None, ("trainer.max_steps=3",),
        "trainer.max_steps=3: model.path names several checkpoints, which can only be measured; set "
        "trainer.max_steps=0, or fine-tune one of them, such as model.path=theirs/step100",
    ),
    "fine-tuning revisions": (
        lambda theirs: None, ("trainer.max_steps=3", "model.path=a/b", "model.revisions=[v1,v2]"),
        "or fine-tune one of them, such as model.revision=v2",
    ),
    "another run's weights": (lambda theirs: None, ("ckpt_path=some.ckpt",), "some.ckpt': model.path names several"),
    "no number": (
        lambda theirs: None, ("model.path=a/b", "model.revisions=[step1,main]"),
        "model.revisions: 'main' has no number to sort it by; name revisions such as step1000",
    ),
    "revision and revisions": (
        lambda theirs: None, ("model.path=a/b", "model.revision=main", "model.revisions=[step1]"),
        "model.revision='main' is given together with model.revisions; leave one of them out",
    ),
    "revisions of a folder": (
        lambda theirs: None, ("model.revisions=[step1]",), "model.revisions are those of a model on the hub, but"
    ),
    "one revision": (
        lambda theirs: None, ("model.path=a/b", "model.revisions=step1"),
        "model.revisions='step1' is not a list; write model.revisions=[step1]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence_before_anything_is_written(
    taskcluster_train: Train, theirs: Path, tmp_path: Path, mistake: str
) -> None:
    make, words, sentence = MISTAKES[mistake]
    make(theirs)
    outcome = taskcluster_train(*THEIRS, *words)
    assert outcome.exit_code == 2, outcome.err
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1
    assert not [file for file in (tmp_path / "probed").rglob("*") if file.is_file()]


def test_a_checkpoint_without_numbers_is_named(taskcluster_train: Train, theirs: Path, tmp_path: Path) -> None:
    weights = load_file(theirs / "checkpoint-10" / "model.safetensors")
    lost = {name: torch.full_like(weight, torch.nan) for name, weight in weights.items()}
    save_file(lost, theirs / "checkpoint-10" / "model.safetensors", {"format": "pt"})
    outcome = taskcluster_train(*THEIRS)
    assert outcome.exit_code == 2
    assert "model.path='theirs/checkpoint-10' has NaN or infinite values in transformer" in outcome.err
    assert [row["step"] for row in RunFolder(tmp_path / "probed").rows()] == [0, 9]
