"""Models that others trained, as they are: from a folder, from Hugging Face's hub, or from a GGUF file.

in:  a folder or a name on the hub, a revision, a precision
out: a causal LM with its weights, refused in one sentence where they are not all there or do not suit the prompts;
     the checkpoints below a folder, by their steps

Weights are read from safetensors or GGUF files alone, which hold no code, as pickles may.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from transformers import AutoModelForCausalLM, PreTrainedModel

from taskcluster.data.tokenizer import quietly, refuse_gguf_without_its_packages
from taskcluster.validation import UserError, validated

WEIGHTS = ("*.safetensors", "*.gguf")


@validated
def pretrained(
    vocab_size: PositiveInt,
    longest: PositiveInt,
    path: str | None,
    revision: str | None,
    gguf_file: str | None,
    dtype: Literal["float32", "bfloat16", "float16"],
    trust_remote_code: bool,
) -> PreTrainedModel:
    """The model at `path`, a folder or a name on Hugging Face's hub, for sequences of up to `longest` tokens.

    vocab_size: number of tokens of the tokenizer; revision: branch, tag or commit on the hub; gguf_file: the file below
    `path` that holds model and tokenizer; trust_remote_code: whether the model's own code may be run.

    Raises ValueError where it cannot be loaded whole, has fewer embeddings than tokens, or reads shorter sequences.
    """
    if path is None:
        raise ValueError("path=None: give a folder, or a model's name on Hugging Face's hub")
    if gguf_file:
        refuse_gguf_without_its_packages(gguf_file)
    try:
        with quietly():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path,
                revision=revision or "main",
                gguf_file=gguf_file,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
            )
    except Exception as error:  # transformers and its parsers raise many kinds
        raise ValueError(_refusal(path, error)) from None
    network: PreTrainedModel = loaded[0]
    found: dict[str, Any] = loaded[1]
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"path={path!r} lacks {len(missing)} weights, such as {missing[0]}; choose a causal LM")
    _refuse_unsuited(network, path, vocab_size, longest)
    _forget_quantization(network)
    network.config.use_cache = False
    return network.train()


def _refuse_unsuited(network: PreTrainedModel, path: str, vocab_size: int, longest: int) -> None:
    embedding: Any = network.get_input_embeddings()
    n_embeddings = embedding.weight.shape[0]
    if n_embeddings < vocab_size:
        raise ValueError(
            f"path={path!r} has {n_embeddings} embeddings for the {vocab_size} tokens of data.tokenizer; "
            "leave data.tokenizer to follow the model"
        )
    reads = getattr(network.config, "max_position_embeddings", None)
    if reads and reads < longest:
        raise ValueError(
            f"path={path!r} reads {reads} tokens, fewer than the {longest} of the longest sequence; "
            "shorten data.template or the texts of the tasks"
        )


def _refusal(path: str, error: Exception) -> str:
    reason = " ".join(str(error).strip().split("\n")[0].split()) or type(error).__name__
    said = f"path={path!r} cannot be loaded ({reason})"
    if Path(path).is_dir() and not [file for pattern in WEIGHTS for file in Path(path).glob(pattern)]:
        return f"{said}; give a folder with config.json and model.safetensors, as save_pretrained writes them"
    return f"{said}; give a folder, or a model's name on Hugging Face's hub"


def _forget_quantization(network: Any) -> None:
    """The weights of a GGUF file have been converted to `dtype`, so that nothing of its kind remains."""
    if getattr(network, "hf_quantizer", None) is not None:
        network.hf_quantizer, network.is_quantized = None, False
        del network.config.quantization_config


def checkpoints(path: str | Path, revisions: Sequence[str] = ()) -> list[tuple[int, dict[str, Any]]]:
    """The checkpoints of one model, each with its step and with the arguments by which `pretrained` loads it.

    path: a folder that holds folders such as step1000 or checkpoint-500, each with a config.json; or, with `revisions`,
    a model's name on the hub, whose revisions are named likewise. They come by number: step9 before step10.

    Raises UserError for a folder without checkpoints, a revision without a number, and two of one number.
    """
    found: list[tuple[str, dict[str, Any]]]
    if revisions:
        found = [(name, {"path": str(path), "revision": name}) for name in revisions]
    else:
        folders = sorted(file.parent for file in Path(path).glob("*/config.json"))
        found = [
            (folder.name, {"path": str(folder), "revision": None}) for folder in folders if _step(folder.name) >= 0
        ]
    if not found:
        raise UserError(f"{path} holds no checkpoints; give a folder with folders such as step1000 or checkpoint-500")
    if unnumbered := [name for name, _ in found if _step(name) < 0]:
        raise UserError(f"revision={unnumbered[0]!r} has no number to sort it by; name revisions such as step1000")
    steps = sorted(((_step(name), where) for name, where in found), key=lambda pair: pair[0])
    if twice := [step for (step, _), (other, _) in pairwise(steps) if step == other]:
        raise UserError(f"{path} has two checkpoints of step {twice[0]}; remove one of them")
    return steps


def _step(name: str) -> int:
    """The last number in a name, -1 where there is none."""
    numbers = re.findall(r"\d+", name)
    return int(numbers[-1]) if numbers else -1
