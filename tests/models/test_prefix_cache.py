"""Which prefix prompts share, and which networks can cache it; test_observation.py has the numbers that it gives."""

from collections.abc import Sequence

import pytest
import torch
from networks import ARCHITECTURES, small
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.batches import Packer, shared_prefix_length
from taskcluster.data.prompts import Labels, Prompt
from taskcluster.data.rows import rows_of
from taskcluster.models.hidden_states import logits_at
from taskcluster.models.prefix_cache import prefix_cache

SHARED = [3, 4, 5, 6, 7, 8, 9, 10, 11, 3, 4]


def prompts(prefix: Sequence[int] = SHARED) -> list[Prompt]:
    """Of 3 instructions, two of which begin alike, with 2 or 3 inputs each; y of one token or two."""
    made = []
    for k, instruction in enumerate(([2, 5, 1], [2, 6, 6, 6, 1], [7, 1])):
        for x in range(2 + k % 2):
            tokens = [*prefix, *instruction, 8 + x, 2, 3 + k, *[4 + x] * (x > 0)]
            first = len(prefix) + len(instruction)
            made.append(Prompt(tokens, (first, first + 1), (first + 2, len(tokens)), Labels(k, k, k, x, k)))
    return made


def test_the_shared_prefix_ends_before_any_named_position() -> None:
    assert shared_prefix_length(rows_of(prompts([]), shared=True)) == 0
    one_instruction = rows_of(prompts()[:2], shared=False)
    assert shared_prefix_length(one_instruction) == len(SHARED) + 2  # without its end
    assert shared_prefix_length(rows_of(prompts()[:5], shared=True)) == len(SHARED) + 1
    shorter = [prompts()[0], prompts(SHARED[:-1])[0]]
    assert shared_prefix_length(rows_of(shorter, shared=True)) == len(SHARED) - 1


def test_a_network_without_a_cache_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small("gpt2")
    plain = type(network).forward

    def forgetful(self: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor) -> object:
        return plain(self, input_ids, attention_mask=attention_mask, position_ids=position_ids)

    def misplaced(self: PreTrainedModel, input_ids: Tensor, past_key_values: object = None, **_: object) -> object:
        positions = torch.arange(input_ids.shape[1])[None]
        return plain(self, input_ids, past_key_values=past_key_values, use_cache=True, position_ids=positions)

    assert prefix_cache(network, torch.tensor(SHARED)) is not None
    for forward in (forgetful, misplaced):
        monkeypatch.setattr(type(network), "forward", forward)
        assert prefix_cache(network, torch.tensor(SHARED)) is None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_at_some_places_have_the_loss_and_the_gradient_of_all(architecture: str) -> None:
    network = small(architecture)
    batch = Packer(rows_of(prompts(), False), "y", torch.device("cpu"), "left")(torch.arange(7))
    gradients, losses = [], []
    for loss in (
        batch.loss(network(**batch.inputs).logits),
        batch.loss(logits_at(network, batch.predicting_y, **batch.inputs)),
    ):
        network.zero_grad()
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
