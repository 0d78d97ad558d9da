"""A GPT-2 that computes one token with weights of its own, so that this token and all others share nothing."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2LMHeadModel

from taskcluster.models.gpt2 import gpt2

PARTS = {"attention": ("ln_1", "attn.c_attn", "attn.c_proj"), "mlp": ("ln_2", "mlp.c_fc", "mlp.c_proj")}


class TwoWeights(nn.Module):
    """A layer, and its twin for the marked tokens."""

    def __init__(self, shared: nn.Module, own: nn.Module, marked: list[Tensor]) -> None:
        super().__init__()
        self.shared, self.own, self._marked = shared, own, marked

    def forward(self, states: Tensor) -> Tensor:
        return torch.where(self._marked[0], self.own(states), self.shared(states))


def own_weights(token: int, parts: list[str], seed: int, **sizes: Any) -> GPT2LMHeadModel:
    """GPT-2 with `parts` of every block twice: for all tokens, and for `token` alone, as another seed draws them."""
    network, other = gpt2(seed=seed, **sizes), gpt2(seed=seed + 2**31, **sizes)
    marked: list[Tensor] = [torch.empty(0)]

    def mark(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        marked[0] = ((args[0] if args else kwargs["input_ids"]) == token)[..., None]

    network.register_forward_pre_hook(mark, with_kwargs=True)
    for block, twin in zip(network.transformer.h, other.transformer.h, strict=True):
        for name in (name for part in parts for name in PARTS[part]):
            owner, _, last = name.rpartition(".")
            layer, own = block.get_submodule(name), twin.get_submodule(name)
            setattr(block.get_submodule(owner), last, TwoWeights(layer, own, marked))
    return network
