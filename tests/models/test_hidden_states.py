"""Every layer at some places, against transformers' own output_hidden_states."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from taskcluster.models.hidden_states import forward_with_states

NETWORKS = [
    GPT2LMHeadModel(GPT2Config(vocab_size=13, n_layer=3, n_head=2, n_embd=16, n_positions=16)),
    LlamaForCausalLM(
        LlamaConfig(vocab_size=13, num_hidden_layers=2, num_attention_heads=2, hidden_size=16, intermediate_size=32)
    ),
]


@pytest.mark.parametrize("network", NETWORKS, ids=["gpt2", "llama"])
def test_states_are_those_of_transformers_layer_by_layer(network: PreTrainedModel) -> None:
    network.eval()
    tokens, places = torch.randint(13, (5, 9)), (torch.tensor([0, 4, 4, 2]), torch.tensor([0, 8, 3, 3]))
    with torch.no_grad():
        output, states = forward_with_states(network, places, input_ids=tokens)
        expected = network(tokens, output_hidden_states=True)
    assert states.shape == (network.config.num_hidden_layers + 1, 4, 16)
    for layer, whole in enumerate(expected.hidden_states):
        torch.testing.assert_close(states[layer], whole[places], rtol=0, atol=0)
    torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=0)


def test_no_hook_stays_behind_even_after_a_failure() -> None:
    network = NETWORKS[0]

    def n_hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())

    before = n_hooks()
    with pytest.raises(IndexError):
        forward_with_states(network, (torch.tensor([0]), torch.tensor([0])), input_ids=torch.tensor([[99]]))
    assert n_hooks() == before
