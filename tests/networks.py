"""Small networks from scratch, of every architecture that comes with the package."""

from functools import lru_cache
from typing import Any

from transformers import PreTrainedModel

from taskcluster.cli import composed
from taskcluster.config import Node

ARCHITECTURES = ("gpt2", "llama", "gpt_neox")

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 16, "initializer_range": 0.3}  # with weights that make states differ


def small(architecture: str, vocab_size: int = 12, longest: int = 64, **changes: Any) -> PreTrainedModel:
    """As `model=ARCHITECTURE` builds it, in evaluation."""
    node = Node.of(_composed(architecture) | SIZES | changes, "model")
    return node.build(PreTrainedModel, vocab_size=vocab_size, longest=longest).eval()


@lru_cache
def _composed(architecture: str) -> dict[str, Any]:
    return composed(f"model={architecture}")["model"]
