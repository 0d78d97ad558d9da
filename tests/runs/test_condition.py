"""Names of folders, runs and groups: short, readable, and one for each condition."""

import re
from typing import Any

import pytest
from conftest import SMALL, default
from hypothesis import given, settings
from hypothesis import strategies as st

from taskcluster.cli import composed
from taskcluster.results.conditions import conditions
from taskcluster.runs.condition import condition, decisive, digest, group, run_folder, seeds_of, shortened


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "seed=0"),
        (["model.n_layer=6"], "seed=0"),
        (["model.n_layer=2"], "model.n_layer=2/seed=0"),
        (["seed=3", "model.n_layer=2", "optimizer=sgd"], "model.n_layer=2,optimizer=sgd/seed=3"),
        (["optimizer=sgd", "optimizer.lr=0.1"], "optimizer=sgd,optimizer.lr=0.1/seed=0"),
        (["trainer.max_steps=100"], "trainer.max_steps=100/seed=0"),
        (
            ["logger.mode=disabled", "resume=must", "callbacks.checkpoint.every_minutes=1", "trainer.max_time=1:0:0:0"],
            "seed=0",
        ),
        (["logger=none"], "seed=0"),
        (["~measures.chance", "model.n_layer=2"], "measures.chance=~,model.n_layer=2/seed=0"),
        (["~clusterer.n_init"], "clusterer.n_init=~/seed=0"),
        (
            [
                "measures=[clustering,clustering_at_x,nuisance,surface,untrained,chance,interventions]",
                "measures.interventions.n_pairs=100",
            ],
            "measures.interventions=+,measures.interventions.n_pairs=100,measures.kmeans_noise=~/seed=0",
        ),
        (["seeds.kmeans=3"], "seed=0,kmeans=3"),
        (["data.probe_seed=5"], "seed=0,probe_seed=5"),
    ],
)
def test_a_name_shows_where_a_run_departs_from_the_default(overrides: list[str], name: str) -> None:
    assert run_folder(composed(*overrides)) == name


def test_the_order_of_overrides_does_not_matter() -> None:
    one, other = ["model.n_layer=2", "optimizer.lr=0.1"], ["optimizer.lr=0.1", "model.n_layer=2"]
    assert run_folder(composed(*one)) == run_folder(composed(*other))


def test_many_overrides_make_a_name_that_can_be_read() -> None:
    name = condition(composed(*SMALL))
    assert re.fullmatch(r"[\w=,.-]+,\+\d+~[0-9a-f]{8}", name)
    assert name.startswith("measurement.every_n_steps=4,")
    assert len(run_folder(composed(*SMALL, "seed=4294967295")).encode()) <= 128


VALUES = st.one_of(
    st.integers(),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    st.text(max_size=40),
    st.lists(st.integers(), max_size=9),
)
SETTINGS = st.dictionaries(
    st.sampled_from(["alphabet", "n_tasks", "n_atoms", "val_fraction", "holdout"]), VALUES, max_size=5
)


def changed(task: dict[str, Any]) -> dict[str, Any]:
    return default() | {"task": default()["task"] | task}


@settings(max_examples=25, deadline=None)
@given(SETTINGS, SETTINGS)
def test_two_conditions_never_share_a_name(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = changed(one), changed(other)
    assert (condition(first) == condition(second)) == (digest(decisive(first)) == digest(decisive(second)))
    for config in (first, second):
        folder = run_folder(config)
        assert len(folder.encode()) <= 128
        assert len(group(config).encode()) <= 128
        assert re.fullmatch(r"[\w=,.@~+-]*/?[\w=,.@~+-]+", folder)


def test_values_that_differ_in_punctuation_have_names_of_their_own() -> None:
    names = {condition(changed({"alphabet": alphabet})) for alphabet in ("a b", "a_b", "a,b", "a/b", "[a]b", "a:b")}
    assert len(names) == 6


@pytest.mark.parametrize("seed", ["seed", "seeds.kmeans", "data.probe_seed", "task.seed", "model.seed"])
def test_report_folders_and_groups_agree_about_what_a_condition_is(seed: str) -> None:
    """Another seed is another run of the same condition, wherever it is set."""
    one, other = composed("model.n_layer=2"), composed("model.n_layer=2", f"{seed}=7")
    assert len(conditions([(0, "sweep", one), (1, "sweep", other)])) == 1
    assert condition(one) == condition(other)
    assert group(one) == group(other)
    assert run_folder(one) != run_folder(other)
    assert seeds_of(one) != seeds_of(other)


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    names = {shortened("é" * 100 + str(k)) for k in range(3)}
    assert len(names) == 3
    assert all(len(name.encode()) <= 128 for name in names)
    assert shortened("short") == "short"
