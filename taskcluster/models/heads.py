"""Outputs of single attention heads, read and replaced.

in:  a causal LM whose blocks project the outputs of their heads by one linear map
out: what every head adds to the residual stream
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from taskcluster.models.architecture import blocks
from taskcluster.validation import UserError

NAMES = ("c_proj", "o_proj", "out_proj", "dense", "wo")  # of the map that ends an attention


def projections(network: PreTrainedModel) -> list[nn.Module]:
    """The map from the outputs of all heads (.., H d) to the residual stream (.., D), of every block.

    Raises UserError for a network in which they cannot be found.
    """
    found = []
    for block in blocks(network):
        named = [
            module
            for name, module in block.named_modules()
            if name.split(".")[-1] in NAMES and any("att" in part for part in name.split(".")[:-1])
        ]
        if len(named) != 1:
            raise UserError(
                f"model: {type(network).__name__} has {len(named)} maps of attention heads in a block, where one is "
                "needed to tell heads apart; leave function_vector out of measures.vectors.methods"
            )
        found += named
    return found


@contextmanager
def reading(network: PreTrainedModel) -> Iterator[list[Tensor]]:
    """A context in which a pass adds to the list, block after block, the outputs of the heads in the last places,
    (B, H, d)."""
    n_head = network.config.num_attention_heads
    outputs: list[Tensor] = []

    def read(module: nn.Module, args: tuple[Any, ...]) -> None:
        outputs.append(args[0][:, -1].unflatten(-1, (n_head, -1)))

    hooks = [module.register_forward_pre_hook(read) for module in projections(network)]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def replacing(network: PreTrainedModel, block: int, head: int, output: Tensor) -> Iterator[None]:
    """A context in which a head (0 to H-1) of a block (0 to L-1) has the output (B, d) in the last places."""
    size = output.shape[-1]

    def replace(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        whole = args[0].clone()
        whole[:, -1, head * size : (head + 1) * size] = output
        return (whole, *args[1:])

    hook = projections(network)[block].register_forward_pre_hook(replace)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def added(network: PreTrainedModel, block: int, head: int, output: Tensor) -> Tensor:
    """What a head of a block adds to the residual stream (B, D) where its output is (B, d)."""
    module, n_head, size = projections(network)[block], network.config.num_attention_heads, output.shape[-1]
    alone = output.new_zeros(len(output), n_head * size)
    without = module(alone)
    alone[:, head * size : (head + 1) * size] = output
    return module(alone) - without  # without the bias
