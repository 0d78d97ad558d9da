"""An exported run measured as a pretrained model, as documented: the same tasks, the same numbers."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SMALL, Train
from test_probe import PAIRS, analyze

from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import TIMES
from taskcluster.training.exporting import export

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

MEASURE = ("model=pretrained", "model.path=model", "trainer.max_steps=0", "logger=none", "hydra.run.dir=measured")

FACTS = ("task=facts", "task.relations=[plural,past_tense,length]", "task.n_inputs=6", "task.n_instructions=8")
REST = [word for word in SMALL if not word.startswith("task.")]
RUNS = {
    "regex, other seeds": (*SMALL, "seed=5", "seeds.kmeans=3", "data.probe_seed=7"),
    "demonstrations": (*REST, *FACTS, "task.describe=demonstrations", "task.n_sets=12", "model.n_positions=128"),
    "pairs": (*REST, *PAIRS, "data.layout=sequences", "model.n_positions=128"),
    "template, loss on y": (*SMALL, "data.template={instruction}<sep>{x}:{y}", "data.loss_on=y"),
    "padded llama": (*SMALL, "model=llama", "data.layout=padded", "data.padding_side=left"),
    "before the final norm": (*SMALL, "data.probe_final_norm=false", "data.prefix=ab<sep>"),
    "bottleneck": (*SMALL, "objective=[next_token,bottleneck,pull]", "objective.pull.layers=[1]"),
    "measures": (*SMALL, "measures=[clustering_at_answer,probe,interventions]", "measures.interventions.n_pairs=20"),
}
SLOW = {"demonstrations", "pairs", "padded llama", "template, loss on y"}


def numbers(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in (*TIMES, "step")}


def validation(row: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a row that a pretrained model has too."""
    return {key: value for key, value in numbers(row).items() if "/val" in key or key.startswith("val/")}


@pytest.fixture
def model(trained: RunFolder, tmp_path: Path) -> Path:
    export(trained.path, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] * (k in SLOW)) for k in RUNS])
def test_numbers_are_those_of_the_journal_to_the_bit(taskcluster_train: Train, tmp_path: Path, kind: str) -> None:
    taskcluster_train(*RUNS[kind], "hydra.run.dir=run").output()
    export(tmp_path / "run", tmp_path / "model")
    assert "are those of model/taskcluster.yaml" in taskcluster_train(*MEASURE).output()
    run, measured = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "measured")
    (row,) = measured.rows()
    assert len(numbers(row)) > 10
    assert numbers(row) == validation(run.rows()[-1])
    for part in ("task", "clusterer", "measures", "seed", "seeds"):
        assert measured.config()[part] == run.config()[part], part
    assert measured.config()["data"]["tokenizer"] == "model"


@pytest.mark.slow
def test_analyze_measures_the_tasks_and_prompts_of_the_run(model: Path, trained: RunFolder, tmp_path: Path) -> None:
    analyze("model=pretrained", f"model.path={model}", f"hydra.run.dir={tmp_path / 'measured'}").output()
    (row,) = RunFolder(tmp_path / "measured").rows()
    last = trained.rows()[-1]
    same = [(key, key.replace("_at_answer", "")) for key in row if key.startswith("ari_within_x_at_answer/val")]
    assert len(same) == 3
    assert all(row[ours] == last[theirs] for ours, theirs in same)
    assert "effect_add_answer/val/layer_1" in row


def test_what_the_command_gives_comes_first(taskcluster_train: Train, model: Path, tmp_path: Path) -> None:
    given = ("seed=9", "task.n_mappings=3", "data.probe_size=24", "measures=[clustering]", "clusterer.n_init=1")
    taskcluster_train(*MEASURE, *given).output()
    config = RunFolder(tmp_path / "measured").config()
    assert (config["seed"], config["task"]["seed"], config["data"]["probe_seed"]) == (9, 9, 9)
    assert (config["task"]["n_tasks"], config["task"]["n_mappings"], config["data"]["probe_size"]) == (6, 3, 24)
    assert [*config["measures"]] == ["clustering"]
    assert config["clusterer"]["n_init"] == 1


MISTAKES: dict[str, tuple[str, str]] = {
    "task=facts": ("", "model.path='model' has no token for "),
    "data.template={instruction} {x} -> {y}": ("", "has no token for ' ', '-', '0'"),
    "seed=0": ("task: [", "model/taskcluster.yaml is not the configuration of a run; export the run again"),
    "seed=1": ("task: 3", "is not the configuration of a run"),
}


@pytest.mark.parametrize("word", MISTAKES)
def test_mistakes_are_one_sentence_before_anything_is_written(taskcluster_train: Train, model: Path, word: str) -> None:
    content, sentence = MISTAKES[word]
    if content:
        (model / "taskcluster.yaml").write_text(content)
    assert sentence in taskcluster_train(*MEASURE, word).refusal()
    assert not Path("measured/metrics.jsonl").exists()


def test_checkpoints_of_different_runs_are_refused(taskcluster_train: Train, model: Path) -> None:
    config = yaml.safe_load((model / "taskcluster.yaml").read_text())
    for name, size in (("step0", 60), ("step6", 61)):
        shutil.copytree(model, f"both/{name}")
        config["data"]["probe_size"] = size
        Path(f"both/{name}/taskcluster.yaml").write_text(yaml.safe_dump(config))
    assert (
        "'both': step0 and step6 were exported from runs that differ in data.probe_size"
        in taskcluster_train(*MEASURE, "model.path=both").refusal()
    )


def test_each_run_of_a_multirun_follows_its_model(taskcluster_train: Train, model: Path) -> None:
    shutil.copytree(model, "two")
    config = yaml.safe_load(Path("two/taskcluster.yaml").read_text())
    config["data"]["probe_size"] = 30
    Path("two/taskcluster.yaml").write_text(yaml.safe_dump(config))
    words = ("model=pretrained", "trainer.max_steps=0", "logger=none", "measures=[clustering]")
    taskcluster_train("-m", "model.path=model,two", *words).output()
    runs = [RunFolder(file.parent) for file in sorted(Path("multirun").rglob("metrics.jsonl"))]
    assert sorted(run.config()["data"]["probe_size"] for run in runs) == [30, 60]
