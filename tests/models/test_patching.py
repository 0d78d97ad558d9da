"""Prompts run again from the edited position: the same logits as a whole pass with hooks, for any padding."""

import pytest
import torch
from networks import ARCHITECTURES, small
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.models import architecture
from taskcluster.models.hidden_states import forward_with_states
from taskcluster.models.patching import Prompts, Suffixes
from taskcluster.models.prefix_cache import prefix_cache

B, T, VOCABULARY, LAYERS = 9, 12, 40, 3
BACK = [torch.zeros(B, dtype=torch.long), torch.full((B,), 3), torch.arange(B) % 5]


@pytest.fixture(params=ARCHITECTURES)
def network(request: pytest.FixtureRequest) -> PreTrainedModel:
    return small(request.param, vocab_size=VOCABULARY, n_layer=LAYERS)


@pytest.fixture
def prompts() -> tuple[Tensor, Tensor]:
    """Tokens and mask of prompts of 5 to T tokens, filled up on the left."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(5, T + 1, (B,), generator=generator)
    tokens = torch.randint(0, VOCABULARY, (B, T), generator=generator)
    return tokens, (torch.arange(T) >= T - lengths[:, None]).long()


@torch.no_grad()
def whole_pass(
    network: PreTrainedModel, prompts: tuple[Tensor, Tensor], places: tuple[Tensor, Tensor], layer: int, states: Tensor
) -> Tensor:
    """The logits (B, T, V) by hooks on all of the network and every place."""
    tokens, mask = prompts
    inputs = {"input_ids": tokens, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    output, _ = forward_with_states(network, places, {layer: lambda _: states}, **inputs)
    return output.logits


def assert_edits(
    network: PreTrainedModel, prompts: tuple[Tensor, Tensor], places: tuple[Tensor, Tensor], suffixes: Suffixes
) -> None:
    """An edit at places gives the logits of a whole pass, and none the clean ones."""
    read = slice(-suffixes.logits.shape[1], None) if suffixes.logits.ndim == 3 else -1
    for layer in range(LAYERS + 1):
        other = suffixes.states[layer].flip(0)
        wanted = whole_pass(network, prompts, places, layer, other)[:, read]
        torch.testing.assert_close(suffixes.edited(layer, other), wanted, rtol=1e-5, atol=1e-5)
        assert torch.equal(suffixes.edited(layer, suffixes.states[layer]), suffixes.logits)


@pytest.mark.parametrize(("known", "last"), [(True, None), (True, 2), (False, None)])
def test_an_edit_gives_the_logits_of_a_whole_pass_and_no_edit_the_clean_ones(
    network: PreTrainedModel,
    prompts: tuple[Tensor, Tensor],
    known: bool,
    last: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not known:
        monkeypatch.setattr(architecture, "KNOWN", {})
    run = Prompts(network, *prompts, last)
    before = architecture.blocks(network)
    for back in BACK:
        assert_edits(network, prompts, (torch.arange(B), T - 1 - back), run.at(back))
    assert architecture.blocks(network) == before


def test_several_places_are_edited_at_once(network: PreTrainedModel, prompts: tuple[Tensor, Tensor]) -> None:
    tokens, mask = prompts
    suffixes = Prompts(network, tokens, mask).at(torch.full((B,), 2), mask.sum(1) - 1)
    assert_edits(network, prompts, (mask * (torch.arange(T) < T - 2)).nonzero(as_tuple=True), suffixes)


@pytest.mark.parametrize("last", [None, 2])
def test_a_shared_prefix_that_was_computed_before_changes_no_logits(
    network: PreTrainedModel, prompts: tuple[Tensor, Tensor], last: int | None
) -> None:
    tokens, mask = prompts
    rank = mask.cumsum(1) * mask  # 1 for the first token of each prompt
    tokens = torch.where((rank >= 1) & (rank <= 4), 5 + rank, tokens)
    cache = prefix_cache(network, torch.arange(6, 10))
    at = torch.zeros(B).long()
    whole, continued, again = (Prompts(network, tokens, mask, last, kept).at(at) for kept in (None, cache, cache))
    torch.testing.assert_close(continued.states, whole.states, rtol=1e-5, atol=1e-5)
    for layer in range(LAYERS + 1):
        other = whole.states[layer].flip(0)
        torch.testing.assert_close(continued.edited(layer, other), whole.edited(layer, other), rtol=1e-5, atol=1e-5)
        assert torch.equal(continued.edited(layer, continued.states[layer]), continued.logits)
    assert torch.equal(again.logits, continued.logits)  # the cache stays as it was
