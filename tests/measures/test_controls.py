"""What moves the ARI besides training, on a small network."""

import math
from statistics import fmean, stdev

import pytest
import torch
from conftest import SMALL
from seen import seen
from transformers import PreTrainedModel

from taskcluster.cli import composed
from taskcluster.config import RunConfig
from taskcluster.measures.controls import Chance, KMeansNoise
from taskcluster.measures.kmeans import KMeans
from taskcluster.measures.measure import Measurement
from taskcluster.training.experiment import measuring, prepare

Measured = tuple[Measurement, PreTrainedModel]

OTHER_SEEDS = {"ari_kmeans_sd": "ari", "ari_within_x_kmeans_sd": "ari_within_x"}
AT = ["instruction_end", "input"]


def measured_with(*overrides: str) -> Measured:
    config = RunConfig.of(composed(*SMALL, *overrides))
    data, network = prepare(config)
    return measuring(config, data), network


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measured_with()


def test_each_says_what_it_is_a_control_of(measured: Measured) -> None:
    known = measured[0].catalogue
    kinds = {"noise": "kmeans_sd", "chance": "shuffled", "largest": "shuffled_largest", "p": "p"}
    for kind, ending in kinds.items():
        controls = {key: metric.of for key, metric in known.items() if metric.kind == kind}
        assert controls == {f"{of}_{ending}": of for of in ("ari", "ari_within_x")}


def test_the_first_seed_is_the_runs_own_and_others_move_the_ari(measured: Measured) -> None:
    measurement, network = measured
    journal, found = measurement(network), measurement.controls(network)
    assert set(found) == {*OTHER_SEEDS}
    for key, of in OTHER_SEEDS.items():
        assert len(found[key]) == sum(name.startswith(f"{of}/val/") for name in journal) == 3
        for layer, values in enumerate(found[key]):
            assert len(values) == 10
            assert values[0] == journal[f"{of}/val/layer_{layer}"]
    assert len(set(found["ari_kmeans_sd"][2])) > 1


def test_controls_are_of_the_weights_they_are_given() -> None:
    (measurement, network), (fresh, _) = (measured_with("measures.kmeans_noise.n_seeds=2") for _ in range(2))
    measurement(network)
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    assert measurement.controls(network) == fresh.controls(network)


def test_the_journal_has_no_repetitions_unless_it_is_asked_to() -> None:
    measurement, network = measured_with("measures.kmeans_noise.every_n_steps=4", "measures.kmeans_noise.n_seeds=3")
    repeated = measurement.controls(network)
    expected = {f"{key}/val/layer_{layer}": stdev(repeated[key][layer]) for key in OTHER_SEEDS for layer in range(3)}
    for step, last, due in ((4, False, True), (2, False, False), (6, True, True)):
        journal = measurement(network, step, last)
        found = {key: value for key, value in journal.items() if key.split("/")[0] in OTHER_SEEDS}
        assert found == (expected if due else {})
    silent, _ = measured_with()
    assert not {key.split("/")[0] for key in silent(network)} & OTHER_SEEDS.keys()


def test_seeds_are_as_many_as_it_is_told() -> None:
    measurement, network = measured_with("measures.kmeans_noise.n_seeds=2", "measures=[clustering,kmeans_noise]")
    assert [type(measure) for measure in measurement.measures.values()][1:] == [KMeansNoise]
    assert {len(values) for layers in measurement.controls(network).values() for values in layers} == {2}


def test_the_noise_is_of_the_positions_that_are_configured() -> None:
    measurement, network = measured_with(
        "measures=[clustering_at_answer,kmeans_noise]",
        "measures.kmeans_noise.at=[answer]",
        "measures.kmeans_noise.n_seeds=2",
    )
    journal, found = measurement(network), measurement.controls(network)
    for key, of in (
        ("ari_at_answer_kmeans_sd", "ari_at_answer"),
        ("ari_within_x_at_answer_kmeans_sd", "ari_within_x_at_answer"),
    ):
        assert [values[0] for values in found.pop(key)] == [journal[f"{of}/val/layer_{layer}"] for layer in range(3)]
    assert not found


TASKS = torch.arange(6).repeat_interleave(40)
X = torch.arange(240) % 3
LAYERS = torch.stack([20 * torch.eye(6)[TASKS], torch.zeros(240, 6), 20 * torch.eye(6)[X]])
LAYERS += torch.randn(LAYERS.shape, generator=torch.Generator().manual_seed(0))  # of tasks, of nothing, of x


def chance(n_shuffles: int = 999, states: torch.Tensor = LAYERS) -> dict[str, list[float]]:
    labels = {"task": TASKS, "x": X}
    observed = seen(dict.fromkeys(AT, states), dict.fromkeys(AT, labels))
    measure = Chance(KMeans(None, 4, 0), n_shuffles, None, AT)
    return {metric.key: list(values) for metric, values in measure.measure(observed).items()}


def test_p_tells_clusters_of_tasks_from_clusters_of_something_else() -> None:
    found = chance()
    for of in ("ari", "ari_within_x"):
        assert found[f"{of}_p"][0] == 1 / 1000
        assert min(found[f"{of}_p"][1:]) > 0.02
        assert found[f"{of}_shuffled"] == pytest.approx([0] * 3, abs=0.005)
        assert min(found[f"{of}_shuffled_largest"]) > 0
        assert max(found[f"{of}_shuffled_largest"]) < 0.2
        assert found[f"{of}_fixed_k"][0] == pytest.approx(1)


def test_p_is_uniform_where_there_is_nothing() -> None:
    random = torch.Generator().manual_seed(1)
    p = chance(99, torch.randn(60, 240, 2, generator=random))["ari_p"]
    assert all(0.01 <= value <= 1 for value in p)
    assert fmean(p) == pytest.approx(0.5, abs=0.15)


def test_clusters_that_cannot_be_better_than_any_permutation_have_p_of_one() -> None:
    constant = chance(99, torch.ones(1, 240, 4))
    assert constant["ari_p"] == [1]
    assert constant["ari_within_x_p"] == [1]


def test_states_that_are_not_finite_have_no_chance() -> None:
    found = chance(99, torch.full((1, 240, 4), math.nan))
    assert all(math.isnan(value) for (value,) in found.values())


def test_shuffles_are_the_same_each_time_and_leave_random_states_alone() -> None:
    state = torch.random.get_rng_state()
    assert chance(20) == chance(20)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_chance_is_about_the_clusters_of_the_journal(measured: Measured) -> None:
    measurement, network = measured
    journal = measurement(network)
    assert not any("shuffled" in key for key in measurement(network, step=4, last=False))
    for of in ("ari", "ari_within_x"):
        for layer in range(3):
            p, ari, most = (journal[f"{key}/val/layer_{layer}"] for key in (f"{of}_p", of, f"{of}_shuffled_largest"))
            assert (p == 1 / 1000) == (ari > most)
