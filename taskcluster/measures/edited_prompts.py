"""Prompts run again one by one, with edited states: the logits of an observation at any of its positions.

in:  a network, prompts, a position, edits of states at a position
out: logits (N, V), for each state
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.tokenized import TokenizedPrompts
from taskcluster.models.hidden_states import forward_with_states
from taskcluster.models.patching import NOWHERE

AT_ONCE = 64  # prompts of a pass

Edit = Callable[[Tensor, Tensor], Tensor]  # states (M, D), and which of the N at the position they are (M,) -> (M, D)


class AppliedEdits(NamedTuple):
    """{layer: edit} of the states at a position."""

    position: str
    edits: Mapping[int, Edit]

    def changes(self, prompts: TokenizedPrompts, examples: Tensor) -> dict[str, Any]:
        """Arguments of `forward_with_states` for prompts with numbers `examples` (B,)."""
        which = torch.searchsorted(prompts.examples[self.position], examples, right=True) - 1
        at = torch.arange(len(examples)), prompts.columns[self.position][which]
        return {"edits": {k: partial(with_indices, edit, which) for k, edit in self.edits.items()}, "at": at}


def with_indices(edit: Edit, which: Tensor, states: Tensor) -> Tensor:
    return edit(states, which.to(states.device))


@torch.no_grad()
def logits_of(
    network: PreTrainedModel, prompts: TokenizedPrompts, position: str, applied: AppliedEdits | None
) -> Tensor:
    """The logits at a position (N, V) float32, on the CPU."""
    examples, columns = prompts.examples[position], prompts.columns[position]
    parts = []
    for chunk in torch.arange(len(examples)).split(AT_ONCE):
        asked = torch.arange(len(chunk)), columns[chunk]
        changes = applied.changes(prompts, examples[chunk]) if applied else {}
        inputs = prompts.inputs(examples[chunk], network)
        output, _ = forward_with_states(network, NOWHERE, logits_at=asked, **changes, **inputs)
        parts.append(output.logits[0].float().cpu())
    return torch.cat(parts)
