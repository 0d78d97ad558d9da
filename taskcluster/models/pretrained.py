"""Models that others trained, as they are: from a folder, from Hugging Face's hub, or from a GGUF file.

in:  a folder or a name on the hub, a revision, a precision
out: a causal LM with its weights, refused in one sentence where they are not all there or do not suit the prompts;
     what two checkpoints of one model have in common, without reading their weights

Weights are read from safetensors or GGUF files alone, which hold no code, as pickles may.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from safetensors import safe_open
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from taskcluster.data.tokenizer import quietly, refuse_gguf_without_its_packages
from taskcluster.validation import validated

WEIGHTS = ("*.safetensors", "*.gguf")

OF_A_FILE = ("_name_or_path", "_commit_hash", "transformers_version", "dtype", "torch_dtype", "use_cache")


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
    here, as several are the steps of a run, which loads one after the other (`taskcluster.runs.series`).

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
        raise ValueError(_refusal(path, revision, error)) from None
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


def traits(path: str, revision: str | None) -> dict[str, str]:
    """What the checkpoints of one model have in common: values of config.json and, in a folder, shapes of weights, by
    their names. Of the weights only names and shapes are read. Raises ValueError where they cannot be.
    """
    try:
        with quietly():
            config, _ = PreTrainedConfig.get_config_dict(path, revision=revision or "main")
        found = {key: str(value) for key, value in config.items() if key not in OF_A_FILE}
        for file in _weight_files(Path(path)) if Path(path).is_dir() else ():
            with safe_open(file, framework="pt") as weights:
                names = weights.keys()
                found |= {name: f"of shape {weights.get_slice(name).get_shape()}" for name in names}
    except Exception as error:  # as above
        raise ValueError(_refusal(path, revision, error)) from None
    return found


def _weight_files(folder: Path) -> list[Path]:
    """Those that transformers would read. Raises FileNotFoundError where there are none."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return [folder / "model.safetensors"]
    return [folder / name for name in sorted({*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})]


def _refusal(path: str, revision: str | None, error: Exception) -> str:
    reason = " ".join(str(error).strip().split("\n")[0].split()) or type(error).__name__
    said = f"path={path!r}{f' at revision {revision!r}' if revision else ''} cannot be loaded ({reason})"
    if Path(path).is_dir() and not [file for pattern in WEIGHTS for file in Path(path).glob(pattern)]:
        return f"{said}; give a folder with config.json and model.safetensors, as save_pretrained writes them"
    return f"{said}; give a folder, or a model's name on Hugging Face's hub"


def _forget_quantization(network: Any) -> None:
    """The weights of a GGUF file have been converted to `dtype`, so that nothing of its kind remains."""
    if getattr(network, "hf_quantizer", None) is not None:
        network.hf_quantizer, network.is_quantized = None, False
        del network.config.quantization_config
