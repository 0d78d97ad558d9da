"""The states of every layer at some places of a batch, from one forward pass.

in:  a Hugging Face causal LM, its inputs of (B, T), places: M lines and M columns of that grid
out: its output, and hidden states (L+1, M, D)

Layer 0 is the embedding output, layer l the output of block l. As in transformers' `output_hidden_states`, the last
layer is read after the final LayerNorm. Only the asked places are kept of each layer, so memory does not grow with T.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Places = tuple[Tensor, Tensor]


def forward_with_states(network: PreTrainedModel, places: Places, **inputs: Any) -> tuple[Any, Tensor]:
    """The network's output for its `inputs`, and its hidden states at `places`, (L+1, M, D)."""
    states: list[Tensor] = []

    def keep_input(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states.append((args[0] if args else kwargs["hidden_states"])[places])

    def keep_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        states.append(output[0][places])

    hooks = [block.register_forward_pre_hook(keep_input, with_kwargs=True) for block in blocks(network)]
    hooks.append(network.base_model.register_forward_hook(keep_output))
    try:
        output = network(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return output, torch.stack(states)


def blocks(network: PreTrainedModel) -> nn.ModuleList:
    """The transformer blocks, in order."""
    n_layer = network.config.num_hidden_layers
    return next(m for m in network.modules() if isinstance(m, nn.ModuleList) and len(m) == n_layer)
