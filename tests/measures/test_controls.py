"""What moves the ARI besides training, on a small network."""

from statistics import fmean, stdev

import pytest
import torch
from conftest import SMALL
from transformers import PreTrainedModel

from taskcluster.cli import composed
from taskcluster.config import RunConfig
from taskcluster.measures.controls import Chance, KMeansNoise
from taskcluster.measures.measure import Measurement
from taskcluster.training.experiment import measuring, prepare

Measured = tuple[Measurement, PreTrainedModel]

OTHER_SEEDS = {"ari_kmeans_sd": "ari", "ari_within_x_kmeans_sd": "ari_within_x"}
SHUFFLED = {"ari_shuffled": "ari", "ari_within_x_shuffled": "ari_within_x"}


def measured_with(*overrides: str) -> Measured:
    config = RunConfig.of(composed(*SMALL, *overrides))
    data, network = prepare(config)
    return measuring(config, data), network


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measured_with()


def test_each_says_what_it_is_a_control_of(measured: Measured) -> None:
    known = measured[0].catalogue
    for kind, controls in (("noise", OTHER_SEEDS), ("chance", SHUFFLED)):
        assert {key: metric.of for key, metric in known.items() if metric.kind == kind} == controls


def test_the_first_seed_is_the_runs_own_and_others_move_the_ari(measured: Measured) -> None:
    measurement, network = measured
    journal, found = measurement(network), measurement.controls(network)
    assert set(found) == {*OTHER_SEEDS, *SHUFFLED}
    for key, of in OTHER_SEEDS.items():
        assert len(found[key]) == sum(name.startswith(f"{of}/val/") for name in journal) == 3
        for layer, values in enumerate(found[key]):
            assert len(values) == 10
            assert values[0] == journal[f"{of}/val/layer_{layer}"]
    assert len(set(found["ari_kmeans_sd"][2])) > 1


def test_shuffled_labels_score_about_zero_and_the_same_each_time(measured: Measured) -> None:
    measurement, network = measured
    state = torch.random.get_rng_state()
    found = measurement.controls(network)
    assert found == measurement.controls(network)
    assert torch.equal(torch.random.get_rng_state(), state)
    for key in SHUFFLED:
        assert len(found[key]) == 3
        for values in found[key]:
            assert len(values) == 40
            assert fmean(values) == pytest.approx(0, abs=0.03)


def test_the_journal_has_none_of_them_unless_it_is_asked_to() -> None:
    every = [f"measures.{name}.every_n_steps=4" for name in ("kmeans_noise", "chance")]
    measurement, network = measured_with(*every, "measures.kmeans_noise.n_seeds=3", "measures.chance.n_shuffles=5")
    repeated = measurement.controls(network)
    summaries = dict.fromkeys(OTHER_SEEDS, stdev) | dict.fromkeys(SHUFFLED, fmean)
    expected = {
        f"{key}/val/layer_{layer}": summary(repeated[key][layer])
        for key, summary in summaries.items()
        for layer in range(3)
    }
    for step, last, due in ((4, False, True), (2, False, False), (6, True, True)):
        journal = measurement(network, step, last)
        found = {key: value for key, value in journal.items() if key.split("/")[0] in summaries}
        assert found == (expected if due else {})
    silent, _ = measured_with()
    assert not {key.split("/")[0] for key in silent(network)} & summaries.keys()


@pytest.mark.parametrize(
    ("name", "kind", "key"), [("kmeans_noise", KMeansNoise, "n_seeds"), ("chance", Chance, "n_shuffles")]
)
def test_each_repeats_as_often_as_it_is_told(name: str, kind: type, key: str) -> None:
    measurement, network = measured_with(f"measures.{name}.{key}=2", f"measures=[clustering,{name}]")
    assert [type(measure) for measure in measurement.measures.values()][1:] == [kind]
    assert {len(values) for layers in measurement.controls(network).values() for values in layers} == {2}
