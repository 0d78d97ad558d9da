"""taskcluster-analyze without a run: a model that others trained, measured as it is."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL, Outcome

from taskcluster.cli import CONF
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import TIMES

PAIRS = (
    "task=pairs",
    f"task.path={CONF.parent / 'docs' / 'examples' / 'pairs'}",
    "task.n_pairs=12",
    "task.n_sets=10",
    "task.n_demonstrations=2",
    "data.probe_size=60",
    "clusterer.n_init=2",
)
MEASURES = ("measures=[clustering_at_answer,vectors]", "measures.vectors.n_prompts=8", "measures.vectors.n_heads=2")


def analyze(*words: str) -> Outcome:
    ran = subprocess.run([sys.executable, "-m", "taskcluster.analyze", *words], capture_output=True, text=True)
    return Outcome(ran.returncode, ran.stdout, ran.stderr)


@pytest.mark.slow
def test_a_model_of_ours_measured_as_that_of_others_gives_the_same_table(
    taskcluster_train: Callable[..., Outcome], undrawn: None, tmp_path: Path
) -> None:
    small = [word for word in SMALL if word.partition("=")[0] not in {p.partition("=")[0] for p in PAIRS}]
    sizes = [word for word in small if not word.startswith("task.")]
    text = ("data.layout=padded", "data.padding_side=left", "data.loss_on=y")
    own = (*sizes, *PAIRS, *MEASURES, *text, "trainer.max_steps=20", "optimizer.lr=0.01", "hydra.run.dir=run")
    assert taskcluster_train(*own).exit_code == 0
    exported = subprocess.run([sys.executable, "-m", "taskcluster.export", "run", "model"], check=False)
    assert exported.returncode == 0
    asked = (*MEASURES[1:], "measures.vectors.layers=null")
    probed = analyze("model=pretrained", "model.path=model", *PAIRS, *asked)
    assert probed.exit_code == 0, probed.err
    (row,) = RunFolder(next((tmp_path / "outputs" / "probe").rglob("metrics.jsonl")).parent).rows()
    last = RunFolder(tmp_path / "run").rows()[-1]
    wanted = {key for key in last if "val" in key}
    assert {key for key in row if key not in (*TIMES, "step")} == wanted
    assert len([key for key in wanted if key.startswith("vector_")]) > 20
    by_model = ["val/loss", *(key for key in wanted if key.startswith("inertia"))]
    for key in wanted:
        assert row[key] == pytest.approx(last[key], rel=1e-4 if key in by_model else 1e-12), key


@pytest.mark.slow
def test_tasks_told_by_sentences_get_interventions_after_neutral_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = ("model.n_layer=2", "model.n_embd=16", "model.n_head=2", "model.n_positions=128", "clusterer.n_init=2")
    facts = ("task=facts", "task.relations=[capital,language]", "task.n_inputs=4", "task.n_instructions=20")
    probed = analyze("model=gpt2", *sizes, *facts, "measures.interventions.layers=1", "name=tiny")
    assert probed.exit_code == 0, probed.err
    run = RunFolder(next((tmp_path / "outputs" / "tiny").rglob("metrics.jsonl")).parent)
    (row,) = run.rows()
    assert "ari_within_x_at_answer/val/layer_2" in row
    assert [row[f"effect_add_answer/val/layer_{layer}"] is None for layer in range(3)] == [True, False, True]
    assert "What is the opposite of hot?" in run.config()["data"]["prefix"]
    assert run.state == "finished"
    assert not run.saved()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model=pretrained", "model.path=./nowhere", *PAIRS], "data.tokenizer='./nowhere' cannot be loaded"),
        (["model=gpt2", "task=pairs", "task.path=nowhere"], "task.path='nowhere' is not a folder"),
        (["modle=pretrained"], "modle"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = analyze(*words)
    assert outcome.exit_code == 2
    assert sentence in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
