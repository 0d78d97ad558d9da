"""Variance components that are known are recovered, from the runs of experiment=variance."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import default
from planted import config, plant

from taskcluster.operations.command_line.cli import CONF, composed
from taskcluster.results.findings import Findings
from taskcluster.results.variance import SOURCES, one_way_components, seeds_by_source, tables, variance_components

EXPERIMENTS = 1000
ROWS = yaml.safe_load((CONF / "experiment/variance.yaml").read_text())["hydra"]["sweeper"]["grids"]
DESIGN = [{source: str(row.get(f"seeds.{source}", row["seed"])) for source in SOURCES} for row in ROWS]


def simulated(components: tuple[float, ...], seeds: list[dict[str, str]] = DESIGN) -> np.ndarray:
    """Values (R, EXPERIMENTS) whose variance has these components, each source nested in those before it."""
    random, values = np.random.default_rng(0), np.zeros((len(seeds), EXPERIMENTS))
    for depth, component in enumerate(components, 1):
        effects: dict[tuple[str, ...], np.ndarray] = {}
        for row, of_run in zip(values, seeds, strict=True):
            path = tuple(of_run[source] for source in SOURCES)[:depth]
            if path not in effects:
                effects[path] = random.normal(0, component**0.5, EXPERIMENTS)
            row += effects[path]
    return values


@pytest.mark.parametrize("components", [(4, 1, 1, 0, 1), (10, 0.1, 0.1, 0.1, 0.1)])
def test_known_components_are_recovered_and_covered(components: tuple[float, ...]) -> None:
    found = variance_components(simulated(components), DESIGN)
    assert [(one.source, one.freedom) for one in found] == list(zip(SOURCES, (4, 5, 5, 5, 5), strict=True))
    for one, truth in zip(found, components, strict=True):
        error = one.variance.std() / EXPERIMENTS**0.5
        assert one.variance.mean() == pytest.approx(truth, abs=4 * error)
        covered = np.mean((one.lower <= truth) & (truth <= one.upper))
        assert 0.93 < covered < (0.985 if truth else 1)  # an interval from 0 misses on one side alone


def test_a_balanced_design_has_the_classical_estimates() -> None:
    """Two sources, four weights in each of three sets of tasks: see Searle, Casella and McCulloch, chapter 3."""
    same = {"batches": "0", "probe": "0", "kmeans": "0"}
    seeds = [{"tasks": str(tasks), "model": f"{tasks}.{model}", **same} for tasks in range(3) for model in range(4)]
    values = np.random.default_rng(0).normal(size=(12, 1))
    cells = values.reshape(3, 4)
    within = cells.var(1, ddof=1).mean()
    tasks, weights = variance_components(values, seeds)
    assert weights.variance[0] == pytest.approx(within)
    assert tasks.variance[0] == pytest.approx(cells.mean(1).var(ddof=1) - within / 4)


@pytest.mark.parametrize(
    "seeds",
    [
        [dict.fromkeys(SOURCES, str(seed)) for seed in range(5)],  # all vary together
        [dict.fromkeys(SOURCES, "0") | {"model": str(seed)} for seed in range(5)],  # one source
        [dict.fromkeys(SOURCES, "0") | {"tasks": str(k % 2), "model": str(k)} for k in range(3)],  # too few
    ],
)
def test_other_runs_have_no_components(seeds: list[dict[str, str]]) -> None:
    assert variance_components(np.ones((len(seeds), 1)), seeds) == []


def test_seeds_of_sources_are_those_that_the_parts_have() -> None:
    assert seeds_by_source(default()) == dict.fromkeys(SOURCES, "0")
    own = composed("seed=3", "seeds.tasks=0", "clusterer.seed=7")
    assert seeds_by_source(own) == {"tasks": "0", "model": "3", "batches": "3", "probe": "3", "kmeans": "7"}


def test_the_runs_of_the_experiment_are_one_condition_with_a_table(tmp_path: Path) -> None:
    for k, (row, seeds) in enumerate(zip(ROWS, DESIGN, strict=True)):
        settings = config(row["seed"]) | {"seeds": seeds, "model": {"n_layer": 3, "seed": seeds["model"]}}
        plant(tmp_path / f"variance/{k}", 0.6 + 0.01 * int(seeds["tasks"]) + 0.001 * int(seeds["kmeans"]), settings)
    found = Findings(tmp_path / "variance")
    assert len(found.conditions) == 1
    assert found.gaps == []
    (table,) = tables(found)
    assert table.title == "Where the variance comes from"
    of_ari = {row[1]: row for row in table.rows if row[0] == "ARI at the separator"}
    assert [*of_ari] == ["tasks", "weights", "batches", "probe", "KMeans", "all together"]
    assert int(of_ari["tasks"][3].rstrip("%")) > 90
    assert tables(Findings(plant(tmp_path / "one/seed=0", 0.9, config(0)).path)) == []


@pytest.mark.parametrize("training", [0.03, 0.0])
def test_training_is_told_from_repetitions(training: float) -> None:
    random = np.random.default_rng(0)
    runs = random.normal(0.9, training, (4000, 1)) + random.normal(0, 0.01, (4000, 10))
    means, within, between = one_way_components(runs.tolist())
    assert means == pytest.approx(runs.mean(1))
    assert (within, between) == pytest.approx((0.01, training), rel=0.03, abs=0.001)


def test_one_run_says_nothing_about_training() -> None:
    means, within, between = one_way_components([[0.8, 0.9], [0.5]])
    assert (means, within) == ([pytest.approx(0.85)], pytest.approx(0.005**0.5))
    assert np.isnan(between)
    assert one_way_components([[0.8], []])[0] == []
