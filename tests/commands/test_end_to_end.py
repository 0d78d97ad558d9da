"""Whole runs: their files, bit-exact repetition, and the result of the default run."""

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train
from faults import timeless, train

from taskcluster.runs.checkpoints import load, network_weights
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import TIMES, read
from taskcluster.training import figures

ROOT = Path(__file__).parents[2]
STEPS = [0, 2, 4, 6]

pytestmark = pytest.mark.slow


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return network_weights(load(run.saved()[-1][1]))


def test_a_run_leaves_its_journal_results_checkpoints_and_figures(trained: RunFolder) -> None:
    assert [row["step"] for row in trained.rows()] == STEPS
    both, at_x = ("ari", "nmi", "inertia"), ("ari_within_x", "ari_within_x_to_y")
    expected = {f"{m}/{split}/layer_{k}" for m in both for split in ("train", "val") for k in range(3)}
    expected |= {f"{m}/val/layer_{k}" for m in at_x for k in range(3)}
    expected |= {f"{split}/{m}" for split in ("train", "val") for m in ("loss", "accuracy")} | {"step", *TIMES}
    at_the_end = {"ari_at_input/val/layer_2", "ari_to_first/val/layer_2", "ari_input_to_x/val/layer_2"}
    at_the_end |= {"ari_p/val/layer_2", "ari_fixed_k/val/layer_2", "ari_untrained/val/layer_2", "val/ari_symbols"}
    *before, last = (set(row) for row in trained.rows())
    assert all(expected <= row and not at_the_end & row for row in before)
    assert not any(key.startswith(at_x) and "/train/" in key for key in last)
    assert expected | at_the_end <= last
    keys = {"step", "elapsed", "train/batch_loss", "train/learning_rate"}
    assert [set(row) for row in read(trained.training)] == [keys] * 3
    assert (trained.status()["state"], trained.status()["step"]) == ("finished", 6)
    results = trained.results()
    assert results["final"] == trained.rows()[-1]
    assert [claim["passed"] for claim in results["claims"]] == [None] * 7  # six steps teach nothing
    assert sorted(path.name for path in trained.checkpoints.iterdir()) == [
        f"step={step:06d}.ckpt{digest}" for step in STEPS for digest in ("", ".sha256")
    ]
    subprocess.run(["sha256sum", "--check", *trained.checkpoints.glob("*.sha256")], cwd=trained.checkpoints, check=True)
    for name in ("ari", "ari_within_x", "ari_by_layer", "learning", "tsne"):
        assert (trained.figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (trained.figures / f"{name}.svg").read_text()
    points = json.loads((trained.figures / "tsne.json").read_text())["points"]
    assert {(point["step"], point["layer"]) for point in points} == {(step, k) for step in STEPS for k in range(3)}


def markup(run: RunFolder) -> str:
    """The page without its scripts."""
    page = (run.figures / "index.html").read_text()
    return re.sub("<script>.*?</script>", "", page, flags=re.DOTALL)


def test_the_page_shows_verdicts_where_any_is_decided(small_run: RunFolder) -> None:
    assert "claim" not in markup(small_run)
    results = small_run.results()
    for claim, passed in zip(results["claims"], (False, True), strict=False):
        claim |= {"passed": passed, "undecided": ""}
    small_run.write_results(results)
    figures.draw(small_run)
    verdicts = ('<td class="pass">pass', '<td class="fail">FAIL', "<td>not decided: ")
    assert [markup(small_run).count(words) for words in verdicts] == [1, 1, 5]


def test_the_same_seed_gives_the_same_bits_in_another_process(trained: RunFolder, tmp_path: Path) -> None:
    train(tmp_path, *SMALL, "hydra.run.dir=again", figures=True)
    again = RunFolder(tmp_path / "again")
    assert timeless(again) == timeless(trained)
    assert all(torch.equal(value, weights(again)[key]) for key, value in weights(trained).items())
    assert (again.figures / "tsne.json").read_bytes() == (trained.figures / "tsne.json").read_bytes()


def test_a_finished_run_is_not_repeated_and_another_configuration_is_refused(
    small_run: RunFolder, taskcluster_train: Train
) -> None:
    before = small_run.journal.read_bytes()
    again = taskcluster_train(*SMALL, "hydra.run.dir=run")
    assert (again.exit_code, "already finished" in again.out) == (0, True)
    other = taskcluster_train(*SMALL, "hydra.run.dir=run", "optimizer.lr=0.1").refusal()
    assert "contains a run with another configuration, which differs in optimizer.lr" in other
    assert small_run.journal.read_bytes() == before


def test_divergence_fails_the_run_and_keeps_what_was_good(taskcluster_train: Train, tmp_path: Path) -> None:
    outcome = taskcluster_train(
        *SMALL, "optimizer=sgd", "optimizer.lr=1e30", "trainer.gradient_clip_val=null", "hydra.run.dir=run"
    )
    assert outcome.exit_code == 1
    (line,) = outcome.err.splitlines()
    assert "the loss is not finite" in line
    run = RunFolder(tmp_path / "run")
    assert run.status()["state"] == "failed"
    assert [row["step"] for row in run.rows()] == [0]
    assert torch.isfinite(weights(run)["transformer.wte.weight"]).all()


@pytest.mark.usefixtures("undrawn")
def test_a_failing_job_does_not_stop_the_others(taskcluster_train: Train, tmp_path: Path) -> None:
    outcome = taskcluster_train("-m", *SMALL, "name=sweep", "hydra.sweep.subdir=${model.n_head}", "model.n_head=3,2")
    assert "3: refused: model.n_head=3 does not divide" in outcome.refusal()
    assert re.search(r"3 +│ refused .*2 +│ finished +│ 6 ", outcome.out, re.DOTALL)
    assert RunFolder(tmp_path / "multirun/sweep/2").status()["state"] == "finished"


def test_instruments_are_measured_at_their_steps_and_drawn(taskcluster_train: Train, tmp_path: Path) -> None:
    measures = "measures=[clustering,clustering_at_x,instruments,number_of_clusters,probe]"
    small = [word for word in SMALL if not word.startswith("clusterer")]
    chosen = (measures, "measures.probe.every_n_steps=4", "clusterer=agglomerative")
    assert taskcluster_train(*small, *chosen, "hydra.run.dir=run").exit_code == 0
    run = RunFolder(tmp_path / "run")

    def steps(key: str) -> list[int]:
        return [row["step"] for row in run.rows() if key in row]

    assert steps("ami/val/layer_2") == [0, 2, 4, 6]
    assert steps("selectivity_at_input/val/layer_2") == [0, 4, 6]
    assert steps("chosen_k/val/layer_2") == [6]
    assert steps("ami/train/layer_2") == []
    drawn = {file.name for file in run.figures.glob("*.png")}
    assert {"instruments.png", "agreement.png", "probe.png", "chosen_k_by_layer.png"} <= drawn
    assert "Do the instruments agree?" in (run.figures / "index.html").read_text()


@pytest.mark.slow
def test_an_installed_wheel_trains_from_any_folder(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    # The dependencies come from the environment of the tests; the package and its conf/ from the wheel alone.
    venv.create(tmp_path / "env", with_pip=False, system_site_packages=False)
    python = tmp_path / "env/bin/python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel], check=True
    )
    (site,) = (tmp_path / "env/lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")) + "\n")
    command = [tmp_path / "env/bin/taskcluster-train", *SMALL, "hydra.run.dir=run"]
    alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(command, cwd=tmp_path, env=alone, check=True, capture_output=True)
    assert RunFolder(tmp_path / "run").state == "finished"
    assert (site / "taskcluster/conf/train.yaml").is_file()


@pytest.mark.slow
def test_the_default_run_shows_the_papers_result(taskcluster_train: Train, tmp_path: Path) -> None:
    taskcluster_train("name=reproduce", "hydra.run.dir=reproduce").output()
    results = RunFolder(tmp_path / "reproduce").results()
    assert [claim["name"] for claim in results["claims"] if not claim["passed"]] == []
    final = results["final"]
    assert final["val/accuracy"] > 0.9
    assert final["ari_within_x/val/layer_6"] > 0.8
