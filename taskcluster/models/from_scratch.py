"""Shared by all models from scratch: checks of their sizes, and weights that are a function of a seed.

in:  the sizes of a model; a class of transformers and its config
out: ValueError("KEY=VALUE ...") for sizes that do not fit; the model with fresh weights
"""

from copy import deepcopy
from typing import TypeVar

import torch
from transformers import PretrainedConfig, PreTrainedModel

M = TypeVar("M", bound=PreTrainedModel)


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
