"""Outputs of single attention heads, replaced.

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

NAMES = ("c_proj", "o_proj", "out_proj", "dense", "wo")  # names of the output projection of attention


def projections(network: PreTrainedModel) -> list[nn.Module]:
    """The map from the outputs of all heads (.., H d) to the residual stream (.., D), of every block.

    Raises UserError for a network in which they cannot be found.
    """
    maps = [
        [
            module
            for name, module in block.named_modules()
            if name.split(".")[-1] in NAMES and any("att" in part for part in name.split(".")[:-1])
        ]
        for block in blocks(network)
    ]
    if any(len(in_block) != 1 for in_block in maps):
        raise UserError(
            f"model: {type(network).__name__} does not have exactly one output projection of attention heads per "
            "block, which separating heads needs; leave heads out of sites, and function_vector out of "
            "measures.vectors.methods"
        )
    return [module for (module,) in maps]


@contextmanager
def replacing(network: PreTrainedModel, block: int, head: int, output: Tensor) -> Iterator[None]:
    """A context in which a head (0 to H-1) of a block (0 to L-1) has the output (B, d) in the last places."""
    size = output.shape[-1]

    def replace(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        whole = args[0].clone()
        whole[:, -1, head * size : (head + 1) * size] = output
        return (whole, *args[1:])

    with projections(network)[block].register_forward_pre_hook(replace):
        yield


@torch.no_grad()
def added(network: PreTrainedModel, block: int, head: int, output: Tensor) -> Tensor:
    """What a head of a block adds to the residual stream (B, D) where its output is (B, d)."""
    module, n_head, size = projections(network)[block], network.config.num_attention_heads, output.shape[-1]
    alone = output.new_zeros(len(output), n_head * size)
    without = module(alone)
    alone[:, head * size : (head + 1) * size] = output
    return module(alone) - without  # without the bias
