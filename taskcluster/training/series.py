"""The checkpoints of a pretrained model, one after the other in one network.

in:  a Series, the network of its first checkpoint
out: the same network with the weights of another checkpoint; what differs between checkpoints, in one sentence; which
     of them are copies
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.tokenizer import load_tokenizer, render_frame
from taskcluster.models.architecture import accepted, sample
from taskcluster.models.pretrained import traits
from taskcluster.models.training_module import TrainingDiverged
from taskcluster.runs.checkpoints import refuse_other_weights
from taskcluster.runs.series import Series, is_pretrained
from taskcluster.validation import UserError

WITHOUT_EFFECT = ("version", "truncation", "padding", "decoder")  # parts of a tokenizer that change no token's id

OF_A_FILE = ("_name_or_path", "transformers_version", "architectures", "dtype")  # keys of a config

LONGEST, SEVERAL = 100, 3  # characters of two values that are shown, and keys


def refuse_different(steps: Series) -> None:
    """Raise UserError, before any is measured, for a checkpoint that cannot be read, and for one that differs from the
    one before it in architecture or tokenizer. Of weights in folders only names and shapes are read; of those on the
    hub, nothing yet.
    """
    before: tuple[str, Mapping[str, object]] | None = None
    for config in steps.values():
        name, found = named(config), _traits(config)
        other, known = before or (name, found)
        if differing := _differences(found, known):
            raise UserError(f"{name} differs from {other} in {differing}; leave it out")
        before = name, found


def refuse_unreadable(config: RunConfig) -> None:
    """Raise UserError for a pretrained model whose files cannot be read, before its tokenizer is loaded and its prompts
    are made."""
    if is_pretrained(config):
        _of_model(config)


def put_checkpoint(config: RunConfig, data: SequenceDataModule, network: PreTrainedModel) -> None:
    """Put the weights of a checkpoint, the model of `config`, into a network, which then computes what the checkpoint
    computes by itself, to the bit. Raises UserError where it would not."""
    loaded = config.model.build(PreTrainedModel, vocab_size=len(data.tokenizer), longest=data.longest)
    weights = loaded.state_dict()
    refuse_other_weights(named(config), weights, network)
    if {name for name, _ in loaded.named_parameters()} != {name for name, _ in network.named_parameters()}:
        raise UserError(f"{named(config)} ties other weights than the first checkpoint; leave it out")
    network.load_state_dict(weights)
    attention = loaded.config._attn_implementation  # which a config.json may choose
    if attention != network.config._attn_implementation:
        network.set_attn_implementation(attention)
    _refuse_other_computation(named(config), data.longest, loaded, network)


@torch.no_grad()
def _refuse_other_computation(name: str, longest: int, loaded: PreTrainedModel, network: PreTrainedModel) -> None:
    """Raise UserError where config.json differs from that of the network, in keys that should not matter, and the same
    weights give other logits. Nothing is computed where it does not differ."""
    here, there = ({k: v for k, v in m.config.to_dict().items() if k not in OF_A_FILE} for m in (loaded, network))
    if not (differing := _differences(here, there)):
        return
    loaded.to(network.device)  # type: ignore[arg-type]
    training = network.training
    logits = []
    for model in (loaded, network):
        logits.append(model.eval()(**accepted(model, sample(model, 2, longest))).logits)
    network.train(training)
    if not torch.equal(*logits):
        raise UserError(f"{name} computes other states than the first checkpoint, by {differing}; leave it out")


def _of_model(config: RunConfig) -> Mapping[str, object]:
    model = config.model.arguments
    if model.get("gguf_file") or not all(isinstance(model.get(key), str | None) for key in ("path", "revision")):
        return {}  # what is not text is refused where the model is built
    try:
        return traits(str(model["path"]), _text(model, "revision"), bool(model.get("trust_remote_code")))
    except ValueError as error:
        raise UserError(config.model.named(str(error))) from None


def _traits(config: RunConfig) -> Mapping[str, object]:
    """Of architecture, weights and tokenizer. Raises UserError."""
    data = config.data.arguments
    if not (name := _text(data, "tokenizer")):
        return _of_model(config)
    try:
        tokenizer = load_tokenizer(name, _text(data, "tokenizer_revision"), _text(data, "tokenizer_gguf_file"))
    except ValueError as error:
        raise UserError(config.data.named(str(error))) from None
    return {**_of_model(config), **_of_tokenizer(config, tokenizer)}


def _of_tokenizer(config: RunConfig, tokenizer: PreTrainedTokenizerFast) -> Mapping[str, object]:
    """What decides the ids of a text, and of a turn of a chat."""
    parts: dict[str, object] = json.loads(tokenizer.backend_tokenizer.to_str())
    if config.data.arguments.get("chat"):
        try:
            parts |= {"chat frame": render_frame(tokenizer), "special tokens": tokenizer.special_tokens_map}
        except ValueError as error:
            raise UserError(f"{named(config)}: data.{error}") from None
    return {f"the tokenizer's {key}": part for key, part in parts.items() if key not in WITHOUT_EFFECT}


def _text(arguments: Mapping[str, object], key: str) -> str | None:
    return None if (value := arguments.get(key)) is None else str(value)


def _differences(found: Mapping[str, object], known: Mapping[str, object]) -> str:
    """The first keys whose values differ, with both values where they are short; "" for none."""
    differing = [key for key in {**found, **known} if found.get(key) != known.get(key)]
    words = []
    for key in differing[:SEVERAL]:
        here, there = str(found.get(key, "missing")), str(known.get(key, "missing"))
        words.append(f"{key} ({here}, not {there})" if len(here + there) < LONGEST else key)
    more = len(differing) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "")


@contextmanager
def loss_as_loaded(config: RunConfig) -> Iterator[None]:
    """A context that measures a model as it is. Raises UserError for a loss that is not finite before any update, of
    which no learning rate is the cause."""
    try:
        yield
    except TrainingDiverged as error:
        if error.step and config.trainer.max_steps:
            raise
        instead = "choose another checkpoint" if is_pretrained(config) else "change the model's settings"
        if config.model.arguments.get("dtype") == "float16":
            instead = "choose model.dtype=float32, as float16 has no numbers above 65504"
        raise UserError(f"{named(config)}: {error}, although no update has been made; {instead}") from None


def named(config: RunConfig) -> str:
    """The checkpoint that is the model of a configuration."""
    if not is_pretrained(config):
        return "model"
    given = config.model.arguments
    revision = given.get("revision")
    return f"model.path={given['path']!r}{f' at revision {revision!r}' if revision else ''}"
