"""Prompts run again from a place on: the same logits as a whole pass with hooks, whatever the padding."""

import pytest
import torch
from torch import Tensor
from transformers import (
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from taskcluster.models.gpt2 import gpt2
from taskcluster.models.hidden_states import forward_with_states
from taskcluster.models.patching import Prompts
from taskcluster.validation import UserError

B, T, VOCABULARY, LAYERS = 9, 12, 40, 3


def small_gpt2() -> GPT2LMHeadModel:
    sizes = {"n_layer": LAYERS, "n_head": 2, "n_embd": 16, "n_positions": 32}
    return gpt2(VOCABULARY, T, **sizes, initializer_range=0.3, dropout=0.0, activation="gelu", seed=0)


def small(kind: type[PreTrainedModel], config: type) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 32}
    return kind(config(vocab_size=VOCABULARY, initializer_range=0.3, bos_token_id=None, eos_token_id=None, **sizes))


NETWORKS = {
    "gpt2": small_gpt2,
    "llama": lambda: small(LlamaForCausalLM, LlamaConfig),
    "gpt_neox": lambda: small(GPTNeoXForCausalLM, GPTNeoXConfig),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> PreTrainedModel:
    return NETWORKS[request.param]().eval()


@pytest.fixture
def prompts() -> tuple[Tensor, Tensor]:
    """Tokens and mask of prompts of 5 to T tokens, filled up on the left."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(5, T + 1, (B,), generator=generator)
    tokens = torch.randint(0, VOCABULARY, (B, T), generator=generator)
    return tokens, (torch.arange(T) >= T - lengths[:, None]).long()


BACK = [torch.zeros(B, dtype=torch.long), torch.full((B,), 3), torch.arange(B) % 5]


def whole_pass(
    network: PreTrainedModel, tokens: Tensor, mask: Tensor, at: Tensor, layer: int, states: Tensor, side: str
) -> Tensor:
    """The same logits by hooks on all of the network and every place, with padding on either side."""
    lengths = mask.sum(1)
    if side == "right":
        shift = (T - lengths)[:, None]
        order = (torch.arange(T) + shift) % T
        tokens, mask, at = tokens.gather(1, order), mask.gather(1, order), at - shift.squeeze(1)
    last = at.new_full((B,), T - 1) if side == "left" else lengths - 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    lines = torch.arange(B)
    edits = {layer: lambda _: states}
    with torch.no_grad():
        output, _ = forward_with_states(
            network, (lines, at), edits, input_ids=tokens, attention_mask=mask, position_ids=positions
        )
    return output.logits[lines, last]


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_edit_gives_the_logits_of_a_whole_pass(
    network: PreTrainedModel, prompts: tuple[Tensor, Tensor], side: str
) -> None:
    run = Prompts(network, *prompts)
    for back in BACK:
        suffixes = run.at(back)
        for layer in range(LAYERS + 1):
            other = suffixes.states[layer].flip(0)
            wanted = whole_pass(network, *prompts, T - 1 - back, layer, other, side)
            torch.testing.assert_close(suffixes.edited(layer, other), wanted, rtol=1e-5, atol=1e-5)


def test_an_identity_edit_leaves_every_logit_bit_equal(
    network: PreTrainedModel, prompts: tuple[Tensor, Tensor]
) -> None:
    run = Prompts(network, *prompts)
    for back in BACK:
        suffixes = run.at(back)
        for layer in range(LAYERS + 1):
            assert torch.equal(suffixes.edited(layer, suffixes.states[layer]), suffixes.logits)


def test_several_places_are_edited_at_once(network: PreTrainedModel, prompts: tuple[Tensor, Tensor]) -> None:
    tokens, mask = prompts
    suffixes = Prompts(network, tokens, mask).at(torch.full((B,), 2), mask.sum(1) - 1)
    places = (mask * (torch.arange(T) < T - 2)).nonzero(as_tuple=True)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    inputs = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions}
    for layer in range(LAYERS + 1):
        other = suffixes.states[layer].flip(0)
        with torch.no_grad():
            wanted, _ = forward_with_states(network, places, {layer: lambda _, other=other: other}, **inputs)
        assert torch.equal(suffixes.edited(layer, suffixes.states[layer]), suffixes.logits)
        torch.testing.assert_close(suffixes.edited(layer, other), wanted.logits[:, -1], rtol=1e-5, atol=1e-5)


def test_logits_of_several_last_places_are_those_of_a_whole_pass(
    network: PreTrainedModel, prompts: tuple[Tensor, Tensor]
) -> None:
    tokens, mask = prompts
    suffixes, alone = Prompts(network, *prompts, last=2).at(BACK[1]), Prompts(network, *prompts).at(BACK[1])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    inputs = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions}
    for layer in range(LAYERS + 1):
        other = suffixes.states[layer].flip(0)
        places = torch.arange(B), T - 1 - BACK[1]
        with torch.no_grad():
            wanted, _ = forward_with_states(network, places, {layer: lambda _, other=other: other}, **inputs)
        torch.testing.assert_close(suffixes.edited(layer, other), wanted.logits[:, -2:], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(suffixes.edited(layer, other)[:, -1], alone.edited(layer, other))


def test_edits_leave_no_trace(network: PreTrainedModel, prompts: tuple[Tensor, Tensor]) -> None:
    run = Prompts(network, *prompts)
    before = run.at(BACK[0]).logits
    wide = run.at(BACK[1])
    for layer in range(LAYERS + 1):
        wide.edited(layer, wide.states[layer] + 1)
    assert torch.equal(run.at(BACK[0]).logits, before)
    positions = (prompts[1].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        plain = network(input_ids=prompts[0], attention_mask=prompts[1], position_ids=positions).logits[:, -1]
    torch.testing.assert_close(before, plain, rtol=1e-5, atol=1e-5)


def test_a_network_without_a_cache_is_refused(prompts: tuple[Tensor, Tensor]) -> None:
    class Forgetful(GPT2LMHeadModel):
        def forward(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor) -> object:
            return super().forward(input_ids, attention_mask=attention_mask, position_ids=position_ids)

    with pytest.raises(UserError, match="Forgetful keeps no keys and values of its layers"):
        Prompts(Forgetful(small_gpt2().config).eval(), *prompts)
