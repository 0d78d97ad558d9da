"""Damaged run folders: one sentence names the run, and the other runs of a multirun, report or live page are
unaffected."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, Train
from planted import config, plant, wanted

from taskcluster import load_run
from taskcluster.operations.live.watcher import Watcher
from taskcluster.results.findings import Findings
from taskcluster.results.tables import tables
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.resume import find_start, is_finished
from taskcluster.training.analysis import Analysis
from taskcluster.validation import UserError

FILES = ("config.yaml", "catalogue.json", "status.json", "results.json", "metrics.jsonl", "training.jsonl")
DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:30]),
    "a list": lambda file: file.write_bytes(b"[1, 2]\n"),
    "binary": lambda file: file.write_bytes(bytes(range(256))),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}

WRONG_VALUES: list[tuple[str, dict[str, Any]]] = [
    ("status.json", {"state": "paused"}),
    ("status.json", {"starts": []}),
    ("status.json", {"wall_seconds": None}),
    ("results.json", {"claims": 3}),
    ("results.json", {"controls": "many"}),
    ("catalogue.json", {"metrics": []}),
    ("metrics.jsonl", {"step": None}),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs."""
    folder = tmp_path_factory.mktemp("whole")
    for seed in range(3):
        run = plant(folder / f"seed={seed}", 0.9, config(seed), kmeans=(0.0, 0.01))
        run.append_training({"step": 200, "train/batch_loss": 1.0}, elapsed=1.0)
    return folder


@pytest.fixture
def sweep(whole: Path, tmp_path: Path) -> Path:
    """A copy, whose second run is to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "s"))


def live_runs(root: Path) -> dict[str, tuple[str, str]]:
    """State and problem of every run on the live page, by name."""
    watcher = Watcher(root)
    watcher.scan()
    return {run.name: (run.state, run.problem) for run in watcher.runs()}


def start_of(run: RunFolder, seed: int) -> str:
    """What the same command would do."""
    try:
        return "finished" if is_finished(run, wanted(seed)) else f"from {find_start(run, wanted(seed)).step}"
    except UserError as error:
        return str(error)


def check_others(sweep: Path) -> str:
    """Check that report, live page and the same command still have the first and third run; what the same command would
    do with the second one."""
    findings = Findings(sweep)
    assert {"seed=0", "seed=2"} <= {run.path for run in findings.runs}
    assert tables(findings, [point for _, points in findings.points() for point in points])
    live = live_runs(sweep)
    first, second, third = (start_of(RunFolder(sweep / f"seed={seed}"), seed) for seed in range(3))
    assert live["seed=0"] == live["seed=2"] == ("finished", "")
    assert (first, third) == ("finished", "finished")
    assert "\n" not in second
    return second


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_affects_only_its_run(sweep: Path, name: str, kind: str) -> None:
    DAMAGES[kind](sweep / "seed=1" / name)
    sentence = check_others(sweep)
    if name == "training.jsonl" or (name, kind) == ("catalogue.json", "missing"):
        assert sentence == "finished"
    else:
        assert name in sentence or "another configuration" in sentence or sentence == "from None"
        assert name in Findings(sweep).gaps[0] or "new before its first step" in Findings(sweep).gaps[0]


@pytest.mark.parametrize(("name", "values"), WRONG_VALUES, ids=str)
def test_a_wrong_value_affects_only_its_run(sweep: Path, name: str, values: dict[str, Any]) -> None:
    file = sweep / "seed=1" / name
    *lines, last = file.read_text().splitlines() if name == "metrics.jsonl" else [file.read_text()]
    file.write_text("\n".join([*lines, json.dumps(json.loads(last) | values)]) + "\n")
    check_others(sweep)
    assert name in Findings(sweep).gaps[0]


def test_a_journal_that_two_processes_wrote_is_named_by_every_reader(sweep: Path) -> None:
    run = RunFolder(sweep / "seed=1")
    lines = run.journal.read_text().splitlines(keepends=True)
    run.journal.write_text("".join([*lines, lines[1], lines[-1]]))  # whose last step hides it
    problem = "line 6 has step 50 after step 200: two processes wrote this file"
    said = f"{run.journal} is damaged ({problem}); restore a copy of it, or move {run.path} away and rerun the command"
    assert check_others(sweep) == said
    assert said in Findings(sweep).gaps
    assert problem in live_runs(sweep)["seed=1"][1]
    analysis = Analysis(run, run, [0], {}, wanted(1))
    for reader in (lambda: load_run(run.path), lambda: analysis.done):
        with pytest.raises(UserError, match="two processes wrote this file"):
            reader()


@pytest.mark.parametrize("name", ["seed=0 (copy)", "two\nlines", "[/red][bold", "no text \udcff", "<b>"])
def test_any_name_of_a_folder_is_shown(sweep: Path, name: str) -> None:
    plant(sweep / name / "seed=7", 0.8, config(7))
    plant(sweep / f"{name}2", 0.8, config(8), finished=False)
    check_others(sweep)
    findings = Findings(sweep)
    assert len(findings.runs) == 4
    "".join([*findings.gaps, *(run.path for run in findings.runs)]).encode()
    assert not any("\n" in run.path for run in findings.runs)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_multirun_refuses_a_damaged_run_and_finishes_the_others(taskcluster_train: Train, tmp_path: Path) -> None:
    command = ["-m", *SMALL, "hydra.sweep.subdir=run_${seed}"]
    assert taskcluster_train(*command, "seed=1").exit_code == 0
    run = RunFolder(tmp_path / "multirun/default/run_1")
    results = run.results()
    (run.path / "status.json").write_text("")
    outcome = taskcluster_train(*command, "seed=0,1")
    assert f"run_1: refused: {run.path}/status.json is damaged; restore it" in outcome.refusal()
    assert re.search(r"run_0 +│ finished", outcome.out)
    assert "The report is" in outcome.out
    (run.path / "results.json").unlink()  # which is made again from the last checkpoint
    (run.path / "status.json").unlink()  # and this from what is there
    assert taskcluster_train(*command, "seed=0,1").exit_code == 0
    assert (run.results(), run.state) == (results, "finished")
