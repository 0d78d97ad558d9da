"""What moves the ARI besides training, on a small network."""

import pytest
import torch
from conftest import SMALL

from taskcluster.cli import composed
from taskcluster.config import RunConfig
from taskcluster.measures.controls import KMEANS_SEEDS, SHUFFLES, noise
from taskcluster.measures.measurement import Measurement
from taskcluster.runs.folder import RunFolder
from taskcluster.training.experiment import measuring, prepare


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Measurement, torch.nn.Module]:
    config = RunConfig.of(composed(*SMALL))
    data, network = prepare(config)
    run = RunFolder(tmp_path_factory.mktemp("run"))
    return measuring(config, data, run).measurement, network


def test_the_first_seed_is_the_runs_own_and_others_move_the_ari(measured: tuple[Measurement, torch.nn.Module]) -> None:
    measurement, network = measured
    journal, kmeans = measurement(network), noise(measurement, network)["kmeans"]
    assert {key for key in journal if key.startswith(("ari/val", "ari_within_x/val"))} == set(kmeans)
    for key, values in kmeans.items():
        assert len(values) == KMEANS_SEEDS
        assert values[0] == journal[key]
    assert len(set(kmeans["ari/val/layer_2"])) > 1


def test_shuffled_labels_score_about_zero_and_the_same_each_time(
    measured: tuple[Measurement, torch.nn.Module],
) -> None:
    state = torch.random.get_rng_state()
    found = noise(*measured)
    assert found == noise(*measured)
    assert torch.equal(torch.random.get_rng_state(), state)
    for values in found["chance"].values():
        assert len(values) == SHUFFLES
        assert sum(values) / SHUFFLES == pytest.approx(0, abs=0.03)
