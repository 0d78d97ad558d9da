"""Which runs are one condition, and the names of their folders and W&B groups."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SMALL
from hypothesis import given, settings
from hypothesis import strategies as st

from taskcluster.operations.command_line.cli import composed
from taskcluster.results.conditions import conditions
from taskcluster.runs.condition import decisive, digest, seeds_of
from taskcluster.runs.names import condition, group, run_folder

FREE = Path("/nowhere")  # a folder without runs


@cache
def config(*overrides: str) -> dict[str, Any]:
    return composed(*overrides)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "seed=0"),
        (["seed=3", "optimizer=sgd", "model.n_layer=2"], "optimizer=sgd,model.n_layer=2/seed=3"),
        (["optimizer.lr=0.1", "model=llama", "task=facts"], "task=facts,model=llama,optimizer.lr=0.1/seed=0"),
        (["logger.mode=disabled", "resume=must", "trainer.max_time=1:0:0:0"], "seed=0"),
        (["~measures.chance", "measures=[clustering,probe]"], "measures.chance=~,measures=clustering,probe/seed=0"),
        (["experiment=causal", "model.n_layer=2"], "model.n_layer=2/seed=0"),  # it is in the folder causal
        (["experiment=causal", "name=mine"], "experiment=causal/seed=0"),
        (["seeds.kmeans=3", "data.probe_seed=5"], "seed=0,kmeans=3,probe_seed=5"),
    ],
)
def test_a_name_has_what_the_command_set_task_and_model_first(overrides: list[str], name: str) -> None:
    given = [word for word in overrides if word != "~measures.chance"]  # which the given measures lack
    assert run_folder(config(*given), overrides, FREE) == name


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (["callbacks.measurement.every_n_steps=40"], "default~"),  # the schedule is not shown
        (["measures.chance.every_n_steps=40", "model.n_layer=2"], "model.n_layer=2~"),
        (["model=pretrained", "model.path='runs/seed=0/model'"], "model=pretrained,model.path=model~"),
        (["task.alphabet='a b'"], "task.alphabet=a_b~"),
        ([*SMALL], "task.n_tasks=6,task.instructions_per_task=20~"),
    ],
)
def test_a_name_that_does_not_say_all_ends_in_a_digest(overrides: list[str], start: str) -> None:
    assert re.fullmatch(rf"{re.escape(start)}[0-9a-f]{{8}}", condition(config(*overrides), overrides))


WORDS = st.lists(
    st.tuples(
        st.sampled_from(["task.alphabet", "task.holdout", "model.x", "callbacks.measurement.n_early"]),
        st.one_of(st.text(max_size=40), st.sampled_from(["a b", "a_b", "'a,b'", "[a,b]", "[a]", "a/b", "[a]b"])),
    ),
    max_size=4,
    unique_by=lambda word: word[0],
)


@settings(max_examples=50, deadline=None)
@given(WORDS, WORDS)
def test_two_conditions_never_share_a_name(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> None:
    configs = [config() | dict(words) for words in (one, other)]
    names = [condition(c, [f"{k}={v}" for k, v in words]) for c, words in zip(configs, (one, other), strict=True)]
    assert names[0] != names[1] or digest(decisive(configs[0])) == digest(decisive(configs[1]))
    assert all(len(name) <= 69 and re.fullmatch(r"[\w=,.@~+-]*", name) for name in names)


@pytest.mark.parametrize("name", ["measures.probe=+,model.n_layer=2", "model.n_layer=2", ""])
def test_a_run_keeps_the_name_that_an_earlier_version_or_command_gave_it(tmp_path: Path, name: str) -> None:
    for seed in (0, 1):
        folder = tmp_path / name / f"seed={seed}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config("model.n_layer=2", f"seed={seed}")))
    words = ["optimizer=adamw", "model.n_layer=2", "seed=1"]
    assert run_folder(config(*words), words, tmp_path) == str(Path(name, "seed=1"))
    assert run_folder(config(*words, "seed=2"), words, tmp_path) == "optimizer=adamw,model.n_layer=2/seed=2"
    (tmp_path / name / "seed=1/config.yaml").write_text("a: [")
    assert run_folder(config(*words), words, tmp_path) == "optimizer=adamw,model.n_layer=2/seed=1"


@pytest.mark.parametrize("seed", ["seed", "seeds.kmeans", "data.probe_seed", "task.seed", "model.seed"])
def test_another_seed_is_another_run_of_the_same_condition(seed: str) -> None:
    words = ["model.n_layer=2"], ["model.n_layer=2", f"{seed}=7"]
    one, other = (config(*given) for given in words)
    assert len(conditions([(0, "sweep", one), (1, "sweep", other)])) == 1
    assert condition(one, words[0]) == condition(other, words[1])
    assert run_folder(one, words[0], FREE) != run_folder(other, words[1], FREE)
    assert seeds_of(one) != seeds_of(other)


def test_the_group_is_the_condition_and_has_a_digest_where_the_folder_was_chosen() -> None:
    assert group(config(), Path("outputs/default/seed=0")) == "default"
    assert group(config(), Path("outputs/default/model.n_layer=2/seed=0")) == "model.n_layer=2"
    assert group(config(), Path("run")) != group(config("model.n_layer=2"), Path("run"))


def test_models_of_a_suite_that_differ_in_their_seed_are_one_condition() -> None:
    paths = [f"EleutherAI/pythia-70m-seed{k}" for k in (1, 2)] + ["EleutherAI/pythia-160m-seed1"]
    words = [["model=pretrained", f"model.path={path}"] for path in paths]
    one, other, larger = (config(*each) for each in words)
    assert digest(decisive(one)) == digest(decisive(other)) != digest(decisive(larger))
    assert (seeds_of(one), seeds_of(other)) == ("0, model_seed=1", "0, model_seed=2")
    folders = [run_folder(made, each, FREE) for made, each in zip((one, other), words[:2], strict=True)]
    assert len({folder.partition("/")[0] for folder in folders}) == 1
    assert [folder.rpartition("/")[2] for folder in folders] == ["seed=0,model_seed=1", "seed=0,model_seed=2"]
    assert folders[0].startswith("model=pretrained,model.path=pythia-70m-seedN~")
