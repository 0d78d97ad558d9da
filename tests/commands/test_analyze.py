"""Runs measured again from their checkpoints: the same numbers, other measures, and analyses in reports."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Outcome, Train
from faults import timeless

from taskcluster import analyze
from taskcluster.library.loaded_states import load_states
from taskcluster.operations.command_line.cli import Job
from taskcluster.results.findings import Findings
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import TIMES
from taskcluster.training.loading import load_run
from taskcluster.validation import UserError

pytestmark = pytest.mark.usefixtures("undrawn")

CAUSAL = ("measures=[interventions]", "data.probe_size=400")


@pytest.fixture
def taskcluster_analyze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Train:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["taskcluster-analyze", *arguments])
        with pytest.raises(SystemExit) as ended:
            analyze.main()
        return Outcome(int(ended.value.code or 0), *capfd.readouterr())

    return run


def verdicts(run: RunFolder) -> dict[str, object]:
    """results.json without the times of its last row."""
    results = run.results()
    assert results["controls"]
    return results | {"final": {key: value for key, value in results["final"].items() if key not in TIMES}}


def analysis(run: RunFolder, name: str = "default") -> RunFolder:
    return RunFolder(run.path / "analysis" / name)


def measured(run: RunFolder, name: str = "default") -> list[int]:
    return [row["step"] for row in analysis(run, name).rows()]


def test_offline_equals_live_to_the_bit(taskcluster_train: Train, taskcluster_analyze: Train, tmp_path: Path) -> None:
    every = ("measures=[clustering,clustering_at_x,kmeans_noise,chance,interventions]", "data.probe_size=400")
    often = ("measures.kmeans_noise.every_n_steps=4", "measures.chance.every_n_steps=1")
    taskcluster_train(*SMALL, *every, *often, "hydra.run.dir=live").output()
    live = RunFolder(tmp_path / "live")
    expected = {"ari_kmeans_sd/val/layer_2", "ari_shuffled/val/layer_2", "effect_add_input/val/layer_2"}
    assert expected <= {*live.rows()[2]}
    before = {file: file.read_bytes() for file in live.path.rglob("*") if file.is_file()}
    taskcluster_analyze("live").output()
    assert timeless(analysis(live)) == timeless(live)
    assert verdicts(analysis(live)) == verdicts(live)
    assert all(file.read_bytes() == content for file, content in before.items())


def test_a_signal_ends_it_and_the_same_command_resumes(
    small_run: RunFolder, taskcluster_analyze: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "stopped", 0)
    append = RunFolder.append

    def interrupted(run: RunFolder, row: dict[str, object], elapsed: float, measuring: float) -> None:
        append(run, row, elapsed, measuring)
        if row["step"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", interrupted)
        outcome = taskcluster_analyze("run")
    assert (outcome.exit_code, outcome.err.count("interrupted")) == (130, 1)
    assert (analysis(small_run).state, measured(small_run)) == ("interrupted", [0, 2])
    Job.stopped = 0  # the command would be another process
    with analysis(small_run).journal.open("a") as journal:
        journal.write('{"step": 4, "val')  # torn by a crash
    assert "resumes after step 2" in taskcluster_analyze("run").out
    assert timeless(analysis(small_run)) == timeless(small_run)
    assert "already finished" in taskcluster_analyze("run").out


def test_other_steps_and_settings(small_run: RunFolder, taskcluster_analyze: Train) -> None:
    strong = (*CAUSAL, "measures.interventions.alphas=[2]")
    assert taskcluster_analyze("run", "name=some", "steps=[4,0]", *strong).exit_code == 0
    row, _ = analysis(small_run, "some").rows()
    assert measured(small_run, "some") == [0, 4]
    assert "effect_add_input_alpha_2/val/layer_2" in row
    assert "ari/val/layer_2" not in row
    assert "was made with another configuration" in taskcluster_analyze("run", "name=some", "steps=last").refusal()


def test_the_measured_states_can_be_kept(small_run: RunFolder, taskcluster_analyze: Train) -> None:
    outcome = taskcluster_analyze("run", "steps=[4,6]", "measures=[clustering]", "states=kept")
    assert (outcome.exit_code, f"The states of {small_run.name} are in" in outcome.out) == (0, True)
    for step in (4, 6):
        expected = load_run(small_run.path, step).observe("val", ["instruction_end", "input"])
        kept = load_states(f"kept/step={step:06d}/val")
        assert {*kept.positions} == {"instruction_end", "input"}  # the second as prompts share the first
        for position in kept.positions:
            assert torch.equal(kept.at(position), expected.at(position))
            assert kept.label("task", position) == expected.label("task", position)
        with pytest.raises(UserError, match="of different prompts, answers, positions, sites or model"):
            expected.save(f"kept/step={10 - step:06d}/val")  # another step's
    again = ("run", "steps=[4,6]", "measures=[clustering]")
    assert taskcluster_analyze(*again, "states=kept").exit_code == 0
    Path("file").touch()
    assert "is a file; choose a folder" in taskcluster_analyze(*again, "states=file").refusal()


def test_every_run_of_a_folder_is_measured_and_reported(
    small_run: RunFolder, taskcluster_analyze: Train, tmp_path: Path
) -> None:
    shutil.move(small_run.path, tmp_path / "sweep" / "seed=0")  # a path that looks like a setting
    assert taskcluster_analyze("sweep/seed=0", "steps=last").exit_code == 0
    other = Path(shutil.copytree(tmp_path / "sweep" / "seed=0", tmp_path / "sweep" / "n=2" / "seed=0"))
    config = (other / "config.yaml").read_text().replace("batch_size: 16", "batch_size: 32")
    (other / "config.yaml").write_text(config)
    assert taskcluster_analyze("sweep", *CAUSAL, "name=causal", "steps=last").exit_code == 0
    findings = Findings(tmp_path / "sweep")
    assert {condition.sweep for condition in findings.conditions} == {"sweep"}
    assert any(metric.startswith("effect_add_input") for metric in findings.catalogue)


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_a_failing_run_does_not_stop_the_others(
    small_run: RunFolder, taskcluster_analyze: Train, tmp_path: Path, launcher: str
) -> None:
    runs = [RunFolder(Path(shutil.copytree(small_run.path, tmp_path / f"many/seed={seed}"))) for seed in range(3)]
    damaged = runs[0].checkpoint(2)
    damaged.write_bytes(damaged.read_bytes()[:1000])
    words = ("many", f"hydra/launcher={launcher}", "measures=[clustering]", "output=elsewhere")
    outcome = taskcluster_analyze(*words)
    assert (outcome.exit_code, "step=000002.ckpt cannot be read as a checkpoint" in outcome.err) == (2, True)
    targets = [RunFolder(tmp_path / f"elsewhere/seed={seed}/analysis/default") for seed in range(3)]
    assert [target.state for target in targets] == ["failed", "finished", "finished"]
    assert timeless(targets[1]) == timeless(targets[2])
    assert not list(tmp_path.glob("many/**/analysis"))
    again = taskcluster_analyze(*words)
    assert (again.exit_code, again.out.count(": already finished")) == (2, 2)


def test_it_computes_with_the_threads_of_the_run(
    small_run: RunFolder, taskcluster_analyze: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    starts = small_run.status()["starts"]
    torch.set_num_threads(3)
    try:
        for threads, used in ((2, 2), (8, 3)):
            small_run.write_status("finished", starts=[*starts, starts[-1] | {"threads": threads}])
            name = str(threads)
            assert taskcluster_analyze("run", f"name={name}", "measures=[clustering]", "steps=last").exit_code == 0
            assert analysis(small_run, name).status()["starts"][-1]["threads"] == used
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("chosen", ["agglomerative", "gaussian_mixture"])
def test_another_clusterer_measures_with_the_seeds_of_the_run(
    chosen: str, taskcluster_analyze: Train, small_run: RunFolder
) -> None:
    assert taskcluster_analyze("run", "steps=last", f"clusterer={chosen}", "clusterer.n_clusters=5").exit_code == 0
    target = analysis(small_run)
    clusterer = target.config()["clusterer"]
    assert (clusterer["n_clusters"], clusterer["seed"]) == (5, small_run.config()["seeds"]["kmeans"])
    assert target.config()["measures"] == small_run.config()["measures"]
    (row,), before = target.rows(), small_run.rows()[-1]
    assert row["val/loss"] == before["val/loss"]
    assert row["inertia/val/layer_2"] > before["inertia/val/layer_2"]  # of 5 clusters instead of 6
    noise = target.results()["controls"]["ari_kmeans_sd"][2]
    assert (len(noise), len(set(noise)) == 1) == (5, chosen == "agglomerative")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no folder given; write a run folder"),
        (["measures=[clustering]"], "no folder given; write a run folder"),
        (["nowhere"], "nowhere contains no run"),
        (["model=gpt2", "states=kept"], "states=kept needs a run; measure the model first"),
        (["run", "seed=1"], "seed cannot be set in an analysis"),
        (["run", "data.probe_seed=-1"], "data.probe_seed=-1: input should be greater than or equal to 0"),
        (["run", "data.probe_size=1,2"], "data.probe_size=1,2 gives several values; give one"),
        (["run", "clusterer.n_clusters=1000"], "clusterer.n_clusters=1000 exceeds the"),
        (["run", "clusterer.k=3"], "clusterer.k is not a key of the run's configuration"),
        (["run", "hydra/launcher=nope"], "nope"),
        (["run", "hydra/launcher=joblib", "hydra.launcher.n_job=2"], "hydra.launcher.n_job"),
        (["run", *CAUSAL, "measures.interventions.n_pairs=0"], "measures.interventions.n_pairs=0: input should be"),
        (["run", "measures=[foo]"], "measures=foo is not an option of measures"),
        (["run", "steps=5"], "has no checkpoint of step 5; choose from: 0, 2, 4, 6"),
        (["run", "steps=x"], "steps=x is not all, last or a list such as [0,600]"),
        (["run", "name=a/b"], "name='a/b' cannot be a folder name"),
        (["run", "measures"], "'measures' is not KEY=VALUE"),
        (
            ["run", *CAUSAL[:1], "data.probe_size=6"],
            "no two tasks of the probe set share an x but differ in the first token of y",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    small_run: RunFolder, taskcluster_analyze: Train, words: list[str], sentence: str
) -> None:
    assert sentence in taskcluster_analyze(*words).refusal()
    assert not (small_run.path / "analysis").exists()
