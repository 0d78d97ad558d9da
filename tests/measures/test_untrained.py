"""The baseline of a network that was not trained is what a run measures at step 0."""

import pytest
import torch
from conftest import SMALL, composed

from taskcluster.config import RunConfig
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
