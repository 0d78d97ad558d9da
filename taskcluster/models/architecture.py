"""What reading and editing states needs to know about a causal LM: where its blocks are, and which masks it accepts.

in:  a Hugging Face causal LM, of any architecture
out: its blocks in order, its output layer, the inputs that it takes; a UserError where they cannot be found

Architectures that are not in KNOWN are inspected and tested. Most work without changes; others need a line in KNOWN.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from taskcluster.validation import UserError

# The dotted name of the module list that holds the blocks, by `network.config.model_type`. The attention of these takes
# a boolean mask of (B, 1, T, T), True where a token (third axis) sees another (fourth), as packed batches need.
KNOWN = {"gpt2": "transformer.h", "llama": "model.layers", "gpt_neox": "gpt_neox.layers"}

REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)  # of unsuitable inputs


def blocks(network: PreTrainedModel) -> list[nn.Module]:
    """The transformer blocks, in order: what each returns is the states of a layer (B, T, D), or a tuple that begins
    with them. Raises UserError where they cannot be found.
    """
    return list(network.get_submodule(_name_of_blocks(network)).children())


@contextmanager
def blocks_from(network: PreTrainedModel, first: int) -> Iterator[None]:
    parent, _, name = _name_of_blocks(network).rpartition(".")
    owner = network.get_submodule(parent)
    whole = owner.get_submodule(name)
    setattr(owner, name, nn.ModuleList([*whole.children()][first:]))
    try:
        yield
    finally:
        setattr(owner, name, whole)


def _name_of_blocks(network: PreTrainedModel) -> str:
    if known := KNOWN.get(network.config.model_type):
        return known
    n_layer = getattr(network.config, "num_hidden_layers", 0)
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layer > 0:
            return name
    raise UserError(
        f"model: {type(network).__name__} has no list of num_hidden_layers={n_layer} blocks, so its states cannot "
        "be read; give its config num_hidden_layers, and the model one nn.ModuleList of that length"
    )


def is_placed(network: PreTrainedModel) -> bool:
    """Whether the network was placed by model.device_map, or has quantized weights; neither can be moved."""
    return bool(getattr(network, "hf_device_map", None)) or bool(getattr(network, "is_quantized", False))


def output_layer(network: PreTrainedModel) -> nn.Module:
    """The output layer, which maps the last layer's states to logits. Raises UserError for a network without one."""
    head = network.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise UserError(
            f"model: {type(network).__name__} has no output layer, so its last states cannot be read; load it with "
            "AutoModelForCausalLM, or let its get_output_embeddings() return it"
        )
    return head


def accepted(network: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that the network accepts: models that derive positions from the mask lack `position_ids`."""
    parameters = inspect.signature(network.forward).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {name: value for name, value in inputs.items() if anything or name in parameters}


@torch.no_grad()
def takes_mask(network: PreTrainedModel) -> bool:
    """Whether the network accepts a mask for every pair of tokens, so that several sequences fit into one line."""
    if network.config.model_type in KNOWN:
        return True
    inputs = sample(network, 2, 3)
    separate: Tensor = network(**accepted(network, inputs)).logits
    line, causal = inputs["input_ids"].view(1, -1), torch.ones(3, 3, dtype=torch.bool).tril()
    mask = torch.block_diag(causal, causal).bool()[None, None].to(line.device)
    positions = inputs["position_ids"].reshape(1, -1)
    packed = accepted(network, {"input_ids": line, "attention_mask": mask, "position_ids": positions})
    try:
        together: Tensor = network(**packed).logits
    except REFUSALS:
        return False
    return len(packed) == 3 and alike(together.view_as(separate), separate)


def alike(some: Tensor, other: Tensor) -> bool:
    """Whether logits are equal up to rounding in their precision."""
    tolerance = torch.finfo(other.dtype).eps ** 0.5
    return some.shape == other.shape and bool((some - other).abs().max() <= other.abs().max() * tolerance)


def sample(network: PreTrainedModel, n: int, length: int) -> dict[str, Tensor]:
    """Inputs of some (n, length) tokens, to try a network with."""
    tokens = (torch.arange(n * length, device=network.device) % network.config.vocab_size).view(n, length)
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "position_ids": torch.arange(length, device=tokens.device).expand_as(tokens),
    }
