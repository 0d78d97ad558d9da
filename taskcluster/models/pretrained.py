"""Pretrained models as they are: from a folder, from Hugging Face's hub, or from a GGUF file.

in:  a folder or a name on the hub, a revision, a precision
out: a causal LM with its weights, refused in one sentence where file and architecture do not have the same weights, or
     where these are not finite or do not suit the prompts; what two checkpoints of one model have in common

Weights are read from safetensors or GGUF files alone, which hold no code, as pickles may.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from taskcluster.data.sources import reading
from taskcluster.validation import validated

KEYS = ("path", "revision", "gguf_file")
ADVICE = "give a folder with config.json and model.safetensors, as save_pretrained writes them"

# Keys of config.json that architectures know and that change no state of loaded weights in evaluation.
INERT = re.compile(
    r"\w*drop\w*|\w*_token_ids?|initializer_\w+|summary_\w+|id2label|label2id|problem_type|num_labels|use_cache|"
    r"return_dict|output_(hidden_states|attentions|router_logits)|dtype|torch_dtype|transformers_version|architectures|"
    r"_name_or_path|pretraining_tp|router_\w*_coef|max_position_embeddings|gradient_checkpointing|"
    r"chunk_size_feed_forward|task_specific_params"
)

# Buffers that older versions saved, and that architectures now make from their config: masks and rotary frequencies.
BUFFERS = re.compile(r"(^|\.)((attn|attention)\.(masked_)?bias|rotary_emb\.inv_freq|position_ids)$")
HEADS = ("lm_head.weight", "embed_out.weight")  # which may be saved or left out where they are tied to the embedding


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
    with reading(path, revision, gguf_file, KEYS, ADVICE):
        if not gguf_file:
            _config(path, revision, trust_remote_code)
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
    source = f"path={path!r}{f' at revision {revision!r}' if revision else ''}"
    _refuse_other_weights(source, network, loaded[1])
    _refuse_not_finite(source, network, dtype)
    _refuse_unsuited(path, network, vocab_size, longest)
    if gguf_file:
        _forget_quantization(network)
    network.config.use_cache = False
    return network.train()


def _forget_quantization(network: Any) -> None:
    """The weights of a GGUF file have been converted to `dtype`, so that nothing of its kind remains."""
    if getattr(network, "hf_quantizer", None) is not None:
        network.hf_quantizer, network.is_quantized = None, False
        del network.config.quantization_config


def traits(path: str, revision: str | None, trust_remote_code: bool) -> dict[str, object]:
    """What the checkpoints of one model have in common: the values of config.json that the architecture reads and that
    change what it computes, by dotted key, and in a folder the shapes of weights, by their names. Raises ValueError
    where files cannot be read.

    A key that the architecture's config class does not know is read by nothing; one that is missing has its default.
    """
    with reading(path, revision, None, KEYS, ADVICE):
        config = _config(path, revision, trust_remote_code)
        known = {"model_type", *type(config)().to_dict()}
        values = {key: value for key, value in config.to_dict().items() if key in known and not INERT.fullmatch(key)}
        shapes = _shapes(Path(path), getattr(config, "tie_word_embeddings", False)) if Path(path).is_dir() else {}
    return {**dict(_flat(values)), **shapes}


def _shapes(folder: Path, tied: bool) -> dict[str, str]:
    """Without buffers that do not matter and, where it is `tied`, without the output layer."""
    shapes: dict[str, str] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            shapes |= {name: f"of shape {weights.get_slice(name).get_shape()}" for name in weights.keys()}  # noqa: SIM118
    if not shapes:
        raise FileNotFoundError("it has no model.safetensors")
    return {
        name: shape
        for name, shape in shapes.items()
        if not BUFFERS.search(name) and not (tied and name.endswith(HEADS))
    }


def _config(path: str, revision: str | None, trust_remote_code: bool) -> Any:
    """Raises ValueError for what transformers would load without what it holds: adapters and quantized weights."""
    if Path(path, "adapter_config.json").is_file():
        raise ValueError("it is an adapter, which changes another model, and has to be merged into that one")
    config = AutoConfig.from_pretrained(path, revision=revision or "main", trust_remote_code=trust_remote_code)
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError("its weights are quantized, and should be float32, bfloat16 or float16")
    return config


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _refuse_other_weights(source: str, network: Any, report: Mapping[str, Any]) -> None:
    """report: what transformers says of a load. Raises ValueError where file and architecture differ in weights."""
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{source} lacks weights, such as {missing[0]} ({len(missing)} in all); choose a causal LM")
    if mismatched := sorted(report["mismatched_keys"]):
        name, there, here = mismatched[0]
        raise ValueError(
            f"{source} has {name} of shape {[*there]}, but its config.json asks for {[*here]}; give the config.json "
            "that it was trained with"
        )
    if unexpected := sorted(name for name in report["unexpected_keys"] if not BUFFERS.search(name)):
        raise ValueError(
            f"{source} has weights that its architecture has no place for, such as {unexpected[0]} ({len(unexpected)} "
            "in all); give the config.json that it was trained with, or remove them from the file"
        )
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    if (
        head is not None
        and getattr(network.config, "tie_word_embeddings", False)
        and head.weight is not embedding.weight
    ):
        raise ValueError(
            f"{source} has an output layer with other values than its embedding, but its config.json ties the two; set "
            "tie_word_embeddings=false there, or remove the output layer from the file"
        )


def _refuse_not_finite(source: str, network: PreTrainedModel, dtype: str) -> None:
    for name, weight in network.named_parameters():
        if not torch.isfinite(weight).all():
            instead = "choose model.dtype=float32, or restore" if dtype == "float16" else "restore"
            raise ValueError(f"{source} has NaN or infinite values in {name}, read as {dtype}; {instead} its files")


def _refuse_unsuited(path: str, network: PreTrainedModel, vocab_size: int, longest: int) -> None:
    embedding: Any = network.get_input_embeddings()
    if len(embedding.weight) < vocab_size:
        raise ValueError(
            f"path={path!r} has {len(embedding.weight)} embeddings for the {vocab_size} tokens of data.tokenizer; "
            "leave data.tokenizer to follow the model"
        )
    reads = getattr(network.config, "max_position_embeddings", None)
    if reads and reads < longest:
        raise ValueError(
            f"path={path!r} reads {reads} tokens, fewer than the {longest} of the longest sequence; "
            "shorten data.template or the texts of the tasks"
        )
