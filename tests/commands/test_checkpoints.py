"""Checkpoints of a pretrained model, measured as the steps of one run: here those of a run of the package."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Train
from faults import Command, timeless, train, wandb_steps
from rich.console import Console
from safetensors.torch import load_file, save_file

from taskcluster import load_run
from taskcluster.operations.command_line.cli import Job
from taskcluster.results.findings import Findings
from taskcluster.runs.folder import RunFolder
from taskcluster.training.analysis import analyze, plan
from taskcluster.training.exporting import export
from taskcluster.validation import UserError

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


def on_validation(run: RunFolder) -> list[dict[str, Any]]:
    """What the journal has of validation, step after step, without the steps."""
    return [{key: value for key, value in row.items() if "/val" in key or key.startswith("val/")} for row in run.rows()]


def steps(run: RunFolder) -> list[int]:
    return [row["step"] for row in run.rows()]


@pytest.fixture
def probed(theirs: Path, tmp_path: Path) -> RunFolder:
    """The folder of the run over the checkpoints."""
    return RunFolder(tmp_path / "probed")


def test_exported_checkpoints_have_the_numbers_of_the_run_that_trained_them(
    taskcluster_train: Train, probed: RunFolder, trained: RunFolder
) -> None:
    output = taskcluster_train(*THEIRS).output()
    assert steps(probed) == STEPS
    assert on_validation(probed) == on_validation(trained)
    assert (probed.state, probed.status()["step"], probed.saved(), probed.as_built) == ("finished", 100, [], STEPS)
    assert "step    100  loss" in output
    concluded = probed.results()
    (probed.path / "results.json").unlink()
    probed.write_status("running")  # killed once all was measured
    assert taskcluster_train(*THEIRS).exit_code == 0
    assert (probed.results(), on_validation(probed)) == (concluded, on_validation(trained))


def test_a_step_can_be_loaded_measured_again_and_exported(
    taskcluster_train: Train, theirs: Path, probed: RunFolder, tmp_path: Path
) -> None:
    assert taskcluster_train(*THEIRS).exit_code == 0
    loaded = load_run(probed.path)
    for row in reversed(probed.rows()):
        loaded.go_to(row["step"])
        assert loaded.measure().items() <= row.items()
    target = RunFolder(probed.path / "analysis" / "default")
    analyze(plan(probed, target, [10, 100], {}), Console())
    assert timeless(target) == timeless(probed)[2:]
    assert export(probed.path, tmp_path / "again", 9) == 9
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (theirs / "step9/model.safetensors").read_bytes()
    with pytest.raises(UserError, match="has no checkpoint of step 3; choose from: 0, 9, 10, 100"):
        loaded.go_to(3)
    shutil.rmtree(theirs / "step9")
    with pytest.raises(UserError, match=r"model\.path='theirs' has lost step 9; restore it"):
        loaded.go_to(9)


def test_pages_and_pictures_are_over_their_steps(probed: RunFolder, tmp_path: Path) -> None:
    train(tmp_path, *THEIRS, figures=True)
    points = json.loads((probed.figures / "tsne.json").read_text())["points"]
    assert [*dict.fromkeys(point["step"] for point in points)] == STEPS
    assert {point["step"] for _, points in Findings(probed.path).points() for point in points} == set(STEPS)


def test_resume_after_kill_gives_the_same_journal(probed: RunFolder, trained: RunFolder, tmp_path: Path) -> None:
    words = (*THEIRS, "logger=wandb", "logger.mode=offline")
    Command(tmp_path, *words).until(lambda: len(probed.rows()) == 2).kill()
    assert (probed.state, steps(probed)) == ("killed", [0, 9])
    before = probed.journal.read_bytes()
    assert "resumes after step 9" in train(tmp_path, *words)
    assert probed.journal.read_bytes().startswith(before)
    assert on_validation(probed) == on_validation(trained)
    assert [start["step"] for start in probed.status()["starts"]] == [0, 9]
    (segment,) = probed.path.glob("wandb/offline-run-*/run-*.wandb")
    assert wandb_steps(segment) == STEPS


def test_the_time_limit_ends_it_between_checkpoints(
    taskcluster_train: Train, probed: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "stopped", 0)
    outcome = taskcluster_train(*THEIRS, "trainer.max_time={microseconds:1}")
    assert (outcome.exit_code, probed.state, steps(probed)) == (0, "interrupted", [0])


def test_checkpoints_that_come_later_are_measured(
    taskcluster_train: Train, theirs: Path, probed: RunFolder, tmp_path: Path
) -> None:
    later = shutil.move(theirs / "step100", tmp_path / "step100")
    assert (taskcluster_train(*THEIRS).exit_code, steps(probed)) == (0, STEPS[:3])
    shutil.move(later, theirs)
    outcome = taskcluster_train(*THEIRS)
    assert (outcome.exit_code, outcome.out.count("resumes after step 10"), steps(probed)) == (0, 1, STEPS)
    shutil.rmtree(theirs / "step9")  # its measurement stays
    assert "already finished" in taskcluster_train(*THEIRS).out
    assert steps(probed) == STEPS


@pytest.mark.slow
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
    assert steps(run) == STEPS
    assert on_validation(run) == on_validation(trained)


def reconfigure(checkpoint: Path, **changes: object) -> None:
    config = json.loads((checkpoint / "config.json").read_text()) | changes
    (checkpoint / "config.json").write_text(json.dumps(config))


def cut_bias(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    save_file(weights | {"transformer.ln_f.bias": torch.zeros(3)}, checkpoint / "model.safetensors", {"format": "pt"})


MISTAKES: dict[str, tuple[Callable[[Path], object], tuple[str, ...], str]] = {  # str: nothing is changed
    "another architecture": (
        lambda theirs: reconfigure(theirs / "step9", n_head=4), (),
        "model.path='theirs/step9' differs from model.path='theirs/step0' in n_head (4, not 2); leave it out",
    ),
    "other weights": (
        lambda theirs: cut_bias(theirs / "step100"), (),
        "model.path='theirs/step100' differs from model.path='theirs/step0' in transformer.ln_f.bias "
        "(of shape [3], not of shape [16]); leave it out",
    ),
    "one without weights": (
        lambda theirs: (theirs / "step9" / "model.safetensors").write_bytes(b"{}"), (),
        "model.path='theirs/step9' cannot be loaded",
    ),
    "two of one number": (
        lambda theirs: shutil.copytree(theirs / "step9", theirs / "v009"), (),
        "model.path has two checkpoints of one step, step9 and v009; leave one of them out",
    ),
    "a name that may be several steps": (
        lambda theirs: (theirs / "step9").rename(theirs / "7b-2024"), (),
        "model.path: '7b-2024' does not say which number is its step (7b, 2024); name it as step1000 or",
    ),
    "a revision of a folder": (
        str, ("model.revision=step9",),
        "model.revision='step9', but model.path='theirs' is a folder, and only models on the hub have revisions; leave",
    ),
    "no checkpoints": (
        lambda theirs: [shutil.rmtree(folder) for folder in theirs.iterdir()], (),
        "model.path='theirs' contains neither a model (config.json) nor checkpoints (folders such as step1000",
    ),
    "fine-tuning": (
        str, ("trainer.max_steps=3",),
        "trainer.max_steps=3: model.path names several checkpoints, which can only be measured; set "
        "trainer.max_steps=0, or fine-tune one of them, such as model.path=theirs/step9",
    ),
    "no number": (
        str, ("model.path=a/b", "model.revisions=[step1,main]"),
        "model.revisions: 'main' does not say which number is its step (it has none); name it as step1000",
    ),
    "a revision that is a number": (
        str, ("model.path=a/b", "model.revisions=[1000]"), "model.revisions=[1000] is not a list of texts; write it as",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence_before_anything_is_written(
    taskcluster_train: Train, theirs: Path, tmp_path: Path, mistake: str
) -> None:
    make, words, sentence = MISTAKES[mistake]
    make(theirs)
    assert sentence in taskcluster_train(*THEIRS, *words).refusal()
    assert not [file for file in (tmp_path / "probed").rglob("*") if file.is_file()]
