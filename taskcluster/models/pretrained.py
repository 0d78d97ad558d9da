"""Pretrained models as they are: from a folder, from Hugging Face's hub, or from a GGUF file.

in:  a folder or a name on the hub, a revision, a precision
out: a causal LM with its weights, refused in one sentence where file and architecture do not have the same weights, or
     where these are not finite or do not suit the prompts; what two checkpoints of one model have in common

Weights are read from safetensors or GGUF files alone, which hold no code, as pickles may.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from transformers import AutoModelForCausalLM, PreTrainedModel

from taskcluster.data.sources import Source, Unusable
from taskcluster.models.checkpoint_files import BUFFERS, files, settings, shapes
from taskcluster.validation import validated

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
    revisions: None = None,
) -> PreTrainedModel:
    """The model at `path`, a folder or a name on Hugging Face's hub, for sequences of up to `longest` tokens.

    vocab_size: number of tokens of the tokenizer; revision: branch, tag or commit on the hub; gguf_file: the file below
    `path` that holds model and tokenizer; trust_remote_code: whether the model's own code may be run; revisions: none
    here, as several are the steps of a run, which loads one after the other (`taskcluster.training.series`).

    Raises ValueError where it cannot be loaded whole, where weights are left over or not finite, and where it has fewer
    embeddings than tokens, or reads shorter sequences.
    """
    if path is None:
        raise ValueError("path=None: give a folder, or a model's name on Hugging Face's hub")
    with _reading(path, revision, gguf_file):
        if not gguf_file:
            settings(path, revision, trust_remote_code)  # which refuses adapters and quantized weights
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            revision=revision or "main",
            gguf_file=gguf_file,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,  # they are refused below, with their shapes
            output_loading_info=True,
        )
    network: PreTrainedModel = loaded[0]
    source = _source(path, revision)
    _refuse_other_weights(source, loaded[1])
    _refuse_untied(source, network)
    _refuse_not_finite(source, network, dtype)
    _refuse_unsuited(network, path, vocab_size, longest)
    _forget_quantization(network)
    network.config.use_cache = False
    return network.train()


def _refuse_other_weights(source: str, found: Mapping[str, Any]) -> None:
    """found: what transformers reports of a load."""
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{source} lacks weights, such as {missing[0]} ({len(missing)} in all); choose a causal LM")
    if mismatched := sorted(found["mismatched_keys"]):
        name, there, here = mismatched[0]
        raise ValueError(
            f"{source} has {name} of shape {[*there]}, but its config.json asks for {[*here]}; give the config.json "
            "that it was trained with"
        )
    if unexpected := sorted(name for name in found["unexpected_keys"] if not BUFFERS.search(name)):
        raise ValueError(
            f"{source} has weights that its architecture has no place for, such as {unexpected[0]} ({len(unexpected)} "
            "in all); give the config.json that it was trained with, or remove them from the file"
        )


def _refuse_untied(source: str, network: Any) -> None:
    """Raise ValueError where config.json ties weights that the file has with different values: transformers then does
    not tie them."""
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    ties = head is not None and network._tied_weights_keys and network.config.tie_word_embeddings
    if ties and head.weight is not embedding.weight:
        raise ValueError(
            f"{source} has an output layer with other values than its embedding, but its config.json ties the two; set "
            "tie_word_embeddings=false there, or remove the output layer from the file"
        )


def _refuse_not_finite(source: str, network: PreTrainedModel, dtype: str) -> None:
    for name, weight in network.named_parameters():
        if not torch.isfinite(weight).all():
            instead = "choose model.dtype=float32, or restore" if dtype == "float16" else "restore"
            raise ValueError(f"{source} has NaN or infinite values in {name}, read as {dtype}; {instead} its files")


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


def traits(path: str, revision: str | None, trust_remote_code: bool) -> dict[str, object]:
    """What the checkpoints of one model have in common: values of config.json that matter and, in a folder, shapes of
    weights, by their names. Of the weights only names and shapes are read. Raises ValueError where they cannot be.
    """
    with _reading(path, revision):
        found = settings(path, revision, trust_remote_code)
        if not Path(path).is_dir():
            return found
        named = shapes(Path(path), tied=bool(found.get("tie_word_embeddings")))
        if not named:
            raise FileNotFoundError("it has no model.safetensors")
    return {**found, **named}


def _source(path: str, revision: str | None) -> str:
    return f"path={path!r}{f' at revision {revision!r}' if revision else ''}"


@contextmanager
def _reading(path: str, revision: str | None, gguf_file: str | None = None) -> Iterator[None]:
    """`Source.reading`, which names a damaged file, as transformers does not."""
    there = [file for pattern in WEIGHTS for file in Path(path).glob(pattern)]
    advice = "" if there else "give a folder with config.json and model.safetensors, as save_pretrained writes them"
    with Source(path, revision, gguf_file).reading(advice):
        try:
            yield
        except Unusable:
            raise
        except Exception:
            files(path, revision)
            raise


def _forget_quantization(network: Any) -> None:
    """The weights of a GGUF file have been converted to `dtype`, so that nothing of its kind remains."""
    if getattr(network, "hf_quantizer", None) is not None:
        network.hf_quantizer, network.is_quantized = None, False
        del network.config.quantization_config
