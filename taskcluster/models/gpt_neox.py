"""GPT-NeoX from scratch (Black et al., 2022), the architecture of Pythia: rotary positions, parallel residual."""

from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from taskcluster.models.from_scratch import fresh, refuse_sizes
from taskcluster.validation import Seed, validated


@validated
def gpt_neox(
    vocab_size: PositiveInt,
    longest: PositiveInt,
    n_layer: PositiveInt,
    n_head: PositiveInt,
    n_embd: PositiveInt,
    n_inner: PositiveInt | None,
    n_positions: PositiveInt,
    initializer_range: PositiveFloat,
    rotary: Annotated[float, Field(gt=0, le=1)],
    parallel: bool,
    dropout: Annotated[float, Field(ge=0, lt=1)],
    seed: Seed,
) -> GPTNeoXForCausalLM:
    """A GPT-NeoX with fresh weights, a function of `seed`, for sequences of up to `longest` tokens.

    n_inner: width of the MLP, None for 4 n_embd; rotary: the fraction of a head's dimensions that rotary positions
    take; parallel: whether attention and MLP read the same states.

    Raises ValueError where the heads do not divide the width, where rotary positions take an odd number of dimensions
    of a head, and where `n_positions` is below `longest`.
    """
    refuse_sizes(n_embd, n_head, n_positions, longest, n_rotated=int(rotary * (n_embd // n_head)))
    rotation: dict[str, Any] = {"rotary_pct": rotary}  # as transformers 4 and 5 take it
    config = GPTNeoXConfig(
        vocab_size=vocab_size,
        num_hidden_layers=n_layer,
        num_attention_heads=n_head,
        hidden_size=n_embd,
        intermediate_size=n_inner or 4 * n_embd,
        max_position_embeddings=n_positions,
        initializer_range=initializer_range,
        **rotation,
        use_parallel_residual=parallel,
        hidden_dropout=dropout,
        attention_dropout=dropout,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    return fresh(GPTNeoXForCausalLM, config, seed)
