"""The common beginning of many prompts: computed once, instead of with every prompt.

in:  a causal LM, the S tokens that all prompts begin with
out: a cache with its keys and values, from which the network continues at token S, for any number of prompts at a time
"""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from taskcluster.models.architecture import REFUSALS, accepted, alike, blocks


class _Shared(DynamicLayer):
    """Keys and values (1, H, S, d) of one layer, put in front of those of B prompts, which are not kept."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.dtype, self.device = keys, values, keys.dtype, keys.device
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        n = len(key_states)
        keys, values = (shared.expand(n, -1, -1, -1) for shared in (self.keys, self.values))
        return torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)

    def get_seq_length(self) -> int:
        return self.keys.shape[2]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2] + query_length, 0


@torch.no_grad()
def cache_of(network: PreTrainedModel, tokens: Tensor) -> Cache | None:
    """The cache of tokens (S,), S at least 2, which is not changed by the passes that continue from it.

    None for a network that keeps no keys and values of its layers, or whose logits differ from those of a whole pass
    where it continues from them. The network should not drop out (`eval`).
    """
    cache, last = DynamicCache(), len(tokens) - 1
    try:
        whole = _logits(network, tokens[None], 0, cache)
        layers = [layer for layer in cache.layers if type(layer) is DynamicLayer and layer.is_initialized]
        kept = [(layer.keys, layer.values) for layer in layers if layer.keys is not None and layer.values is not None]
        if len(kept) != len(blocks(network)):
            return None
        shorter = Cache(layers=[_Shared(keys[:, :, :last], values[:, :, :last]) for keys, values in kept])
        again = _logits(network, tokens[None, last:].expand(2, 1), last, shorter)
    except REFUSALS:
        return None
    shared = Cache(layers=[_Shared(keys, values) for keys, values in kept])
    return shared if alike(again, whole.expand_as(again)) else None


def _logits(network: PreTrainedModel, tokens: Tensor, first: int, cache: Cache) -> Tensor:
    """Of the last of tokens (B, T), which come after `first` others, (B, V)."""
    n = tokens.shape[1]
    inputs = {
        "input_ids": tokens,
        "attention_mask": tokens.new_ones(len(tokens), first + n),
        "position_ids": torch.arange(first, first + n, device=tokens.device).expand_as(tokens),
        "past_key_values": cache,
        "use_cache": True,
    }
    logits: Tensor = network(**accepted(network, inputs)).logits
    return logits[:, -1]
