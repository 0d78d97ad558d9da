"""What the files of a pretrained model say before its weights are read.

in:  a folder, or a name on Hugging Face's hub with a revision
out: values of config.json, and names and shapes of weights; one sentence where the files cannot be read or are of a
     kind that transformers would load without what it holds: adapters, quantized weights
"""

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils.peft_utils import find_adapter_config_file

from taskcluster.data.sources import Unusable

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"  # transformers reads the first if there are both

# Keys of config.json that architectures know and that change no state of loaded weights in evaluation.
INERT = re.compile(
    r"\w*drop\w*|\w*_token_ids?|initializer_\w+|summary_\w+|id2label|label2id|problem_type|num_labels|use_cache|"
    r"return_dict|output_(hidden_states|attentions|router_logits)|dtype|torch_dtype|transformers_version|architectures|_name_or_path|pretraining_tp|"
    r"router_\w*_coef|max_position_embeddings|gradient_checkpointing|chunk_size_feed_forward|task_specific_params"
)

# Buffers that older versions saved, and that architectures now make from their config: masks and rotary frequencies.
BUFFERS = re.compile(r"(^|\.)((attn|attention)\.(masked_)?bias|rotary_emb\.inv_freq|position_ids)$")
HEADS = ("lm_head.weight", "embed_out.weight")  # which may be saved or left out where they are tied to the embedding


def settings(path: str, revision: str | None, trust_remote_code: bool) -> dict[str, object]:
    """The values of config.json that the architecture reads and that change what it computes, by dotted key.

    A key that the architecture's config class does not know is read by nothing; one that is missing has its default.
    Raises Unusable for adapters and for quantized weights, OSError or ValueError for a config that cannot be read.
    """
    adapter = find_adapter_config_file(path, revision=revision or "main")
    if adapter is not None:
        raise Unusable("it is an adapter, which changes another model; merge it into that one, and give the result")
    config = AutoConfig.from_pretrained(path, revision=revision or "main", trust_remote_code=trust_remote_code)
    if (quantized := getattr(config, "quantization_config", None)) is not None:
        kind = quantized.get("quant_method") if isinstance(quantized, Mapping) else type(quantized).__name__
        raise Unusable(f"its weights are quantized, {kind}; give the model in float32, bfloat16 or float16")
    return {"model_type": config.model_type, **dict(_known(config))}


def shapes(folder: Path, tied: bool) -> dict[str, str]:
    """The shapes of weights by their names, without buffers that do not matter and, where it is `tied`, without the
    output layer. Raises Unusable."""
    found: dict[str, str] = {}
    for file in files(str(folder), None):
        with _opened(file) as weights:
            found |= {name: f"of shape {weights.get_slice(name).get_shape()}" for name in weights.keys()}  # noqa: SIM118
    return {
        name: shape for name, shape in found.items() if not BUFFERS.search(name) and not (tied and name.endswith(HEADS))
    }


def files(path: str, revision: str | None) -> list[Path]:
    """The weight files that are here, in the folder or in the hub's cache. Raises Unusable for one that is damaged, or
    missing beside others."""
    single, index = _local(path, revision, WEIGHTS), _local(path, revision, INDEX)
    if single or not index:
        found = [single] if single else []
    else:
        names = _shards(index)
        here = {name: _local(path, revision, name) for name in names}
        if missing := [name for name, file in here.items() if file is None]:
            raise Unusable(f"{missing[0]}, which {INDEX} names, is missing; restore it")
        found = [file for file in here.values() if file]
    for file in found:
        _opened(file)
    return found


def _known(config: PreTrainedConfig, prefix: str = "") -> Iterator[tuple[str, object]]:
    cls = type(config)
    names = {field.name for field in dataclasses.fields(cls)} | {*inspect.signature(cls.__init__).parameters}
    for name in sorted(names):
        if hasattr(config, name) and not INERT.fullmatch(name):
            yield from _flat(f"{prefix}{name}", getattr(config, name))


def _flat(key: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, PreTrainedConfig):
        yield from _known(value, f"{key}.")
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(f"{key}.{name}", part)
    else:
        yield key, value


def _local(path: str, revision: str | None, name: str) -> Path | None:
    if Path(path).is_dir():
        return file if (file := Path(path) / name).is_file() else None
    try:
        cached = try_to_load_from_cache(path, name, revision=revision or "main")
    except HFValidationError:  # neither a folder nor a name that the hub can have
        return None
    return Path(cached) if isinstance(cached, str) else None


def _shards(index: Path) -> list[str]:
    try:
        return sorted({*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unusable(f"{index.name} is damaged; restore it") from None


def _opened(file: Path) -> safe_open:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise Unusable(f"{file.name} is damaged: {str(error).rpartition(': ')[2]}; restore it") from None
