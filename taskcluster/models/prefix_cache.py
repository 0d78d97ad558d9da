"""Compute the shared prefix of many prompts once instead of with every prompt.

in:  a causal LM, the S tokens that all prompts begin with
out: a cache with its keys and values, from which the network continues at token S, for any number of prompts at a time
"""

from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from taskcluster.models.architecture import REFUSALS, accepted, alike, blocks


class FixedLayer(DynamicLayer):
    """Keys and values of one layer that were computed before."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.dtype, self.device = keys, values, keys.dtype, keys.device
        self.is_initialized = True


class _Prefix(FixedLayer):
    """Keys and values (1, H, S, d), prepended to those of B prompts, which are not kept."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        keys, values = (prefix.expand(len(key_states), -1, -1, -1) for prefix in (self.keys, self.values))
        return torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)


def copied(prefix: Cache, n: int) -> DynamicCache:
    """The cache of `prefix_cache`, as n prompts fill it up further."""
    cache = DynamicCache()
    for number, layer in enumerate(cast(list[FixedLayer], prefix.layers)):
        cache.update(layer.keys.expand(n, -1, -1, -1), layer.values.expand(n, -1, -1, -1), number)
    return cache


def keys_and_values(cache: Cache) -> list[tuple[Tensor, Tensor]]:
    """(B, H, T, d) each, of every layer that kept them."""
    layers = [layer for layer in cache.layers if type(layer) is DynamicLayer and layer.is_initialized]
    return [(layer.keys, layer.values) for layer in layers if layer.keys is not None and layer.values is not None]


@torch.no_grad()
def prefix_cache(network: PreTrainedModel, tokens: Tensor) -> Cache | None:
    """The cache of tokens (S,), S at least 2, which is not changed by the passes that continue from it.

    None for a network that keeps no keys and values of its layers, or whose logits differ from those of a whole pass
    where it continues from them. The network should not drop out (`eval`).
    """
    cache, last = DynamicCache(), len(tokens) - 1
    try:
        whole = _logits(network, tokens[None], 0, cache)
        kept = keys_and_values(cache)
        if len(kept) != len(blocks(network)):
            return None
        shorter = Cache(layers=[_Prefix(keys[:, :, :last], values[:, :, :last]) for keys, values in kept])
        again = _logits(network, tokens[None, last:].expand(2, 1), last, shorter)
    except REFUSALS:
        return None
    return Cache(layers=[_Prefix(*layer) for layer in kept]) if alike(again, whole.expand_as(again)) else None


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
