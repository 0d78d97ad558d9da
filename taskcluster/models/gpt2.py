"""GPT-2 from scratch (Radford et al., 2019): the paper's model."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from transformers import GPT2Config, GPT2LMHeadModel

from taskcluster.models.from_scratch import fresh, refuse_sizes
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
    refuse_sizes(n_embd, n_head, n_positions, longest)
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
    return fresh(GPT2LMHeadModel, config, seed)
