"""taskcluster-analyze without a run: measure a pretrained model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL, Outcome, Train
from faults import train

from taskcluster.analyze import main
from taskcluster.operations.command_line.cli import COMMAND, CONF, composed
from taskcluster.runs.folder import RunFolder
from taskcluster.training.exporting import export

PAIRS = (
    "task=pairs",
    f"task.path={CONF.parent / 'docs' / 'examples' / 'pairs'}",
    "task.n_pairs=12",
    "task.n_sets=20",
    "task.n_demonstrations=2",
    "data.probe_size=60",
    "clusterer.n_init=2",
)
MEASURES = (
    "measures=[clustering_at_answer,baselines_at_answer,interventions_at_answer,vectors]",
    "measures.interventions.layers=null",
    "measures.interventions.n_pairs=40",
    "measures.vectors.n_prompts=8",
    "measures.vectors.n_heads=2",
)


def analyze(*words: str) -> Outcome:
    ran = subprocess.run([sys.executable, "-m", "taskcluster.analyze", *words], capture_output=True, text=True)
    return Outcome(ran.returncode, ran.stdout, ran.stderr)


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of a small model on pairs until all is right, and with the exported `model`."""
    folder = tmp_path_factory.mktemp("perfect")
    small = [word for word in SMALL if not word.startswith(("task.", "data.", "clusterer.", "trainer.", "callbacks."))]
    text = ("data.layout=padded", "data.padding_side=left", "data.loss_on=y", "data.batch_size=60", "model.n_embd=32")
    long = ("trainer.max_steps=240", "callbacks.measurement.every_n_steps=240", "callbacks.measurement.n_early=0")
    train(folder, *small, *PAIRS, *MEASURES, *text, *long, "optimizer.lr=0.01", "hydra.run.dir=run")
    export(folder / "run", folder / "model")
    return folder


@pytest.mark.slow
def test_a_model_trained_until_all_is_right_has_the_same_table_as_a_model_of_others(
    perfect: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    analyze("model=pretrained", f"model.path={perfect / 'model'}", *PAIRS, *MEASURES, "hydra.run.dir=probed").output()
    (row,) = RunFolder(tmp_path / "probed").rows()
    last = RunFolder(perfect / "run").rows()[-1]
    assert row["val/accuracy"] == row["val/first_token_few_shot"] == row["ari_within_x_at_answer/val/layer_2"] == 1
    assert row["effect_interchange_answer/val/layer_2"] == 1  # B's state gives B's answer
    assert row["effect_random_answer/val/layer_2"] < 0.1
    # a metric that is undefined, such as a recovered share of nothing, is null in the journal
    expected = {key: float("nan") if value is None else value for key, value in last.items() if "val" in key}
    found = {key: float("nan") if value is None else value for key, value in row.items() if "val" in key}
    assert found == pytest.approx(expected, rel=1e-4, nan_ok=True)
    assert len([key for key in expected if key.startswith(("vector_", "effect_"))]) > 40


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_tasks_specified_by_sentences_get_interventions_after_neutral_questions(
    taskcluster_train: Train, tmp_path: Path
) -> None:
    sizes = ("model.n_layer=2", "model.n_embd=16", "model.n_head=2", "model.n_positions=128", "clusterer.n_init=2")
    facts = ("task=facts", "task.relations=[capital,language]", "task.n_inputs=4", "task.n_instructions=20")
    words = ("experiment=probe", "model=gpt2", *sizes, *facts, "measures.interventions.layers=1", "name=tiny")
    output = taskcluster_train(*words).output()
    run = RunFolder(next((tmp_path / "outputs" / "tiny").rglob("metrics.jsonl")).parent)
    (row,) = run.rows()
    for metric in ("ari_at_answer", "ari_within_x_at_answer"):
        assert {f"{metric}_{name}/val/layer_2" for name in ("untrained", "p", "shuffled", "fixed_k")} <= {*row}
        assert {f"val/{metric}_{name}" for name in ("symbols", "bigrams", "mean_embedding", "edit_distance")} <= {*row}
        assert len(run.results()["controls"][f"{metric}_kmeans_sd"]) == 3
    assert f"bag of tokens {row['val/ari_at_answer_symbols']:.2f}" in output
    assert [row[f"effect_add_answer/val/layer_{layer}"] is None for layer in range(3)] == [True, False, True]
    assert "What is the opposite of hot?" in run.config()["data"]["prefix"]
    assert (run.state, run.saved()) == ("finished", [])


@pytest.mark.parametrize("describe", ["instruction", "demonstrations"])
def test_a_probe_has_every_baseline_but_what_is_left_out(describe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def become(program: str, command: list[str]) -> None:
        raise SystemExit(" ".join(command))

    words = ["task=facts", f"task.describe={describe}", "model=gpt2", "~measures.untrained"]
    monkeypatch.setattr(os, "execv", become)
    monkeypatch.setattr(sys, "argv", ["taskcluster-analyze", *words])
    monkeypatch.setenv(COMMAND, "")
    with pytest.raises(SystemExit) as ended:
        main()
    experiment = {"instruction": "probe", "demonstrations": "probe_demonstrations"}[describe]
    assert str(ended.value).endswith(f"experiment={experiment} {' '.join(words)}")
    chosen = composed(f"experiment={experiment}", *words)["measures"]
    assert {name for name, given in chosen.items() if given.get("at") in (["answer"], "answer")} >= {
        *("clustering_at_answer", "nuisance", "surface", "chance", "kmeans_noise")
    }
    assert "untrained" not in chosen
    assert composed(f"experiment={experiment}", *words[:-1])["measures"]["untrained"]["at"] == ["answer"]
