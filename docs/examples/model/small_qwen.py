"""A small Qwen3 from scratch: rotary positions, RMSNorm, gated MLP."""

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM


def small_qwen(vocab_size: int, longest: int, n_layer: int, n_head: int, n_embd: int, seed: int) -> Qwen3ForCausalLM:
    if n_embd % n_head:
        raise ValueError(f"n_head={n_head} does not divide n_embd={n_embd}; change one of them")
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=n_embd,
        intermediate_size=3 * n_embd,
        num_hidden_layers=n_layer,
        num_attention_heads=n_head,
        num_key_value_heads=n_head,
        head_dim=n_embd // n_head,
        max_position_embeddings=max(longest, 64),
        initializer_range=0.06,
        use_cache=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)
