"""Small networks from scratch, of every architecture that comes with the package, and a tokenizer for them."""

from functools import lru_cache
from typing import Any

from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from taskcluster.config import Node
from taskcluster.operations.command_line.cli import composed

ARCHITECTURES = ("gpt2", "llama", "gpt_neox")

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 16, "initializer_range": 0.3}  # with weights that make states differ


def small(architecture: str, vocab_size: int = 12, longest: int = 64, **changes: Any) -> PreTrainedModel:
    """As `model=ARCHITECTURE` builds it, in evaluation."""
    node = Node.of(_composed(architecture) | SIZES | changes, "model")
    return node.build(PreTrainedModel, vocab_size=vocab_size, longest=longest).eval()


@lru_cache
def _composed(architecture: str) -> dict[str, Any]:
    return composed(f"model={architecture}")["model"]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Of bytes, and of pairs of them that are frequent."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["This is a question: abc red -> blue."] * 3, vocab_size=280, min_frequency=2)
    trained.add_special_tokens(["<|endoftext|>"])
    return PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="<|endoftext|>")
