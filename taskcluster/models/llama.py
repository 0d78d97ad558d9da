"""Llama from scratch (Touvron et al., 2023): rotary positions, RMSNorm, gated MLP, no biases."""

from typing import Any

from pydantic import PositiveFloat, PositiveInt
from transformers import LlamaConfig, LlamaForCausalLM

from taskcluster.models.from_scratch import fresh, refuse_sizes
from taskcluster.validation import Seed, validated


@validated
def llama(
    vocab_size: PositiveInt,
    longest: PositiveInt,
    n_layer: PositiveInt,
    n_head: PositiveInt,
    n_kv_head: PositiveInt | None,
    n_embd: PositiveInt,
    n_inner: PositiveInt | None,
    n_positions: PositiveInt,
    initializer_range: PositiveFloat,
    rope_theta: PositiveFloat,
    tie_embeddings: bool,
    seed: Seed,
) -> LlamaForCausalLM:
    """A Llama with fresh weights, a function of `seed`, for sequences of up to `longest` tokens.

    n_kv_head: heads of keys and values, None for n_head of them (no grouping); n_inner: width of the MLP, None for
    8/3 n_embd, rounded up to a multiple of 8, as in the paper's gated MLP.

    Raises ValueError where heads do not divide the width or each other, where their width is odd, and where
    `n_positions` is below `longest`.
    """
    refuse_sizes(n_embd, n_head, n_positions, longest, n_rotated=n_embd // n_head)
    if n_kv_head and n_head % n_kv_head:
        raise ValueError(f"n_kv_head={n_kv_head} does not divide n_head={n_head}; change one of them")
    rotation: dict[str, Any] = {"rope_theta": rope_theta}  # as transformers 4 and 5 take it
    config = LlamaConfig(
        vocab_size=vocab_size,
        num_hidden_layers=n_layer,
        num_attention_heads=n_head,
        num_key_value_heads=n_kv_head or n_head,
        hidden_size=n_embd,
        intermediate_size=n_inner or -(-8 * n_embd // 24) * 8,
        max_position_embeddings=n_positions,
        initializer_range=initializer_range,
        **rotation,
        tie_word_embeddings=tie_embeddings,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    return fresh(LlamaForCausalLM, config, seed)
