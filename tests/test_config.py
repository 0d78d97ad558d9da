"""Every YAML composes with every other and builds what its name says."""

import re
from itertools import product

import pytest
import torch
import yaml
from conftest import SMALL, default
from omegaconf import OmegaConf

from taskcluster.config import RunConfig
from taskcluster.data.batches import Packer
from taskcluster.operations.command_line import cli
from taskcluster.operations.command_line.cli import composed
from taskcluster.training.experiment import language_model, prepare

GROUPS = {
    folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in cli.CONF.iterdir() if folder.is_dir()
}
OWN = {  # what a task needs instead of the sizes of SMALL
    "task=facts": ["task.n_inputs=4", "task.n_instructions=6"],
    "task=pairs": [f"task.path={cli.CONF.parent / 'docs' / 'examples' / 'pairs'}", "task.n_pairs=4", "task.n_sets=5"],
}
LOADED = "model=pretrained"  # which needs a model: tests/models/test_pretrained.py
TASKS, MODELS, OPTIMIZERS, SCHEDULERS = (
    [f"{group}={option}" for option in GROUPS[group] if f"{group}={option}" != LOADED]
    for group in ("task", "model", "optimizer", "scheduler")
)
COMPOSED = [
    *product(TASKS, MODELS, ["optimizer=adamw"], ["scheduler=cosine"]),
    *product(["task=regex"], ["model=gpt2"], OPTIMIZERS, SCHEDULERS),
]


@pytest.mark.parametrize("choice", [f"{g}={option}" for g, options in GROUPS.items() for option in options])
def test_every_option_composes_and_passes_the_checks(choice: str) -> None:
    if choice.startswith("callbacks="):  # of which a run needs all
        choice = f"callbacks=[{','.join(GROUPS['callbacks'])}]"
    assert RunConfig.of(composed(choice)).as_dict() == composed(choice)


@pytest.mark.parametrize("choices", COMPOSED, ids=" ".join)
def test_every_task_model_optimizer_and_scheduler_work_together(choices: tuple[str, ...]) -> None:
    parts = {"task": "task=regex", "model": "model=gpt2_768"}  # whose sizes are not those of SMALL
    small = [key for key in SMALL if not key.startswith("task.") or parts["task"] in choices]
    if parts["model"] in choices:
        small = [key for key in small if not key.startswith("model.")] + ["model.n_layer=1"]
    config = RunConfig.of(composed(*choices, *small, *OWN.get(choices[0], [])))
    data, network = prepare(config)
    configured = language_model(config, data, network).configure_optimizers()
    batch = Packer(data.train_rows, data.loss_on, network.device)(torch.arange(2))
    batch.loss(network(**batch.inputs).logits).backward()
    configured["optimizer"].step()
    configured["lr_scheduler"]["scheduler"].step()


@pytest.mark.parametrize("experiment", GROUPS["experiment"])
def test_an_experiment_sweeps_under_its_own_name(experiment: str) -> None:
    assert composed(f"experiment={experiment}")["name"] == experiment
    written = (cli.CONF / f"experiment/{experiment}.yaml").read_text()
    assert re.search(rf"^#     taskcluster-train experiment={experiment}( .*)?$", written, re.MULTILINE)
    if experiment.startswith("probe"):  # one model, as it is
        return
    sweeper = yaml.safe_load(written)["hydra"]["sweeper"]
    for swept in [sweeper.get("params", {}), *sweeper.get("grids", [])]:
        values = {key: re.split(r",(?![^\[]*\])", str(texts)) for key, texts in swept.items()}
        for n in range(max(map(len, values.values()), default=0)):
            composed(f"experiment={experiment}", *(f"{key}={of[n % len(of)]}" for key, of in values.items()))


def test_every_key_has_a_comment_or_a_clear_name() -> None:
    plain = "_target_ defaults seed probe_seed n_layer n_head n_embd accelerator devices precision strategy"
    plain += " momentum nesterov project max_steps n_tasks instructions_per_task n_seeds n_shuffles"
    for file in cli.CONF.rglob("*.yaml"):
        text = file.read_text()
        assert text.startswith("# "), f"{file.name} does not say what it is"
        if file.name == "train.yaml" or file.parent.name == "experiment":
            continue
        content = {key: value for key, value in (yaml.safe_load(text) or {}).items() if key != "defaults"}
        for key in (
            next(iter(content.values())) if file.parent.name in ("callbacks", "measures", "objective") else content
        ):
            line = next(line for line in text.splitlines() if line.strip().startswith(f"{key}:"))
            assert "#" in line or key in plain.split(), f"{file.name}: {key} has no comment"


def test_the_defaults_that_help_names_are_the_defaults() -> None:
    template = yaml.safe_load((cli.CONF / "train.yaml").read_text())["hydra"]["help"]["template"]
    block = template.split("with their defaults:")[1].split("Groups")[0]
    pairs = [pair.split("=") for pair in block.split()]
    assert len(pairs) > 10
    for key, value in pairs:
        assert str(OmegaConf.select(OmegaConf.create(default()), key)) == value, key


def test_seeds_follow_the_one_seed_unless_set() -> None:
    config = composed("seed=7", "seeds.kmeans=1")
    assert (config["task"]["seed"], config["data"]["probe_seed"], config["model"]["seed"]) == (7, 7, 7)
    assert config["clusterer"]["seed"] == 1
