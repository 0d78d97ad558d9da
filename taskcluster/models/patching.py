"""Activation patching that recomputes only what an edit can change: prompts run again from the edited position.

in:  a causal LM, prompts (B, T) filled up on the left, and of each prompt a place, or several that follow each other
out: raw states of every layer at these places; logits of the last place of all or the last K, clean or after an edit

A first pass keeps the keys and values of every layer. After an edit of layer l, only the blocks above l are computed,
only from the first edited place on, and only the logits of the last places. Layer 0 is the embedding output, layer l
the residual stream after block l; the last layer's states, too, are those before the final norm, where edits act.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache

from taskcluster.models.architecture import accepted, blocks, blocks_from
from taskcluster.models.hidden_states import EVERYWHERE, NO_EDITS, Edits, Places, forward_with_states
from taskcluster.models.prefix_cache import FixedLayer, copied, keys_and_values
from taskcluster.validation import UserError

NOWHERE: Places = (slice(0), slice(0))
CHUNK = 512  # prompts that are run at once, at most
ROOM = 2**29  # bytes


class _Kept(FixedLayer):
    """Keys and values (B, H, T, d) of one layer, of which the last `n` places are computed again, in place."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__(keys.contiguous(), values.contiguous())
        self.n = 0
        self._clean = keys[:, :, :0], values[:, :, :0]  # the last n places, unedited

    def begin(self, n: int) -> None:
        if n != self.n:
            first = self.keys.shape[2] - self.n
            self.keys[:, :, first:], self.values[:, :, first:] = self._clean
            self.n, self._clean = n, (self.keys[:, :, -n:].clone(), self.values[:, :, -n:].clone())

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys[:, :, -self.n :], self.values[:, :, -self.n :] = key_states, value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.keys.shape[2] - self.n


class Prompts:
    """B prompts (B, T) that have been run once. mask (B, T): 1 where a prompt has a token, 0 where it is filled up.

    last: K, for the logits of the last K places, (B, K, V); None for those of the last alone, (B, V). prefix: the S
    tokens that all prompts begin with, computed before (`prefix_cache`); they are the first S columns of all, and what
    is filled up comes between them and the others. hidden_keys (B, T, T): see `selective_attention`; none with a
    prefix. The network should not drop out (`eval`). Raises UserError for a
    network that keeps no keys and values.
    """

    @torch.no_grad()
    def __init__(
        self,
        network: PreTrainedModel,
        tokens: Tensor,
        mask: Tensor,
        last: int | None = None,
        prefix: Cache | None = None,
        hidden_keys: Tensor | None = None,
    ) -> None:
        self._hidden_keys = hidden_keys
        if prefix:
            n = prefix.get_seq_length()
            tokens, mask = (_with_prefix(values, mask, n) for values in (tokens, mask))
        self._network, self._mask, self._last, self._blocks = network, mask, last, blocks(network)
        self._tokens, self._positions = tokens, (mask.cumsum(1) - 1).clamp(min=0)
        cache = copied(prefix, len(tokens)) if prefix else DynamicCache()
        network(**accepted(network, self._inputs(cache, tokens.shape[1] - cache.get_seq_length())))
        self._kept = [_Kept(*layer) for layer in keys_and_values(cache)]
        if len(self._kept) != len(self._blocks):
            raise UserError(
                f"model: {type(network).__name__} does not cache the keys and values of its layers, which "
                "interventions need; "
                "choose another model"
            )

    def at(self, back: Tensor, first: Tensor | None = None) -> "Suffixes":
        """The place `back` (B,) places before the last of each prompt; or all from `first` (B,) before the last on."""
        return Suffixes(self, back, back if first is None else first)

    @torch.no_grad()
    def edited(self, layer: int, whole: Tensor, above: Edits = NO_EDITS) -> Tensor:
        """Logits of the last places where the states after `layer` at the last n places are `whole` (B, n, D), and
        those after layers above it what edits make of them."""
        first = min(layer, len(self._blocks) - 1)
        edits = {layer - first: lambda states: whole, **{other - first: edit for other, edit in above.items()}}
        with blocks_from(self._network, first):
            return self._run(whole.shape[1], self._blocks[first:], NOWHERE, edits)[1]

    @torch.no_grad()
    def clean(self, n: int) -> tuple[Tensor, Tensor]:
        """Raw states of every layer at the last n places, (L+1, B, n, D), and the logits of the last ones."""
        return self._run(n, self._blocks, EVERYWHERE, NO_EDITS)

    def _run(self, n: int, parts: Sequence[nn.Module], places: Places, edits: Edits) -> tuple[Tensor, Tensor]:
        for kept in self._kept:
            kept.begin(n)
        output, states = forward_with_states(
            self._network,
            places,
            edits,
            EVERYWHERE,
            final_norm=False,
            parts=parts,
            **self._inputs(Cache(layers=list(self._kept)), n),
        )
        return states, output.logits[:, -self._last :] if self._last else output.logits[:, -1]

    def _inputs(self, cache: Cache, n: int) -> dict[str, Any]:
        hidden = {} if self._hidden_keys is None else {"hidden_keys": self._hidden_keys}
        return hidden | {
            "input_ids": self._tokens[:, -n:],
            "attention_mask": self._mask,
            "position_ids": self._positions[:, -n:],
            "past_key_values": cache,
            "use_cache": True,
            "logits_to_keep": self._last or 1,
        }


def runs_at_once(network: PreTrainedModel, length: int) -> int:
    """How many prompts of so many tokens to give to `Prompts`: at most CHUNK, fewer where keys, values and states need
    ROOM."""
    config = network.config
    size = 12 * length * getattr(config, "hidden_size", 1) * (config.num_hidden_layers + 1)  # bytes per prompt
    return max(1, min(CHUNK, ROOM // size))


def _with_prefix(values: Tensor, mask: Tensor, n: int) -> Tensor:
    """values (B, T), where what is filled up, by mask (B, T), comes after the first n instead of before them."""
    padding, place = mask.shape[1] - mask.sum(1, keepdim=True), torch.arange(mask.shape[1], device=mask.device)
    moved = torch.where(place < n, place + padding, torch.where(place < n + padding, place - n, place))
    return values.gather(1, moved)


class Suffixes:
    """Prompts from the first of some places of each on: M places in all, prompt after prompt.

    states: of these places after every layer, (L+1, M, D); logits: of the last place of each prompt, (B, V), or of the
    last K, (B, K, V), as `Prompts` has them.
    """

    def __init__(self, prompts: Prompts, back: Tensor, first: Tensor) -> None:
        self._prompts = prompts
        n, lengths = int(first.max()) + 1, first - back + 1
        self._whole, self.logits = prompts.clean(n)
        self._lines = torch.arange(len(back), device=back.device).repeat_interleave(lengths)
        within = torch.arange(len(self._lines), device=back.device) - (lengths.cumsum(0) - lengths)[self._lines]
        self._columns = n - 1 - first[self._lines] + within
        self.states = self._whole[:, self._lines, self._columns]

    def edited(self, layer: int, states: Tensor, above: Mapping[int, Tensor] = MappingProxyType({})) -> Tensor:
        """Logits of the last places after the states of a layer at the places have become `states` (M, D), and those of
        layers above it what `above` has for them."""
        edits = {other: partial(self._replaced, replacing) for other, replacing in above.items()}
        return self._prompts.edited(layer, self._replaced(states, self._whole[layer]), edits)

    def _replaced(self, states: Tensor, whole: Tensor) -> Tensor:
        whole = whole.clone()
        whole[self._lines, self._columns] = states
        return whole
