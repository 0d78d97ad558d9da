"""Models from scratch, with weights that are a function of a seed. An architecture is imported when it is built.

in:  the sizes of a model
out: a causal LM of transformers; ValueError("KEY=VALUE ...") for sizes that do not fit
"""

from copy import deepcopy
from typing import Annotated, Any, Literal, TypeVar

import torch
import transformers
from pydantic import Field, PositiveFloat, PositiveInt
from transformers import PretrainedConfig, PreTrainedModel

from taskcluster.validation import Seed, validated

M = TypeVar("M", bound=PreTrainedModel)


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
) -> PreTrainedModel:
    """GPT-2 (Radford et al., 2019), the paper's model, with fresh weights, a function of `seed`, for sequences of up to
    `longest` tokens.

    Raises ValueError where the heads do not divide the width or `n_positions` is below `longest`.
    """
    refuse_sizes(n_embd, n_head, n_positions, longest)
    config = transformers.GPT2Config(
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
    return fresh(transformers.GPT2LMHeadModel, config, seed)


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
) -> PreTrainedModel:
    """Llama (Touvron et al., 2023: rotary positions, RMSNorm, gated MLP, no biases) with fresh weights, a function of
    `seed`, for sequences of up to `longest` tokens.

    n_kv_head: heads of keys and values, None for n_head of them (no grouping); n_inner: width of the MLP, None for
    8/3 n_embd, rounded up to a multiple of 8, as in the paper's gated MLP.

    Raises ValueError where heads do not divide the width or each other, where their width is odd, and where
    `n_positions` is below `longest`.
    """
    refuse_sizes(n_embd, n_head, n_positions, longest, n_rotated=n_embd // n_head)
    if n_kv_head and n_head % n_kv_head:
        raise ValueError(f"n_kv_head={n_kv_head} does not divide n_head={n_head}; change one of them")
    rotation: dict[str, Any] = {"rope_theta": rope_theta}  # as transformers 4 and 5 take it
    config = transformers.LlamaConfig(
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
    return fresh(transformers.LlamaForCausalLM, config, seed)


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
) -> PreTrainedModel:
    """GPT-NeoX (Black et al., 2022), the architecture of Pythia (rotary positions, parallel residual), with fresh
    weights, a function of `seed`, for sequences of up to `longest` tokens.

    n_inner: width of the MLP, None for 4 n_embd; rotary: the fraction of a head's dimensions that rotary positions
    take; parallel: whether attention and MLP read the same states.

    Raises ValueError where the heads do not divide the width, where rotary positions take an odd number of dimensions
    of a head, and where `n_positions` is below `longest`.
    """
    refuse_sizes(n_embd, n_head, n_positions, longest, n_rotated=int(rotary * (n_embd // n_head)))
    rotation: dict[str, Any] = {"rotary_pct": rotary}  # as transformers 4 and 5 take it
    config = transformers.GPTNeoXConfig(
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
    return fresh(transformers.GPTNeoXForCausalLM, config, seed)


def refuse_sizes(n_embd: int, n_head: int, n_positions: int, longest: int, n_rotated: int = 2) -> None:
    """Raise ValueError where the heads do not divide the width, where `n_positions` is below `longest`, and where the
    rotary positions of a head, in `n_rotated` of its dimensions, cannot be computed in pairs."""
    if n_embd % n_head:
        divisors = ", ".join(str(d) for d in range(1, 65) if n_embd % d == 0)
        raise ValueError(f"n_head={n_head} does not divide n_embd={n_embd}; use one of {divisors}")
    if n_positions < longest:
        raise ValueError(f"n_positions={n_positions} is below the longest sequence, {longest} tokens; raise it")
    if n_rotated < 2 or n_rotated % 2:
        raise ValueError(
            f"n_head={n_head} gives rotary positions {n_rotated} of the {n_embd // n_head} dimensions of a head, which "
            "must be an even number; choose fewer heads"
        )


def fresh(kind: type[M], config: PretrainedConfig, seed: int) -> M:
    """A model of this class with weights that `seed` alone decides."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(config)


def with_random_weights(network: M, seed: int) -> M:
    """Another network of the same architecture, precision and device, with the weights that transformers draws for it.

    The matrices are normal with the standard deviation `config.initializer_range`, for most architectures: 0.02 where
    the config has none, as that of a GGUF file.
    """
    made = fresh(type(network), deepcopy(network.config), seed)
    return made.to(network.device, network.dtype)  # type: ignore[arg-type]  # transformers wraps it without types
