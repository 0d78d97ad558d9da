"""Run prompts again with edited states: the logits of an observation, its answers and their losses.

in:  a network, prompts, edits of states at a position
out: logits (N, V), for each state at a position; the likeliest answer of each prompt, and the loss of the right one
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.tokenized import TokenizedPrompts
from taskcluster.models.hidden_states import evaluation, forward_with_states, numbers_held
from taskcluster.models.patching import NOWHERE

AT_ONCE = 64  # prompts of a pass, at most
ROOM = 2**24  # numbers a pass may hold in addition to the weights

Edit = Callable[[Tensor, Tensor], Tensor]  # states (M, D), and which of the N at the position they are (M,) -> (M, D)


class AppliedEdits(NamedTuple):
    """{layer: edit} of the states at a position."""

    position: str
    edits: Mapping[int, Edit]

    def changes(self, prompts: TokenizedPrompts, examples: Tensor) -> dict[str, Any]:
        """Return the arguments of `forward_with_states` for prompts with numbers `examples` (B,)."""
        which = prompts.states_of(self.position, examples)
        at = torch.arange(len(examples)), prompts.columns[self.position][which]
        return {"edits": {k: partial(with_indices, edit, which) for k, edit in self.edits.items()}, "at": at}


def with_indices(edit: Edit, which: Tensor, states: Tensor) -> Tensor:
    return edit(states, which.to(states.device))


class Answers(NamedTuple):
    """Of each prompt: tokens (E,), the likeliest next one; losses (E,), of the first token of the right answer, in
    nats, NaN where none is known."""

    tokens: Tensor
    losses: Tensor


def answers_by(prompts: TokenizedPrompts, examples: Tensor, logits: Tensor) -> Answers:
    """Return the answers of prompts with numbers `examples` (B,), given the logits (B, V) at their last tokens."""
    losses = torch.full((len(logits),), math.nan)
    if prompts.answers is not None:
        losses = -logits.log_softmax(1).gather(1, prompts.answers[examples, None]).squeeze(1)
    return Answers(logits.argmax(1), losses)


def answers_of(network: PreTrainedModel, prompts: TokenizedPrompts, applied: AppliedEdits | None) -> Answers:
    places = torch.arange(len(prompts)), torch.full((len(prompts),), prompts.ids.shape[1] - 1)
    parts = [answers_by(prompts, *part) for part in _logits(network, prompts, *places, applied)]
    return Answers(*map(torch.cat, zip(*parts, strict=True)))


def logits_of(
    network: PreTrainedModel, prompts: TokenizedPrompts, position: str, applied: AppliedEdits | None
) -> Tensor:
    """Return the logits at a position, (N, V) float32, on the CPU."""
    at = prompts.examples[position], prompts.columns[position]
    return torch.cat([logits for _, logits in _logits(network, prompts, *at, applied)])


@torch.no_grad()
def _logits(
    network: PreTrainedModel, prompts: TokenizedPrompts, examples: Tensor, columns: Tensor, applied: AppliedEdits | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunk after chunk of N places, given by example and column, which of the N (B,) and their logits (B, V)."""
    with evaluation(network):
        for chunk in torch.arange(len(examples)).split(prompts_at_once(network, prompts.ids.shape[1])):
            asked = torch.arange(len(chunk)), columns[chunk]
            changes = applied.changes(prompts, examples[chunk]) if applied else {}
            inputs = prompts.inputs(examples[chunk], network)
            output, _ = forward_with_states(network, NOWHERE, logits_at=asked, **changes, **inputs)
            yield chunk, output.logits[0].float().cpu()


def prompts_at_once(network: PreTrainedModel, length: int) -> int:
    """Return the number of prompts of this length per pass that bounds its memory."""
    return min(AT_ONCE, max(1, ROOM // numbers_held(network, length)))
