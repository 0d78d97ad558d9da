"""Every layer at some places, against transformers' own output_hidden_states."""

import pytest
import torch
from networks import ARCHITECTURES, small

from taskcluster.models.hidden_states import forward_with_states


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_states_are_those_of_transformers_layer_by_layer(architecture: str) -> None:
    network = small(architecture)
    tokens, places = torch.randint(12, (5, 9)), (torch.tensor([0, 4, 4, 2]), torch.tensor([0, 8, 3, 3]))
    with torch.no_grad():
        output, states = forward_with_states(network, places, input_ids=tokens)
        expected = network(tokens, output_hidden_states=True)
    assert states.shape == (network.config.num_hidden_layers + 1, 4, 16)
    for layer, whole in enumerate(expected.hidden_states):
        torch.testing.assert_close(states[layer], whole[places], rtol=0, atol=0)
    torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=0)


def test_no_hook_is_left_after_a_failure() -> None:
    network = small("gpt2")
    with pytest.raises(IndexError):
        forward_with_states(network, (torch.tensor([0]), torch.tensor([0])), input_ids=torch.tensor([[99]]))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
