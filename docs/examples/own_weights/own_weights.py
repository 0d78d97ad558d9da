"""A GPT-2 that computes one token with weights of its own, so that this token and all others share nothing."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

PARTS = {"attention": ("ln_1", "attn.c_attn", "attn.c_proj"), "mlp": ("ln_2", "mlp.c_fc", "mlp.c_proj")}


class TwoWeights(nn.Module):
    """A layer, and its twin for the marked tokens."""

    def __init__(self, shared: nn.Module, own: nn.Module, marked: list[Tensor]) -> None:
        super().__init__()
        self.shared, self.own, self._marked = shared, own, marked

    def forward(self, states: Tensor) -> Tensor:
        return torch.where(self._marked[0], self.own(states), self.shared(states))


def fresh(config: GPT2Config, seed: int) -> GPT2LMHeadModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def own_weights(
    vocab_size: int, longest: int, n_layer: int, n_head: int, n_embd: int, token: int, parts: list[str], seed: int
) -> GPT2LMHeadModel:
    """GPT-2 with `parts` of every block twice: for all tokens, and for `token` alone, as another seed draws them."""
    config = GPT2Config(
        vocab_size=vocab_size,
        n_layer=n_layer,
        n_head=n_head,
        n_embd=n_embd,
        n_positions=max(longest, 64),
        initializer_range=0.06,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        activation_function="gelu_pytorch_tanh",
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    network, other = fresh(config, seed), fresh(config, seed + 2**31)
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
