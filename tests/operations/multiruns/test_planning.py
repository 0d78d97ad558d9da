"""The runs of a sweep: which start, and which are refused."""

from typing import Any

import hydra
import pytest
from conftest import SMALL, Train
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from taskcluster.operations.command_line.cli import job_config
from taskcluster.operations.multiruns.planning import Composer
from taskcluster.runs.options import CONF

REFUSED = "model.n_head=3"  # what ends a command once all of it has been read, with a line for each run
BASE = [*(key for key in SMALL if not key.startswith("model.n_layer")), REFUSED, "-m"]


def grids(*given: str) -> str:
    return f"hydra.sweeper.grids=[{','.join(given)}]"


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        ([grids("{model.n_layer:'1,2'}", "{data.loss_on:y}"), "seed=0,1,2"], 9),  # the command's hold in every grid
        ([grids("{model.n_layer:'1,2',seed:'0,1'}", "{data.loss_on:y,seed:0}"), "seed=5"], 3),
        ([grids("{seed:'0,1,2'}", "{seed:'2,3'}")], 4),  # seed 2 once
        ([grids("{seed:'0,0'}", "{seed:0,model.n_layer:6}")], 1),  # which is the default
        (["experiment=seeds_layers", "data.loss_on=y", "seed=0"], 4),  # the control is one of the conditions then
        (["experiment=seeds,layers"], 9),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else str(given),
)
def test_grids_are_one_multirun_without_duplicates(taskcluster_train: Train, arguments: list[str], runs: int) -> None:
    outcome = taskcluster_train(*BASE, *arguments)
    assert outcome.exit_code == 2
    lines = outcome.err.splitlines()
    assert len({*lines}) == len(lines) == runs
    assert all(": refused: model.n_head=3 does not divide" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["hydra.sweeper.grids=3"], "hydra.sweeper holds 3: give dotted keys with values"),
        ([grids("seed")], "hydra.sweeper holds seed: give dotted keys"),
        (
            [grids("{seed:1}", "{model:{n_layer:2}}")],
            "hydra.sweeper holds {'model': {'n_layer': 2}}: give",
        ),
        ([grids("{sed:'0,1'}")], "sed is not a key of the configuration"),
        ([grids("{seed:0}", "{seed:1}"), "hydra.sweep.subdir=same"], "would share the folder"),
        (["hydra.sweeper.params=3"], "hydra.sweeper holds 3: give dotted keys"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_bad_grids_are_refused_in_a_sentence(taskcluster_train: Train, arguments: list[str], sentence: str) -> None:
    assert sentence in taskcluster_train(*BASE, *arguments).refusal()


def test_jobs_that_share_a_composition_get_what_each_would_get_alone() -> None:
    """Values, lists, None, added and removed keys, options of groups, one key twice: in an order that mixes them."""
    jobs = [
        ["seed=1", "model.n_layer=2"],
        ["seed=2", "model.n_layer=4"],
        ["seed=3", "task=pairs", "seeds.kmeans=7"],
        ["seed=4", "task=pairs", "seeds.kmeans=8"],
        ["clusterer.n_clusters=3", "clusterer.n_clusters=4"],
        ["clusterer.n_clusters=5", "clusterer.n_clusters=null"],
        ["seed=5", "~measures.untrained", "measures.nuisance.at=[input]"],
        ["seed=6", "~measures.untrained", "measures.nuisance.at=[instruction_end]"],
        ["seed=7", "+model.resid_pdrop=0.1"],
        ["seed=8", "+model.resid_pdrop=0.2"],
        ["model.n_layer=2", "seed=1"],
        ["seed=${trainer.max_steps}", "task.n_tasks=${oc.select:model.n_layer}", "model.n_embd=${data.batch_size}"],
        ["seed=9", "task.n_tasks=${model.n_layer}", "model.n_embd=${seeds.kmeans}"],
        ["seed=10", "task.n_tasks=4", "model.n_embd='${seed}${seed}'"],
        ["name='\\${seed}'", "task.holdout=${name}", "data.layout='\\${seed}'"],
    ]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        compose = Composer(loader, loader.load_configuration("train", ["name=a"], RunMode.MULTIRUN))
        found = []
        for number, job in enumerate(jobs):
            config = compose(job, number)
            assert HydraConfig.get().job.num == config.hydra.job.num == number
            assert OmegaConf.to_container(HydraConfig.get().overrides) == {"hydra": [], "task": job}
            found.append((job_config(config), OmegaConf.to_container(config.hydra.overrides)))
        alone = [loader.load_configuration("train", job, RunMode.RUN) for job in jobs]
    for (config, overrides), job, expected in zip(found, jobs, alone, strict=True):
        assert config == job_config(expected) == _resolved_by_omegaconf(expected)
        assert overrides == {"hydra": [], "task": job}


def _resolved_by_omegaconf(config: DictConfig) -> Any:
    return OmegaConf.to_container(
        OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]), resolve=True
    )


def test_a_multirun_refuses_the_id_of_one_wandb_run(taskcluster_train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "one")
    outcome = taskcluster_train("-m", *SMALL, "logger=wandb", "seed=0,1")
    assert outcome.exit_code == 2
    assert "WANDB_RUN_ID=one names one W&B run, but a multirun has one W&B run per run" in outcome.err
