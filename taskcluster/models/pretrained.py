"""Load pretrained models from a folder, the Hugging Face Hub or a GGUF file.

in:  a folder or a name on the hub, a revision, a precision
out: a causal LM with its weights, refused in one sentence where file and architecture do not have the same weights, or
     where these are not finite or do not suit the prompts; the traits that checkpoints of one model share

Weights are read from safetensors or GGUF files alone, which hold no code, as pickles may.
"""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from logging import getLogger
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from taskcluster.data.sources import reading
from taskcluster.validation import validated

ADVICE = "give a folder with config.json and model.safetensors, as save_pretrained writes them, or with the GGUF file"

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
    device_map: str | dict[str, int | str] | None = None,
    bits: Literal[8, 4] | None = None,
) -> PreTrainedModel:
    """The model at `path`, a folder or a name on Hugging Face's hub, for sequences of up to `longest` tokens.

    vocab_size: number of tokens of the tokenizer; revision: branch, tag or commit on the hub; gguf_file: the file below
    `path` that holds model and tokenizer; trust_remote_code: whether the model's own code may be run; revisions: none
    here, as several are the steps of a run, which loads one after the other (`taskcluster.training.series`);
    device_map: the device of each part, as accelerate has it, or "auto", or one device for all, such as "cuda:1"; bits:
    of a weight in the blocks, by bitsandbytes, if fewer than those of `dtype`.

    Raises ValueError where it cannot be loaded whole, where weights are left over or not finite, and where it has fewer
    embeddings than tokens, or reads shorter sequences; where bitsandbytes is not installed.
    """
    if path is None:
        raise ValueError("path=None: give a folder, or a model's name on Hugging Face's hub")
    if bits and not find_spec("bitsandbytes"):
        raise ValueError(f"bits={bits} needs the package bitsandbytes; install it, or leave model.bits out")
    with reading(path, revision, "path", ADVICE) as bars:
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
            device_map=device_map,
            quantization_config=_quantization(bits, dtype),
            **bars,
        )
    network: Any = loaded[0]
    _refuse_other_weights(f"path={path!r}{f' at revision {revision!r}' if revision else ''}", *loaded)
    _refuse_unsuited(path, network, dtype, vocab_size, longest)
    if gguf_file and getattr(network, "hf_quantizer", None) is not None:  # its weights are of `dtype` now
        network.hf_quantizer, network.is_quantized = None, False
        del network.config.quantization_config
    if device_map:  # transformers names no device where there is one for all
        network.hf_device_map = getattr(network, "hf_device_map", None) or {"": network.device}
    network.config.use_cache = False
    return network.train()


def _quantization(bits: int | None, dtype: str) -> BitsAndBytesConfig | None:
    if not bits:
        return None
    getLogger("bitsandbytes").setLevel("ERROR")  # in every pass it says that inputs are cast
    return BitsAndBytesConfig(
        load_in_8bit=bits == 8, load_in_4bit=bits == 4, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def traits(path: str, revision: str | None, trust_remote_code: bool) -> dict[str, object]:
    """Return the traits that checkpoints of one model share: the values of config.json that the architecture reads and
    that change what it computes, and in a folder the shapes of weights, by their names. Raises ValueError where files
    cannot be read.

    A key that the architecture's config class does not know is read by nothing; one that is missing has its default.
    """
    with reading(path, revision, "path", ADVICE):
        config = _config(path, revision, trust_remote_code)
        known = {"model_type", *type(config)().to_dict()}
        values = {key: value for key, value in config.to_dict().items() if key in known and not INERT.fullmatch(key)}
        shapes = _shapes(Path(path)) if Path(path).is_dir() else {}
    tied = getattr(config, "tie_word_embeddings", False)
    return values | {key: shape for key, shape in shapes.items() if not (tied and key.endswith(HEADS))}


def _shapes(folder: Path) -> dict[str, str]:
    shapes: dict[str, str] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            shapes |= {name: f"of shape {weights.get_slice(name).get_shape()}" for name in weights.keys()}  # noqa: SIM118
    if not shapes:
        raise FileNotFoundError("it has no model.safetensors")
    return {name: shape for name, shape in shapes.items() if not BUFFERS.search(name)}


def _config(path: str, revision: str | None, trust_remote_code: bool) -> Any:
    """Raises ValueError for what transformers would load without what it holds: adapters and quantized weights."""
    if Path(path, "adapter_config.json").is_file():
        raise ValueError("it is an adapter, and has to be merged into its base model")
    config = AutoConfig.from_pretrained(path, revision=revision or "main", trust_remote_code=trust_remote_code)
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError("its weights are quantized, and must be float32, bfloat16 or float16")
    return config


def _refuse_other_weights(source: str, network: Any, report: Mapping[str, Any]) -> None:
    """report: what transformers says of a load. Raises ValueError where file and architecture differ in weights."""
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    tied = head is not None and getattr(network.config, "tie_word_embeddings", False)
    differences = [
        *(f"lacks {name}" for name in sorted(report["missing_keys"])),
        *(f"has {name} of shape {[*a]}, and not {[*b]}" for name, a, b in sorted(report["mismatched_keys"])),
        *(f"has {name} left over" for name in sorted(report["unexpected_keys"]) if not BUFFERS.search(name)),
        *(
            ["has an output layer that differs from its embedding"]
            if tied and head.weight is not embedding.weight
            else []
        ),
    ]
    if differences:
        raise ValueError(
            f"{source} {differences[0]}, unlike the architecture in its config.json ({len(differences)} such weights); "
            "give the whole files of a causal LM, with the config.json that it was trained with"
        )


def _refuse_unsuited(path: str, network: Any, dtype: str, vocab_size: int, longest: int) -> None:
    """Raise ValueError for weights that are not finite, and for a model that cannot read the prompts."""
    weights = network.named_parameters()  # those that device_map keeps elsewhere are on the meta device
    if broken := [name for name, weight in weights if not (weight.is_meta or torch.isfinite(weight).all())]:
        raise ValueError(
            f"path={path!r} has NaN or infinite values in {broken[0]}, read as {dtype}; choose model.dtype=float32, or "
            "restore its files"
        )
    embeddings = len(network.get_input_embeddings().weight)
    if embeddings < vocab_size:
        raise ValueError(
            f"path={path!r} has {embeddings} embeddings for the {vocab_size} tokens of data.tokenizer; "
            "leave data.tokenizer to follow the model"
        )
    reads = getattr(network.config, "max_position_embeddings", None)
    if reads and reads < longest:
        raise ValueError(
            f"path={path!r} reads {reads} tokens, fewer than the {longest} of the longest sequence; "
            "shorten data.template or the texts of the tasks"
        )
