"""The baseline of random weights is what a run measures at step 0."""

import gc
import weakref

import pytest
import torch
from conftest import SMALL, composed

from taskcluster.config import RunConfig
from taskcluster.measures import untrained
from taskcluster.models.from_scratch import with_random_weights
from taskcluster.training.experiment import measuring, prepare


@pytest.mark.parametrize("model", ["gpt2", "llama", "gpt_neox"])
def test_it_has_the_aris_of_step_0_whatever_was_trained_since(model: str) -> None:
    config = RunConfig.of(composed(*SMALL, f"model={model}", "measures=[clustering,clustering_at_x,untrained]"))
    data, network = prepare(config)
    measurement = measuring(config, data)
    before = measurement(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    after = measurement(network)
    for of in ("ari", "ari_within_x"):
        for layer in range(3):
            assert after[f"{of}_untrained/val/layer_{layer}"] == before[f"{of}/val/layer_{layer}"]
    assert after["ari/val/layer_2"] != before["ari/val/layer_2"]
    assert not any("untrained" in key for key in measurement(network, step=4, last=False))


def test_the_random_network_is_gone_once_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig.of(composed(*SMALL, "measures=[clustering,untrained]"))
    data, network = prepare(config)
    made = []

    def followed(trained: torch.nn.Module, seed: int) -> torch.nn.Module:
        random = with_random_weights(trained, seed)  # type: ignore[type-var]
        made.append(weakref.ref(random))
        return random

    monkeypatch.setattr(untrained, "with_random_weights", followed)
    gc.disable()
    try:
        measuring(config, data)(network)
        assert [reference() for reference in made] == [None]
    finally:
        gc.enable()
