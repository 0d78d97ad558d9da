"""GPT-2 from scratch (Radford et al., 2019): the paper's model."""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from transformers import GPT2Config, GPT2LMHeadModel

from taskcluster.validation import Seed, validated


@validated
def gpt2(
    vocab_size: PositiveInt,
    longest: PositiveInt,
    n_layer: PositiveInt,
    n_head: PositiveInt,
    n_embd: PositiveInt,
    n_positions: PositiveInt,
    initializer_range: PositiveFloat,
    dropout: Annotated[float, Field(ge=0, lt=1)],
    activation: Literal["gelu_new", "gelu_pytorch_tanh", "gelu", "relu", "silu"],
    seed: Seed,
) -> GPT2LMHeadModel:
    """A GPT-2 with fresh weights, a function of `seed`, for sequences of up to `longest` tokens.

    Raises ValueError where the heads do not divide the width or `n_positions` is below `longest`.
    """
    if n_embd % n_head:
        divisors = ", ".join(str(d) for d in range(1, 65) if n_embd % d == 0)
        raise ValueError(f"n_head={n_head} does not divide n_embd={n_embd}; use one of {divisors}")
    if n_positions < longest:
        raise ValueError(f"n_positions={n_positions} is below the longest sequence, {longest} tokens; raise it")
    config = GPT2Config(
        vocab_size=vocab_size,
        n_layer=n_layer,
        n_head=n_head,
        n_embd=n_embd,
        n_positions=n_positions,
        initializer_range=initializer_range,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        activation_function=activation,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = GPT2LMHeadModel(config)
    network.set_attn_implementation("sdpa")  # takes a mask of booleans
    return network
